/** Recordings that need neither a model nor a GPU: JAX's random numbers, Fréchet distances, single values of the parameter formula. */
import * as v from 'valibot';
import { DataError } from '../engine/errors.ts';
import { jaxBernoulli, jaxIntegers, jaxNormal, jaxPermutation, jaxUniform } from '../engine/jax-random.ts';
import { foldIn, prngKey, randomBits, splitKey } from '../engine/threefry.ts';
import { type FeatureStatistics, featureStatistics } from '../evaluation/feature-statistics.ts';
import { frechetDistance, REFERENCE_OFFSET } from '../evaluation/frechet.ts';
import { parseSafetensors } from '../formats/safetensors.ts';
import { type Case, casesOf, type Measured, relativeError, scalarError, TOLERANCES, worst } from './case.ts';
import { formulaFill } from './formula-params.ts';
import type { GoldenDir } from './golden.ts';

const numbers = v.array(v.union([v.number(), v.array(v.number())]));
const prngSchema = v.looseObject({
  seed: v.number(),
  partitionable_true: v.record(v.string(), numbers),
  partitionable_false: v.record(v.string(), numbers),
});
const distancesSchema = v.record(
  v.string(),
  v.union([
    v.looseObject({ float64_eigen_with_1e6_offset: v.number(), float64_eigen_without_offset: v.number() }),
    v.string(),
    v.number(),
  ]),
);
const formulaSchema = v.array(
  v.looseObject({ k: v.number(), seed: v.number(), i: v.number(), scale: v.number(), value: v.number() }),
);

/** Cases of the files at the top of a directory; notes in `used` which they are. */
export async function hostCases(golden: GoldenDir, used: Set<string>): Promise<Case[]> {
  const found: Case[] = [];
  const add = async (kind: Case['kind'], stem: string, find: (json: unknown) => Promise<Case[]> | Case[]) => {
    const file = `${stem}.json`;
    if (!golden.files.has(file)) return;
    used.add(file);
    found.push(...(await casesOf(kind, file, async () => find(await golden.json(stem)))));
  };
  await add('random', 'prng', (json) => randomCases(parsed(prngSchema, json, 'prng.json')));
  await add('model', 'formula_check', (json) => [formulaCase(parsed(formulaSchema, json, 'formula_check.json'))]);
  await add('evaluation', 'fid', async (json) => {
    const file = 'fid.safetensors';
    used.add(file);
    return distanceCases(parsed(distancesSchema, json, 'fid.json'), parseSafetensors(await golden.bytes(file), file));
  });
  return found;
}

function parsed<T extends v.GenericSchema>(schema: T, json: unknown, file: string): v.InferOutput<T> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new DataError(`${file}: ${v.getDotPath(issue) ?? 'the document'}: ${issue.message}`);
}

function randomCases(recorded: v.InferOutput<typeof prngSchema>): Case[] {
  const key = prngKey(recorded.seed);
  return [true, false].map((partitionable): Case => {
    const mode = { partitionable };
    const draw = (name: string, count: number): ArrayLike<number> | undefined => {
      const range = { count };
      if (name === 'key') return key;
      if (name === 'fold_in_0_1_2') return [0, 1, 2].flatMap((n) => foldIn(key, n));
      if (name === 'fold_in_fold_in_0_0') return foldIn(foldIn(key, 0), 0);
      if (name.startsWith('split_')) return splitKey(key, count / 2, mode).flat();
      if (name.startsWith('bits_u32')) return randomBits(key, range, mode);
      if (name.startsWith('uniform_minval-1')) return jaxUniform(key, range, { ...mode, min: -1, max: 1 });
      const drawn = name.startsWith('uniform') ? jaxUniform : name.startsWith('normal') ? jaxNormal : undefined;
      if (drawn) {
        const values = drawn(key, range, mode);
        return name.endsWith('_bits') ? new Uint32Array(values.buffer) : values;
      }
      const integers = /^randint_(\d+)_(\d+)_/.exec(name);
      if (integers) return jaxIntegers(key, range, { ...mode, min: Number(integers[1]), max: Number(integers[2]) });
      const coins = /^bernoulli_([\d.]+)_/.exec(name);
      if (coins) return jaxBernoulli(key, Number(coins[1]), range, mode);
      return name.startsWith('permutation_') ? jaxPermutation(key, count, mode) : undefined;
    };
    const run = async (): Promise<Measured> =>
      worst(
        Object.entries(recorded[`partitionable_${partitionable}`]).map(([name, values]) => {
          const expected = values.flat();
          return [name, relativeError(draw(name, expected.length) ?? [], expected)] as const;
        }),
      );
    return {
      kind: 'random',
      name: partitionable ? 'partitionable' : 'not_partitionable',
      tolerance: TOLERANCES.random,
      run,
    };
  });
}

function formulaCase(values: v.InferOutput<typeof formulaSchema>): Case {
  const run = async () =>
    worst(
      values.map(({ k, seed, i, scale, value }) => {
        const leaf = new Float32Array(i + 1);
        formulaFill(leaf, k, seed, scale);
        return [`k ${k}, i ${i}`, scalarError(leaf[i]!, value)] as const;
      }),
    );
  return { kind: 'model', name: 'formula_check', tolerance: TOLERANCES.parameters, run };
}

function distanceCases(
  recorded: v.InferOutput<typeof distancesSchema>,
  tensors: ReturnType<typeof parseSafetensors>,
): Case[] {
  const statistics = (set: string): FeatureStatistics => {
    const activations = `${set}/activations`;
    const of = featureStatistics(tensors.floats(activations), tensors.shape(activations)[1]!);
    // The recorded means are rounded to float32.
    return { ...of, mean: Float64Array.from(tensors.floats(`${set}/mu`)) };
  };
  return Object.entries(recorded).flatMap(([pair, entry]): Case[] => {
    if (typeof entry !== 'object') return [];
    const run = async () => {
      const [a, b] = pair.split(' vs ').map(statistics) as [FeatureStatistics, FeatureStatistics];
      // By the larger of distance and 1: sets may be the same.
      return worst([
        ['plain', scalarError(frechetDistance(a, b), entry.float64_eigen_without_offset, 1)],
        [
          'offset',
          scalarError(frechetDistance(a, b, { offset: REFERENCE_OFFSET }), entry.float64_eigen_with_1e6_offset, 1),
        ],
      ]);
    };
    return [{ kind: 'evaluation', name: pair.replaceAll(' ', '_'), tolerance: TOLERANCES.distances, run }];
  });
}
