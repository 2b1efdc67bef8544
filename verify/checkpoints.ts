/** Checkpoints that the reference wrote: every array of its pickles, read without Python, against what Python read. No GPU. */
import * as v from 'valibot';
import { DataError } from '../engine/errors.ts';
import { bytesSource } from '../formats/byte-source.ts';
import { parseSafetensors, type Tensors } from '../formats/safetensors.ts';
import { fromGolden, type ModelConfig } from '../model/config.ts';
import { type ParamSet, paramEntries } from '../model/params.ts';
import { flaxParams } from '../model/weights/imports/flax.ts';
import type { ForeignWeights, ModelHints } from '../model/weights/imports/foreign.ts';
import { importWeights } from '../model/weights/imports/import.ts';
import { openCheckpoint } from '../model/weights/imports/open.ts';
import { type Case, type CaseGroup, casesOf, type Measured, relativeError, shared, TOLERANCES, worst } from './case.ts';
import { type GoldenDir, sampleOf } from './golden.ts';

const FOLDER = 'checkpoints/';

const schema = v.looseObject({
  files: v.record(v.string(), v.looseObject({ config: v.string(), step: v.optional(v.number()) })),
  tiny_config: v.looseObject({}),
});

/** A set of weights in a pickle, its name in the expected tensors, and in the recorded training. */
const SETS = [
  { part: 'params', expected: 'params', final: 'params' },
  { part: 'ema', expected: 'params_ema', final: 'params_ema' },
  { part: 'm', expected: 'opt_state/0/0/mu', final: 'adam_mu' },
  { part: 'v', expected: 'opt_state/0/0/nu', final: 'adam_nu' },
] as const;

type Part = (typeof SETS)[number]['part'];

interface Imported {
  /** As the file's shapes and the user's hints say. */
  readonly config: ModelConfig;
  readonly sets: Readonly<Partial<Record<Part, ParamSet>>>;
  readonly step: number | undefined;
}

/** What is read of the directory, noting which of its files are used. */
interface Reader {
  bytes(path: string): Promise<Uint8Array>;
  json(path: string): Promise<unknown>;
  tensors(path: string): Promise<Tensors | undefined>;
}

/** Reads files of a directory, noting in `used` which; each once. */
export function readerOf(dir: GoldenDir, used: Set<string>): Reader {
  const bytes = (path: string) => {
    used.add(path);
    return dir.bytes(path);
  };
  return {
    bytes,
    async json(path) {
      try {
        return JSON.parse(new TextDecoder().decode(await bytes(path)));
      } catch (cause) {
        throw cause instanceof DataError ? cause : new DataError(`${path}: is no JSON`, { cause });
      }
    },
    tensors: async (path) => (dir.files.has(path) ? parseSafetensors(await bytes(path), path) : undefined),
  };
}

/** Cases of the folder checkpoints/, one group per pickle; none where it is absent. */
export async function checkpointCases(dir: GoldenDir, used: Set<string>): Promise<CaseGroup[]> {
  if (!dir.files.has(`${FOLDER}checkpoints.json`)) return [];
  const reader = readerOf(dir, used);
  const groups: Promise<Case[]>[] = [];
  const described = await casesOf('checkpoint', 'checkpoints.json', async () => {
    const parsed = v.safeParse(schema, await reader.json(`${FOLDER}checkpoints.json`));
    if (!parsed.success) throw new DataError(`${FOLDER}checkpoints.json: ${parsed.issues[0].message}`);
    const { files, tiny_config } = parsed.output;
    for (const [file, { config, step }] of Object.entries(files)) {
      if (!dir.files.has(FOLDER + file)) continue;
      used.add(FOLDER + file);
      const golden = config === 'a' ? reader.json('a/config.json') : Promise.resolve<unknown>(tiny_config);
      const training = config === 'a' ? 'a/train_trajectory.safetensors' : '';
      const expected = `${FOLDER}checkpoint_${config === 'a' ? 'odelt' : 'tiny'}_expected.safetensors`;
      groups.push(
        casesOf('checkpoint', file, async () =>
          casesOfPickle(
            file,
            await golden,
            reader,
            await reader.tensors(expected),
            await reader.tensors(training),
            step,
          ),
        ),
      );
    }
    return [];
  });
  const found = [...described, ...(await Promise.all(groups)).flat()];
  return [{ cases: found, skipped: [], dispose: () => {} }];
}

