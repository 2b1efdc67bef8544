/** Training targets (time and length consistency) and whole losses against the recorded ones, through the real training step. */
import type { Engine } from '../engine/engine.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { batchShares } from '../training/config.ts';
import {
  type Case,
  type CaseGroup,
  casesOf,
  type Measured,
  scalarError,
  shared,
  TOLERANCES,
  worstSample,
} from './case.ts';
import { formulaParams } from './formula-params.ts';
import type { GoldenModel } from './golden.ts';
import {
  isConsistency,
  loggedLosses,
  loggedNames,
  recordedStep,
  rms,
  rowErrors,
  type StepOutputs,
  stepOutputs,
  trainingOf,
  withTrainStep,
} from './recorded-step.ts';
import { requireJson, type TrainFlags, targetsSchema } from './schemas.ts';

export async function targetCases(engine: Engine, golden: GoldenModel): Promise<CaseGroup> {
  const skipped: string[] = [];
  const cases: Case[] = [];
  for (const type of ['shortcut', 'length'] as const) {
    const file = `targets_${type}.safetensors`;
    if (!golden.files.includes(file)) continue;
    const find = async (): Promise<Case[]> => {
      const f = (await golden.tensors(`targets_${type}`))!;
      const { types, formula_seeds } = await requireJson(golden, 'targets', targetsSchema);
      const found: Case[] = [];
      for (const [variant, { flags, ...rest }] of Object.entries(types[type] ?? {})) {
        if (!f.has(`${variant}/x_t`)) continue;
        const info = 'info_of_update' in rest ? (rest.info_of_update as Record<string, number>) : undefined;
        const ofVariant = async () => {
          const replayed = variantCases(engine, golden, { f, variant, flags, seeds: formula_seeds, info });
          if (typeof replayed !== 'string') return replayed;
          skipped.push(`targets_${type}/${variant} (${replayed})`);
          return [];
        };
        found.push(...(await casesOf('targets', `${type}/${variant}`, ofVariant)));
      }
      return found;
    };
    cases.push(...(await casesOf('targets', file, find)));
  }
  return { cases, skipped, dispose: () => {} };
}

interface Variant {
  readonly f: Tensors;
  readonly variant: string;
  readonly flags: TrainFlags;
  readonly seeds: { params: number; params_ema: number };
  /** Logged values of the whole update; undefined where only targets were recorded. */
  readonly info: Record<string, number> | undefined;
}

/** Cases of one set of flags; a string says why it is not replayed. */
function variantCases(
  engine: Engine,
  golden: GoldenModel,
  { f, variant, flags, seeds, info }: Variant,
): Case[] | string {
  const batch = f.shape('labels')[0]!;
  // Recordings of targets alone took the labels as they are, with and without guidance.
  const keep = info
    ? {}
    : { lengthEvery: 0, guidance: { weight: flags.cfg_scale, distill: flags.bootstrap_cfg === 1 } };
  const training = trainingOf(golden.config, flags, batch, keep);
  if (typeof training === 'string') return training;
  const { config, train } = training;
  const at = (tensor: string) => `${variant}/${tensor}`;

  const replay = shared(async () => {
    const request = recordedStep(config, train, f, at, { images: f.floats('images'), labels: f.integers('labels') });
    const sets = { params: formulaParams(config, seeds.params), ema: formulaParams(config, seeds.params_ema) };
    return withTrainStep(engine, config, train, sets, async (step) =>
      stepOutputs(step, request, await step.run({ ...request, index: 0, lr: 0 })),
    );
  });
  const make = (part: string, tolerance: number, measure: (got: StepOutputs) => Measured): Case => ({
    kind: 'targets',
    name: `${info ? 'length' : 'shortcut'}/${variant}/${part}`,
    tolerance,
    run: async () => measure(await replay()),
  });
  const { points, velocities, losses, consistency } = TOLERANCES.targets;
  const tensor = (name: string, tolerance: number, of: (got: StepOutputs) => Float32Array): Case[] =>
    f.has(at(name)) ? [make(name, tolerance, (got) => worstSample(of(got), f.floats(at(name)), batch))] : [];
  const scalar = (name: string, tolerance: number, of: (got: StepOutputs) => number): Case[] => {
    const want = info?.[name];
    return want === undefined ? [] : [make(name, tolerance, (got) => ({ error: scalarError(of(got), want) }))];
  };
  const logged = loggedNames(config, train).flatMap((name) =>
    scalar(name, isConsistency(name) ? consistency : losses, (got) => loggedLosses(config, train, got)[name]),
  );
  const { timeRows } = batchShares(train, config);
  return [
    make('rows', TOLERANCES.rows, (got) => rowErrors(f, at, got)),
    ...tensor('x_t', points, (got) => got.x_t),
    ...tensor('v_t', velocities, (got) => got.v_t),
    ...tensor('v_prime', velocities, (got) => got.v_prime),
    ...tensor('mse_v', losses, (got) => got.perSample),
    ...logged,
    ...scalar('v_magnitude_prime', velocities, (got) => rms(got.v_prime)),
    ...scalar('v_magnitude_bootstrap', velocities, (got) =>
      rms(got.v_t.subarray(0, (got.v_t.length / batch) * timeRows)),
    ),
  ];
}
