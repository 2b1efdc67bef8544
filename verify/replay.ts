/** Finds every recorded case in golden data and replays it on an engine. Needs no Node: whoever calls it opens the data. */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, DataError, DeviceLostError, InterruptedError, OdeltError } from '../engine/errors.ts';
import { paramLayout } from '../model/params.ts';
import { autoencoderCases, autoencoderFolders } from './autoencoder.ts';
import { type Case, type CaseGroup, type CaseResult, casesOf, type Measured } from './case.ts';
import { checkpointCases } from './checkpoints.ts';
import { networkCases } from './forward.ts';
import type { GoldenDir, GoldenModel } from './golden.ts';
import { hostCases } from './host.ts';
import { recordingCases } from './manifest.ts';
import { notReplayed } from './not-replayed.ts';
import { parameterCases } from './parameters.ts';
import { pytorchCases } from './pytorch.ts';
import { samplingCases } from './sampling.ts';
import { toyCases } from './solver-toy.ts';
import { storageCases } from './storage.ts';
import { targetCases } from './targets.ts';
import { trajectoryCases } from './trajectory.ts';

export interface VerifyOptions {
  /** Also replays models of more than LARGE parameters. */
  readonly large?: boolean;
  /** Only cases whose "model/kind/name" contains this. */
  readonly only?: string;
  readonly signal?: AbortSignal;
  /** Told before each case. */
  readonly onCase?: (progress: { id: string; done: number; total: number }) => void;
  /** Told of recordings that are there but are not replayed, each once, with the reason. */
  readonly onSkipped?: (what: string) => void;
  /** Told what cannot be said of the recordings themselves: no manifest, files that it does not list. */
  readonly onNote?: (text: string) => void;
}

/** Parameters above which a model counts as large: half a gigabyte of weights takes minutes on a CPU. */
const LARGE = 20_000_000;

/** Solves of plain equations, beside the models. */
const TOY = 'solver_toy';

const LOOKED_FOR =
  'sub-folders (or the directory itself) with a config.json and forward, forward_strong, grads, targets_shortcut ' +
  '(or another objective), targets_length, train_trajectory or sampling .safetensors, and the folders checkpoints and torch';

/** "model/kind/name": what is printed, and what `only` is looked for in. */
export const caseId = ({ model, kind, name }: Pick<CaseResult, 'model' | 'kind' | 'name'>): string =>
  `${model}/${kind}/${name}`;

/**
 * Replays the cases of a directory one after another. A file that cannot be read gives one failed case; the others go on.
 * @throws DataError when no case is found; ConfigError when `only` matches none; InterruptedError; DeviceLostError.
 */
export async function* verify(
  engine: Engine,
  golden: GoldenDir,
  options: VerifyOptions = {},
): AsyncGenerator<CaseResult, void> {
  const { cases: recordings, notes } = await recordingCases(golden);
  const replayed = await findCases(engine, golden, options);
  if (replayed.every(({ groups }) => groups.every(({ cases }) => cases.length === 0))) {
    throw new DataError(`${golden.path}: there is nothing to verify`, { hint: `looked for ${LOOKED_FOR}` });
  }
  for (const note of notes) options.onNote?.(note);
  const plans: ModelPlan[] = [
    ...recordings.map(({ model, found }) => ({ model, groups: [{ cases: [found], skipped: [], dispose: () => {} }] })),
    ...replayed,
  ];
  const all = plans.flatMap(({ model, groups }) => groups.flatMap(({ cases }) => cases.map((c) => ({ model, ...c }))));
  const { only = '' } = options;
  const total = all.filter((c) => caseId(c).includes(only)).length;
  if (total === 0)
    throw new ConfigError(`none of the ${all.length} cases contains '${only}', as ${caseId(all[0]!)} would`);
  let done = 0;
  for (const { model, groups } of plans) {
    for (const group of groups) {
      try {
        for (const found of group.cases) {
          const { kind, name, tolerance } = found;
          const id = caseId({ model, kind, name });
          if (!id.includes(only)) continue;
          throwIfAborted(options.signal, `verification was interrupted after ${done} of ${total} cases`);
          options.onCase?.({ id, done: done++, total });
          const measured = await measure(found);
          yield { model, kind, name, tolerance, ...measured, ok: measured.error <= tolerance };
        }
      } finally {
        group.dispose();
      }
    }
  }
}

