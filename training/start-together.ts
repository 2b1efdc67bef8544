/** How the processes of a run begin alike: what the first of them goes on from and wants, as the others must know it. */
import { type Communicator, fromFirst } from '../cluster/communicator.ts';
import type { ModelConfig } from '../model/config.ts';
import { paramLayout, zeroParams } from '../model/params.ts';
import type { TrainSets } from './state.ts';

export interface Start {
  /** The state to go on from, and the updates it has had. */
  readonly from: { readonly sets: TrainSets; readonly step: number } | undefined;
  /** Whether the first needs the average between updates. */
  readonly wholeAverage: boolean;
}

/** Without the values, which the trainer brings. */
interface Outline {
  readonly state: { readonly step: number; readonly parts: readonly string[] } | null;
  readonly wholeAverage: boolean;
}

/** Tells the others what the first begins with; they call `startOfFirst`. */
export async function tellStart(communicator: Communicator, { from, wholeAverage }: Start): Promise<void> {
  const state = from ? { step: from.step, parts: Object.keys(from.sets) } : null;
  await fromFirst(communicator, async (): Promise<Outline> => ({ state, wholeAverage }));
}

/** What the first begins with, with room for the values of its state. */
export async function startOfFirst(communicator: Communicator, model: ModelConfig): Promise<Start> {
  const none = async (): Promise<Outline> => ({ state: null, wholeAverage: false }); // the first alone makes it
  const { state, wholeAverage } = await fromFirst(communicator, none);
  if (!state) return { from: undefined, wholeAverage };
  const layout = paramLayout(model);
  const sets = Object.fromEntries(state.parts.map((part) => [part, zeroParams(layout)]));
  return { from: { step: state.step, sets: sets as unknown as TrainSets }, wholeAverage };
}
