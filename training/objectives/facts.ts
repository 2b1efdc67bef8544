/** The objectives by name, as plain facts: what a configuration, a command and a run must know of each without its program. */

export interface ObjectiveFacts {
  /** Rows whose target a network makes: the first `batch / timeEvery` ('share'), all, or none. The others learn x1 - x0. */
  readonly consistency: 'share' | 'all' | 'none';
  /** Whether distilled guidance teaches each of those rows twice, without and with guidance. */
  readonly paired: boolean;
  /** Whether targets can be guided: where `guidance.distill` asks for it, always where there is guidance, or never. */
  readonly guided: 'asked' | 'always' | 'never';
  /** Whether the network is told the step level. Otherwise the model's `ignoreDt` must be true. */
  readonly stepLevel: boolean;
  /** Whether levels follow from the share of the run's updates that are done, so that their number cannot change later. */
  readonly scheduled: boolean;
  /** Whether targets come from another, trained model: one that stays, or one that the student replaces level by level. */
  readonly teacher: 'fixed' | 'replaced' | null;
  /** Whether those rows' targets, or a teacher that is replaced, come from the moving average: always, where `targetsFromEma` says so, or never. */
  readonly average: 'always' | 'chosen' | 'never';
}

const flow = {
  consistency: 'none',
  paired: false,
  guided: 'never',
  stepLevel: false,
  scheduled: false,
  teacher: null,
  average: 'never',
} as const;

/** Every objective; the comment at the top of its file says where it comes from. */
export const OBJECTIVES = {
  shortcut: {
    consistency: 'share',
    paired: true,
    guided: 'asked',
    stepLevel: true,
    scheduled: false,
    teacher: null,
    average: 'chosen',
  },
  naive: flow,
  fm: flow,
  icfm: flow,
  rfm: flow,
  progressive: {
    consistency: 'all',
    paired: false,
    guided: 'asked',
    stepLevel: false,
    scheduled: true,
    teacher: 'replaced',
    average: 'chosen',
  },
  consistency: {
    consistency: 'all',
    paired: false,
    guided: 'never',
    stepLevel: false,
    scheduled: true,
    teacher: null,
    average: 'always',
  },
  'consistency-distillation': {
    consistency: 'all',
    paired: false,
    guided: 'never',
    stepLevel: false,
    scheduled: false,
    teacher: 'fixed',
    average: 'always',
  },
  livereflow: {
    consistency: 'share',
    paired: false,
    guided: 'always',
    stepLevel: true,
    scheduled: false,
    teacher: null,
    average: 'never',
  },
  splitmeanflow: {
    consistency: 'share',
    paired: true,
    guided: 'asked',
    stepLevel: true,
    scheduled: false,
    teacher: null,
    average: 'chosen',
  },
} as const satisfies Record<string, ObjectiveFacts>;

/** Name of an objective. */
export type ObjectiveName = keyof typeof OBJECTIVES;

/** The facts about an objective. */
export const factsOf = (name: ObjectiveName): ObjectiveFacts => OBJECTIVES[name];
