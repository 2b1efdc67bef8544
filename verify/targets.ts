/** Training targets (time and length consistency) and whole losses against the recorded ones, through the real training step. */
import type { Engine } from '../engine/engine.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { batchShares } from '../training/config.ts';
import {
  type Case,
  type CaseGroup,
  casesOf,
  type Measured,
  relativeError,
  scalarError,
  shared,
  TOLERANCES,
} from './case.ts';
import { formulaParams } from './formula-params.ts';
import type { GoldenModel } from './golden.ts';
import {
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
  const others = golden.files.filter((f) => /^targets_(?!shortcut|length).*\.safetensors$/.test(f));
  if (others.length > 0) skipped.push(`${others.join(', ')} (other objectives)`);
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
  const make = (
    part: string,
    measure: (got: StepOutputs) => Measured,
    tolerance: number = TOLERANCES.targets,
  ): Case => ({
    kind: 'targets',
    name: `${info ? 'length' : 'shortcut'}/${variant}/${part}`,
    tolerance,
    run: async () => measure(await replay()),
  });
  const tensor = (name: 'x_t' | 'v_t' | 'v_prime' | 'mse_v', of: (got: StepOutputs) => Float32Array): Case[] =>
    f.has(at(name)) ? [make(name, (got) => ({ error: relativeError(of(got), f.floats(at(name))) }))] : [];
  const scalar = (name: string, of: (got: StepOutputs) => number, tolerance?: number): Case[] => {
    const want = info?.[name];
    return want === undefined ? [] : [make(name, (got) => ({ error: scalarError(of(got), want) }), tolerance)];
  };
  const logged = loggedNames(config, train).flatMap((name) =>
    scalar(
      name,
      (got) => loggedLosses(config, train, got)[name],
      name === 'grad_norm' ? TOLERANCES.gradients : TOLERANCES.targets,
    ),
  );
  const { timeRows } = batchShares(train, config);
  return [
    make('rows', (got) => rowErrors(f, at, got)),
    ...tensor('x_t', (got) => got.x_t),
    ...tensor('v_t', (got) => got.v_t),
    ...tensor('v_prime', (got) => got.v_prime),
    ...tensor('mse_v', (got) => got.perSample),
    ...logged,
    ...scalar('v_magnitude_prime', (got) => rms(got.v_prime)),
    ...scalar('v_magnitude_bootstrap', (got) => rms(got.v_t.subarray(0, (got.v_t.length / batch) * timeRows))),
  ];
}
