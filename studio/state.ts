/** What is chosen to be drawn, and how it stands in the address. Pure: knows neither page nor worker. */
import { type ModelConfig, usualSteps } from '../model/config.ts';
import { usualGuidance } from '../sampling/classes.ts';
import type { Changes } from './address.ts';

/** The numbers of steps that can be chosen, as far as a model knows them. */
export const STEPS = [1, 2, 4, 8, 16, 32, 64, 128] as const;

/** What to draw. */
export interface State {
  readonly steps: number;
  /** null: all that the model has. */
  readonly blocks: number | null;
  /** null: one picture of each class. */
  readonly label: number | null;
  readonly guidance: number;
  readonly seed: number;
}

export const START: State = { steps: 4, blocks: null, label: null, guidance: 1, seed: 0 };

/** A whole number that a text says, where it is one that is accepted. */
export const whole = (text: string | null, accepts: (n: number) => boolean): number | undefined => {
  const n = Number(text);
  return text && Number.isInteger(n) && accepts(n) ? n : undefined;
};

/** What the address says; of what it does not say, or says wrongly, the start's. */
export function stateOf(given: URLSearchParams): State {
  const guidance = Number(given.get('guidance'));
  return {
    steps: whole(given.get('T'), (n) => STEPS.some((steps) => steps === n)) ?? START.steps,
    blocks: whole(given.get('L'), (n) => n > 0) ?? START.blocks,
    label: whole(given.get('class'), (n) => n >= 0) ?? START.label,
    guidance: given.get('guidance') && guidance >= 0 && guidance <= 20 ? guidance : START.guidance,
    seed: whole(given.get('seed'), (n) => n >= 0 && n < 2 ** 32) ?? START.seed,
  };
}

/** What the address says of a state: what differs from the start, and the number of steps. */
export function changesOf({ steps, blocks, label, guidance, seed }: State): Changes {
  const unless = (value: number | null, start: number | null) => (value === start ? null : `${value}`);
  return {
    T: `${steps}`,
    L: unless(blocks, START.blocks),
    class: unless(label, START.label),
    guidance: unless(guidance, START.guidance),
    seed: unless(seed, START.seed),
  };
}

/** The state that a model can draw: its own number of blocks nearest to what is chosen, no more steps than it knows, no class that it lacks, and no guidance without classes. */
export function fitted(
  state: State,
  lengths: readonly number[],
  config: Pick<ModelConfig, 'classes' | 'unconditional' | 'ignoreDt' | 'finest'>,
): State {
  const most = lengths.at(-1)!;
  const { steps, blocks, label, guidance } = state;
  const { classes, unconditional } = config;
  const near = (a: number, b: number) => (Math.abs(b - blocks!) < Math.abs(a - blocks!) ? b : a);
  return {
    ...state,
    blocks: blocks === null ? most : lengths.reduce(near),
    steps: usualSteps(config, [steps])[0]!,
    label: label !== null && !unconditional && label < classes ? label : null,
    guidance: usualGuidance(config, guidance),
  };
}

/** Numbers of steps on the way to `steps`, each a quarter of the next, so that pictures come early for at most a third more work. */
export function ladder(steps: number): number[] {
  return steps < 4 ? [steps] : [...ladder(steps / 4), steps];
}
