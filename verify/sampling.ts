/** Recorded samples against the public sampler, from the recorded noise: Euler's method, adaptive solvers, consistency. */
import type { Engine } from '../engine/engine.ts';
import { DataError } from '../engine/errors.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import { memorySource } from '../model/weights/source.ts';
import type { SampleRequest } from '../sampling/request.ts';
import { Sampler } from '../sampling/sampler.ts';
import { ADAPTIVE, type AdaptiveName } from '../sampling/solvers/tableaux.ts';
import { type Case, type CaseGroup, casesOf, type Measured, shared, TOLERANCES, worst, worstSample } from './case.ts';
import { formulaParams } from './formula-params.ts';
import type { GoldenModel } from './golden.ts';
import { requireJson, samplingSchema } from './schemas.ts';

/** Which parameters sample: with the length wiring or without, plain or strong. */
interface Which {
  readonly wired: boolean;
  readonly strong: boolean;
}

/** What all recordings of a file share. */
interface Recorded {
  readonly f: Tensors;
  readonly golden: GoldenModel;
  /** What the JSON says of adaptive solves, by name. */
  readonly adaptive: Readonly<Record<string, { readonly step_sequence_set_by_float32_rounding?: boolean }>>;
  open(which: Which, batch: number): Sampler;
}

/** What a recording's folder says of its step level, noise and labels. */
const FOLDERS: Record<string, { level: (steps: number) => number; inputs: string }> = {
  euler: { level: (steps) => Math.trunc(Math.log2(steps)), inputs: '' },
  plots: { level: (steps) => Math.fround(Math.log2(steps)), inputs: 'plots/' },
  livereflow: { level: () => 0, inputs: '' },
  consistency: { level: () => 0, inputs: '' },
};
const FIXED_NAME = /^(euler|plots|livereflow|consistency)\/(?:conventional|l(\d+))_t(\d+)_cfg([\d.]+)$/;
const ADAPTIVE_NAME = new RegExp(
  `^((strong/)?(${Object.keys(ADAPTIVE).join('|')})/l(\\d+)_tol([\\d.e-]+)(?:_cfg([\\d.]+))?)/x_1$`,
);
/** Inputs, and what is compared with an adaptive solve's result. */
const INPUT = /(^|\/)(x_0|labels|labels_uncond|accepted_times)$|^consistency\/eps_\d+$/;

export async function samplingCases(engine: Engine, golden: GoldenModel): Promise<CaseGroup> {
  const skipped: string[] = [];
  const opened = new Map<string, { sampler: Sampler; model: ResidentModel }>();
  const file = 'sampling.safetensors';
  const cases = golden.files.includes(file)
    ? await casesOf('sampling', file, async () => {
        const f = (await golden.tensors('sampling'))!;
        const { formula_seeds, adaptive } = await requireJson(golden, 'sampling', samplingSchema);
        const open = ({ wired, strong }: Which, batch: number) => {
          const key = `${wired}/${strong}`;
          const known = opened.get(key);
          if (known) return known.sampler;
          const config = wired ? golden.config : { ...golden.config, lengths: null };
          // The reference sampled with the averaged parameters, and with strong ones of the seed of the forward cases.
          const params = formulaParams(config, strong ? golden.seed : formula_seeds.params_ema, { strong });
          const model = new ResidentModel(engine, config, memorySource(params));
          const sampler = new Sampler(engine, model, { batch });
          opened.set(key, { sampler, model });
          return sampler;
        };
        const recorded: Recorded = { f, golden, adaptive, open };
        const others: string[] = [];
        const found = f.names().flatMap((tensor): Case[] => {
          const cases = fixedCases(recorded, tensor) ?? adaptiveCases(recorded, tensor) ?? firstCases(recorded, tensor);
          if (!cases && !INPUT.test(tensor)) others.push(tensor);
          return cases ?? [];
        });
        if (others.length > 0) skipped.push(`sampling: ${others.join(', ')} (no sample of a solver that odelt knows)`);
        return found;
      })
    : [];
  const dispose = () => {
    for (const { sampler, model } of opened.values()) {
      sampler.dispose();
      model.dispose();
    }
  };
  return { cases, skipped, dispose };
}