function casesOfPickle(
  file: string,
  golden: unknown,
  reader: Reader,
  expected: Tensors | undefined,
  training: Tensors | undefined,
  step: number | undefined,
): Case[] {
  const config = fromGolden(golden);
  const load = shared(async () => imported(await reader.bytes(FOLDER + file), file, config));
  const check = (name: string, tolerance: number, run: (found: Imported) => Measured): Case => ({
    ...{ kind: 'checkpoint', name: `${file}/${name}`, tolerance },
    run: async () => run(await load()),
  });
  const kept = expected?.names().includes('step') ? expected.integers('step')[0] : step;
  return [
    check('model', 0, (found) =>
      JSON.stringify(found.config) === JSON.stringify(config)
        ? { error: 0 }
        : { error: Number.NaN, detail: `${JSON.stringify(found.config)}, not ${JSON.stringify(config)}` },
    ),
    check('step', 0, (found) => ({
      error: found.step === kept ? 0 : Number.NaN,
      detail: `${found.step}, not ${kept}`,
    })),
    check('values', 0, ({ sets }) => {
      const errors = SETS.flatMap(({ part, expected: name, final }) => {
        const set = sets[part];
        return set ? valuesOf(set, name, expected, training, final) : [];
      });
      return worst(errors);
    }),
    check('sums', TOLERANCES.sums, ({ sets }) => {
      const errors = SETS.flatMap(({ part, expected: name }) => (sets[part] ? sumsOf(sets[part], name, expected) : []));
      return worst(errors);
    }),
  ];
}

async function imported(bytes: Uint8Array, file: string, config: ModelConfig): Promise<Imported> {
  const { heads, imageSize, lengths } = config;
  const hints: ModelHints = { heads, imageSize, ...(lengths ? { lengths } : {}) };
  const checkpoint = await openCheckpoint(bytesSource(bytes), file);
  const { config: found, params } = await importWeights(checkpoint, 'raw', hints);
  const read = async (weights: ForeignWeights | undefined) => (weights ? flaxParams(weights, found) : undefined);
  const [ema, m, w] = [
    await read(checkpoint.ema),
    await read(checkpoint.moments?.m),
    await read(checkpoint.moments?.v),
  ];
  return { config: found, sets: { params, ema, m, v: w }, step: checkpoint.step };
}

type Errors = (readonly [string, number])[];

/** Every recorded value of a set, whole or sampled, and of the training's end. */
function valuesOf(
  set: ParamSet,
  name: string,
  expected: Tensors | undefined,
  training: Tensors | undefined,
  final: string,
): Errors {
  const errors: Errors = [];
  for (const { spec, values } of paramEntries(set)) {
    for (const [file, tensor] of [
      [expected, `${name}/${spec.name}`],
      [expected, `${name}_sample/${spec.name}`],
      [training, `final/${final}/${spec.name}`],
    ] as const) {
      if (!file?.has(tensor)) continue;
      const recorded = file.floats(tensor);
      const ours = recorded.length === values.length ? values : sampleOf(values, recorded.length);
      errors.push([tensor, relativeError(ours, recorded)]);
    }
  }
  return errors;
}

/** Recorded sums of a set's leaves: of the values by that of their magnitudes, of squares, and the largest magnitude. */
function sumsOf(set: ParamSet, name: string, expected: Tensors | undefined): Errors {
  const errors: Errors = [];
  for (const { spec, values } of paramEntries(set)) {
    const tensor = `${name}_stats/${spec.name}`;
    if (!expected?.has(tensor)) continue;
    const [sum, squares, largest] = expected.numbers(tensor) as unknown as [number, number, number];
    let [ours, magnitudes, ourSquares, ourLargest] = [0, 0, 0, 0];
    for (const x of values) {
      ours += x;
      magnitudes += Math.abs(x);
      ourSquares += x * x;
      ourLargest = Math.max(ourLargest, Math.abs(x));
    }
    const error = Math.max(
      magnitudes === 0 ? Math.abs(sum) : Math.abs(ours - sum) / magnitudes,
      squares === ourSquares ? 0 : Math.abs(ourSquares - squares) / squares,
      Math.abs(ourLargest - largest),
    );
    errors.push([tensor, error]);
  }
  return errors;
}