async function measure(found: Case): Promise<Measured> {
  try {
    return await found.run();
  } catch (error) {
    if (error instanceof DeviceLostError || error instanceof InterruptedError) throw error;
    const text = error instanceof OdeltError ? error.message : String(error);
    return { error: Number.NaN, detail: text };
  }
}

interface ModelPlan {
  readonly model: string;
  readonly groups: readonly CaseGroup[];
}

async function findCases(engine: Engine, dir: GoldenDir, options: VerifyOptions): Promise<ModelPlan[]> {
  const plans: ModelPlan[] = [];
  const used = new Set<string>();
  const toy = `${TOY}.json`;
  if (dir.files.has(toy)) {
    used.add(toy);
    const cases = await casesOf('solver', toy, async () => toyCases(await dir.json(TOY)));
    plans.push({ model: '.', groups: [{ cases, skipped: [], dispose: () => {} }] });
  }
  /** Folders of which nothing is replayed, as is said of them otherwise. */
  const settled = new Set<string>();
  const autoencoders = new Set(autoencoderFolders(dir));
  for (const folder of dir.folders) {
    // Copies of one under other names lie beside it.
    if (autoencoders.has(folder.path.replace(/_(oldnames|ldm_f16)\/$/, '/'))) continue;
    let golden: GoldenModel;
    try {
      golden = noting(await folder.open(), folder.path, used);
    } catch (error) {
      settled.add(folder.path);
      const damaged: Case = { kind: 'model', name: 'config.json', tolerance: 0, run: () => Promise.reject(error) };
      plans.push({
        model: folder.name,
        groups: [{ cases: [damaged], skipped: [], dispose: () => {} }],
      });
      continue;
    }
    const parameters = paramLayout(golden.config).count;
    if (parameters > LARGE && !options.large) {
      settled.add(folder.path);
      options.onSkipped?.(`${golden.name}: ${parameters.toLocaleString('en')} parameters (ask for large cases)`);
      continue;
    }
    const groups = [
      await parameterCases(golden),
      await networkCases(engine, golden),
      await storageCases(engine, golden),
      await targetCases(engine, golden),
      await trajectoryCases(engine, golden),
      await samplingCases(engine, golden),
    ];
    for (const { skipped } of groups) for (const what of skipped) options.onSkipped?.(`${golden.name}/${what}`);
    plans.push({ model: golden.name, groups });
  }
  plans.push({ model: 'checkpoints', groups: await checkpointCases(dir, used) });
  plans.push({ model: 'torch', groups: await pytorchCases(engine, dir, used) });
  const most = options.large ? Number.POSITIVE_INFINITY : LARGE;
  plans.push(...(await autoencoderCases(engine, dir, used, { most, onSkipped: options.onSkipped })));
  const host = await hostCases(dir, used);
  if (host.length > 0) plans.push({ model: '.', groups: [{ cases: host, skipped: [], dispose: () => {} }] });
  for (const what of notReplayed(dir, used, settled)) options.onSkipped?.(what);
  return plans;
}

/** The model, noting in `used` the path of each of its files that is asked for. */
function noting(golden: GoldenModel, folder: string, used: Set<string>): GoldenModel {
  used.add(`${folder}config.json`);
  const note = <T>(ending: string, read: (stem: string) => Promise<T>) => {
    return (stem: string) => {
      used.add(`${folder}${stem}.${ending}`);
      return read(stem);
    };
  };
  return { ...golden, tensors: note('safetensors', golden.tensors), json: note('json', golden.json) };
}
