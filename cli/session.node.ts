/** What commands share: the engine on the chosen adapter, and flags that are numbers. */
import { type AdapterReport, adapterChoice, type NodeDeviceOptions } from '../engine/adapters.node.ts';
import { createNodeEngine } from '../engine/engine.node.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import type { TuningChoice } from '../engine/tuning.ts';
import { type Bounds, within } from '../formats/options.ts';
import { log } from './output.node.ts';

export interface Session {
  readonly engine: Engine;
  readonly adapter: AdapterReport;
}

/** What `--adapter-index` says, in every command that has it. */
export const INDEX_HELP = 'one of several adapters of that kind, from 0 (default: ODELT_ADAPTER_INDEX, else the first)';

/** What `--level` says, in every command that has it. */
export const LEVEL_HELP =
  "step level that the network is told, 0 (one step) to 7 (128 steps, as a rule the finest), instead of the solver's own: log2 of --steps, the finest of dopri5 and tsit5, where the reference tells 0";

/** The number that `--adapter-index` gives. @throws ConfigError */
export const parseIndex = (text: string): number =>
  number('--adapter-index', { integer: true, min: 0, max: 9999 })(text);

/** What may follow an adapter's name, and what that asks of Dawn. */
const MODES: Readonly<Record<string, Partial<NodeDeviceOptions>>> = {
  'no-robustness': { disableRobustness: true },
  // NVIDIA's f16 under Vulkan, and what is experimental: matrix units.
  halves: { toggles: ['enable-dawn-features=vulkan_enable_f16_on_nvidia,allow_unsafe_apis'] },
};
/** The same in words, for `--adapter` of what measures. */
export const MODES_HELP =
  "auto, gpu, lavapipe or swiftshader; add /no-robustness to leave out Dawn's bounds checks, /halves for f16 arithmetic and matrix units where Dawn counts these as experimental";

/** What `--adapter` (or ODELT_ADAPTER) asks for. @throws ConfigError. */
export function adapterOptions(spec: string | undefined): NodeDeviceOptions {
  const [name, ...modes] = spec?.split('/') ?? [];
  const unknown = modes.find((mode) => !Object.hasOwn(MODES, mode));
  if (unknown !== undefined) {
    const hint = `write a name, and behind it any of ${Object.keys(MODES)
      .map((mode) => `/${mode}`)
      .join(', ')}`;
    throw new ConfigError(`adapter '${spec}' is not understood`, { hint });
  }
  return Object.assign({ adapter: adapterChoice(name), onError: () => {} }, ...modes.map((mode) => MODES[mode]));
}

/**
 * Acquires a device on `--adapter` (or ODELT_ADAPTER, or the best there is), the one that `--adapter-index` says, or the next one for each
 * process of a machine. @throws UnsupportedError, ConfigError.
 */
export async function openSession(
  adapter: string | undefined,
  { adapterIndex, localRank }: Pick<NodeDeviceOptions, 'adapterIndex' | 'localRank'> = {},
): Promise<Session> {
  const { engine, node } = await createNodeEngine({
    ...{ adapterIndex, localRank },
    ...adapterOptions(adapter),
  });
  return { engine, adapter: node.adapterReport };
}

/** Refuses memory beyond so many bytes, of which mirrors, which save time alone, take none. */
export function limitMemory(engine: Session['engine'], bytes: number): void {
  engine.memory.limit = bytes;
  engine.mirrors = false;
}

/** What `--tuning` says, in every command that has it. */
export const TUNING_HELP =
  "variants of kernels: auto (what `odelt tune` has found for this adapter), off, or a table's file (default off)";

/** Gives an engine the tuning that `--tuning` names; none without. @throws TuningError for a table that cannot be used. */
export async function tuneSession({ engine }: Pick<Session, 'engine'>, tuning: string | undefined): Promise<void> {
  if (tuning === undefined || tuning === 'off') return;
  if (tuning === '') throw new ConfigError('--tuning is empty', { hint: "give auto, off or a table's file" });
  // Loaded where it is asked for: every command comes by this file, and most want none of it.
  const [{ useTuning }, { fileStore, readTable }] = await Promise.all([
    import('../tuning/open.ts'),
    import('../tuning/store.node.ts'),
  ]);
  const options = { store: fileStore(), where: tuning, onNotice: log };
  await useTuning(engine, tuning === 'auto' ? 'auto' : await readTable(tuning), options);
  const count = engine.tuning?.choices?.length ?? 0;
  log(`tuning: ${count === 0 ? 'nothing better than the usual kernels is known' : `${count} choices`}`);
}

/** Gives an engine the tuning that a run began with. @throws TuningError where this adapter does not have all of it. */
export async function tuneAsBefore({ engine }: Session, choices: readonly TuningChoice[] | undefined): Promise<void> {
  if (!choices) return;
  const [{ checkChoices }, { tuningOf }, { families }] = await Promise.all([
    import('../tuning/choices.ts'),
    import('../kernels/candidates.ts'),
    import('../kernels/families.ts'),
  ]);
  checkChoices(engine, families, choices, 'the run');
  engine.tuning = tuningOf(choices);
  log(`tuning: ${choices.length} choices, as the run began`);
}

/** Parsers for commander's options, with errors that name the option. */
export const number =
  (name: string, { integer = false, ...bounds }: { integer?: boolean } & Bounds = {}) =>
  (text: string): number => {
    const value = Number(text);
    const fits = (integer ? Number.isInteger(value) : Number.isFinite(value)) && within(value, bounds);
    if (text.trim() !== '' && fits) return value;
    const { min, above, max, below } = bounds;
    const words = Object.entries({ 'at least': min, above, 'at most': max, below }).filter(([, x]) => x !== undefined);
    const range = words.map(([word, x]) => ` ${word} ${x}`).join(' and');
    throw new ConfigError(`${name} is '${text}'; it must be ${integer ? 'an integer' : 'a number'}${range}`);
  };

/** The same for several, separated by commas. */
export const numbers =
  (...of: Parameters<typeof number>) =>
  (text: string): number[] =>
    text.split(',').map((each) => number(...of)(each));