/** Labels of a request; null is "no class". */
const labelsOf = ({ f, golden }: Recorded, inputs: string): (number | null)[] =>
  Array.from(f.integers(`${inputs}labels`), (y) => (y === golden.config.classes ? null : y));

/** Samples as asked, with the recorded noise. l0 is the reference's name for the conventional network. */
function sample(recorded: Recorded, blocks: number, strong: boolean, inputs: string, how: Partial<SampleRequest>) {
  const { f, golden, open } = recorded;
  const labels = labelsOf(recorded, inputs);
  return open({ wired: blocks > 0, strong }, labels.length).sample({
    ...{ labels, blocks: blocks || golden.config.depth, noise: f.floats(`${inputs}x_0`), keepBlocks: true },
    ...how,
  });
}

function fixedCases(recorded: Recorded, tensor: string): Case[] | undefined {
  const match = FIXED_NAME.exec(tensor);
  if (!match) return undefined;
  const { f } = recorded;
  const { level, inputs } = FOLDERS[match[1]!]!;
  const [blocks, steps, guidance] = [Number(match[2] ?? 0), Number(match[3]), Number(match[4])];
  const renoised = match[1] === 'consistency';
  const run = async () => {
    if (steps < 1) throw new DataError(`${tensor}: ${steps} steps`);
    const { values, shape } = await sample(recorded, blocks, false, inputs, {
      ...{ steps, guidance, level: level(steps) },
      ...(renoised ? { solver: 'consistency', renoise: noises(f, steps - 1) } : {}),
    });
    return worstSample(values, f.floats(tensor), shape[0]);
  };
  return [{ kind: 'sampling', name: tensor, tolerance: TOLERANCES.sampling, run }];
}

/** The velocity from which adaptive solvers start, with all blocks: what one step of length 1 adds. */
function firstCases(recorded: Recorded, tensor: string): Case[] | undefined {
  if (tensor !== 'adaptive_v0_at_t0') return undefined;
  const { f, golden } = recorded;
  const run = async () => {
    const { values, shape } = await sample(recorded, golden.config.depth, false, '', { steps: 1, level: 0 });
    const from = f.floats('x_0');
    return worstSample(
      values.map((x, i) => x - from[i]!),
      f.floats(tensor),
      shape[0],
    );
  };
  return [{ kind: 'sampling', name: tensor, tolerance: TOLERANCES.sampling, run }];
}

const noises = (f: Tensors, count: number): Float32Array[] =>
  Array.from({ length: count }, (_, i) => f.floats(`consistency/eps_${i}`));

/** One case for the state at the end, and one for the times, unless rounding decides how many there are. */
function adaptiveCases(recorded: Recorded, tensor: string): Case[] | undefined {
  const match = ADAPTIVE_NAME.exec(tensor);
  if (!match) return undefined;
  const { f, adaptive } = recorded;
  const [name, strong, solver, blocks] = [
    match[1]!,
    match[2] !== undefined,
    match[3] as AdaptiveName,
    Number(match[4]),
  ];
  const tolerance = Number(match[5]);
  const decided = adaptive[name]?.step_sequence_set_by_float32_rounding === false;
  const solve = shared(() =>
    sample(recorded, blocks, strong, '', { solver, tolerance, level: 0, guidance: Number(match[6] ?? 1) }),
  );
  const { times, rounding, ...states } = TOLERANCES.adaptive;
  const end = async () => {
    const { values, shape } = await solve();
    return worstSample(values, f.floats(tensor), shape[0]);
  };
  const reached = async (): Promise<Measured> => {
    const want = f.floats(`${name}/accepted_times`);
    const { accepted } = (await solve()).solves[0]!;
    if (accepted.length !== want.length)
      return { error: Number.NaN, detail: `${accepted.length} accepted steps; recorded: ${want.length}` };
    return worst(accepted.map((t, i) => [`step ${i}`, Math.abs(t - want[i]!)]));
  };
  const of = (part: string, limit: number, run: () => Promise<Measured>): Case => ({
    ...{ kind: 'sampling', name: `${name}/${part}`, tolerance: limit, run },
  });
  return [
    of('x_1', decided ? states[strong ? 'strong' : 'plain'] : rounding, end),
    ...(decided && f.has(`${name}/accepted_times`) ? [of('accepted_times', times, reached)] : []),
  ];
}
