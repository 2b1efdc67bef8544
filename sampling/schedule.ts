/**
 * A request as a schedule: which evaluations of the network its solver makes, at which times, with how many blocks, guided or not. Pure:
 * what is loaded, tabulated, compiled, allocated and told follows from it, and the sampler only runs it.
 */
import { finestSteps, fullLength, type ModelConfig } from '../model/config.ts';
import type { LateGroups } from '../model/dit.ts';
import { type Blocks, blocksAt, blocksFrom, mostBlocks, type Refresh } from './blocks.ts';
import { isAdaptive, isGuided, type SampleRequest, type Solver } from './request.ts';
import { ADAPTIVE, FIXED, type Tableau } from './solvers/tableaux.ts';

/** Blocks after the first `after`: they run, and what they add is kept, or what was kept is added instead. */
export interface Late {
  readonly after: number;
  readonly how: LateGroups['how'];
}

/** One evaluation of the network for a batch. */
export interface Evaluation {
  readonly t: number;
  /** Number of blocks L. */
  readonly blocks: number;
  /** Whether the velocity is asked for with the labels and without. */
  readonly guided: boolean;
  /** Where late blocks are evaluated in some steps only. */
  readonly late?: Late;
}

/** One step in time, and the evaluations that it needs, by stage. */
export interface Step {
  readonly from: number;
  readonly to: number;
  readonly h: number;
  readonly evaluations: readonly Evaluation[];
}

/** What is compiled for itself. */
export type Variant = Pick<Evaluation, 'blocks' | 'guided' | 'late'>;

/** Says what is compiled for itself: the same for the same. */
export const variantKey = ({ blocks, guided, late }: Variant): string =>
  `${blocks}/${guided}${late ? `/${late.how} after ${late.after}` : ''}`;

const variantOf = ({ blocks, guided, late }: Variant): Variant => ({ blocks, guided, ...(late ? { late } : {}) });

export interface Schedule {
  readonly solver: Solver;
  readonly tableau: Tableau & { readonly error?: readonly number[] };
  /** Velocities that are kept at a time; 0 where each is used at once. */
  readonly kept: number;
  /** The step index that the network is told. */
  readonly level: number;
  /** In order; none of an adaptive solver, which chooses as it goes. */
  readonly steps: readonly Step[];
  /** The evaluations of any one step. */
  stepAt(from: number, to: number, h?: number): Step;
  /** All that may occur. */
  readonly variants: readonly Variant[];
  /** Numbers of blocks as they were asked for, and the largest. */
  readonly blocks: Blocks;
  readonly mostBlocks: number;
  /** Evaluations of a batch; null of an adaptive solver. */
  readonly evaluations: number | null;
}

/** Solvers that use each velocity at once. */
const tableauOf = (solver: Solver): Tableau =>
  isAdaptive(solver) ? ADAPTIVE[solver] : FIXED[solver === 'consistency' ? 'euler' : solver];

/** Euler's steps, of which every so many run all blocks; the first, and those that have other rows than the step before, among them. */
const refreshed = (steps: readonly Step[], { blocks, every }: Refresh): Step[] =>
  steps.map((step, i) => ({
    ...step,
    evaluations: step.evaluations.map(({ t, blocks: after, guided }): Evaluation => {
      // Guided steps have rows for "no class", too.
      const fits = steps[i - 1]?.evaluations[0]?.guided === guided;
      return { t, blocks, guided, late: { after, how: fits && i % every > 0 ? 'reused' : 'kept' } };
    }),
  }));

/** What a request, which has been checked, makes the sampler do for each batch. */
export function scheduleOf(request: SampleRequest, config: ModelConfig): Schedule {
  const { solver = 'euler', steps = 0, guidance = 1, guidanceInterval, level, refresh, stopAfter = steps } = request;
  const tableau = tableauOf(solver);
  const adaptive = isAdaptive(solver);
  const blocks = request.blocks ?? fullLength(config);
  const [low, high] = guidanceInterval ?? [0, 1];
  const guidedAt = (t: number) => isGuided(guidance) && low <= t && t <= high;
  const stepAt = (from: number, to: number, h = to - from): Step => ({
    from,
    to,
    h,
    evaluations: tableau.nodes.map((node) => {
      // Exactly the time at which the next step starts.
      const t = node === 1 ? to : from + node * h;
      return { t, blocks: blocksAt(blocks, t), guided: guidedAt(t) };
    }),
  });
  const plain = Array.from({ length: adaptive ? 0 : steps }, (_, i) => stepAt(i / steps, (i + 1) / steps, 1 / steps));
  const planned = (refresh ? refreshed(plain, refresh) : plain).slice(0, stopAfter);
  // Where the steps of an adaptive solver will fall is not known: anywhere.
  const occurring: readonly Variant[] = adaptive
    ? blocksFrom(blocks).flatMap(({ from, blocks: length }, i, all) => {
        const to = all[i + 1]?.from ?? 1;
        const guided = isGuided(guidance) && low < to && high >= from;
        const plain = !isGuided(guidance) || low > from || high < to;
        return [...(guided ? [true] : []), ...(plain ? [false] : [])].map((is) => ({ blocks: length, guided: is }));
      })
    : planned.flatMap(({ evaluations }) => evaluations);
  return {
    solver,
    tableau,
    kept: tableau.nodes.length === 1 ? 0 : tableau.nodes.length,
    level: config.ignoreDt ? 0 : (level ?? levelOf(solver, steps, config)),
    steps: planned,
    stepAt,
    variants: [...new Map(occurring.map((e) => [variantKey(e), variantOf(e)])).values()],
    blocks,
    mostBlocks: refresh?.blocks ?? mostBlocks(blocks),
    evaluations: adaptive ? null : planned.length * tableau.nodes.length,
  };
}

/** What the network is told of time and depth: a row of the tables for each, and for each label. */
export type Condition = Pick<Evaluation, 't' | 'blocks'>;

/** The different conditions among evaluations, in order. */
export function conditionsOf(evaluations: readonly Evaluation[]): Condition[] {
  return [...new Map(evaluations.map(({ t, blocks }) => [conditionKey({ t, blocks }), { t, blocks }])).values()];
}

export const conditionKey = ({ t, blocks }: Condition): string => `${t}/${blocks}`;

/**
 * What a network that knows step sizes is told: the size of the solver's steps or, by an adaptive one, the finest, which is where it has
 * learned the field itself. The consistency sampler always goes the whole way.
 */
const levelOf = (solver: Solver, steps: number, config: ModelConfig): number =>
  Math.log2(isAdaptive(solver) ? finestSteps(config) : solver === 'consistency' ? 1 : steps);
