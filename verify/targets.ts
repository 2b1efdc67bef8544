/** Training targets (time and length consistency) and whole losses against the recorded ones, through the real training step. */
import type { Engine } from '../engine/engine.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { batchShares, type TrainConfig } from '../training/config.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../training/objectives/facts.ts';
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
import { type RecordedVariant, requireJson, targetsSchema } from './schemas.ts';

/** Types of recordings: the objectives, and whole updates of shortcut. */
const TYPES = [...(Object.keys(OBJECTIVES) as ObjectiveName[]), 'length'] as const;

export async function targetCases(engine: Engine, golden: GoldenModel): Promise<CaseGroup> {
  const skipped: string[] = [];
  const cases: Case[] = [];
  for (const type of TYPES) {
    const stem = `targets_${type.replaceAll('-', '_')}`;
    const file = `${stem}.safetensors`;
    if (!golden.files.includes(file)) continue;
    const find = async (): Promise<Case[]> => {
      const f = (await golden.tensors(stem))!;
      const { types, formula_seeds } = await requireJson(golden, 'targets', targetsSchema);
      const found: Case[] = [];
      for (const [name, recorded] of Object.entries(types[type] ?? {})) {
        if (typeof recorded === 'string' || !f.has(`${name}/t`)) continue;
        const ofVariant = async () => {
          const replayed = variantCases(engine, golden, { f, type, variant: name, recorded, seeds: formula_seeds });
          if (typeof replayed !== 'string') return replayed;
          skipped.push(`${stem}/${name} (${replayed})`);
          return [];
        };
        found.push(...(await casesOf('targets', `${type}/${name}`, ofVariant)));
      }
      return found;
    };
    cases.push(...(await casesOf('targets', file, find)));
  }
  return { cases, skipped, dispose: () => {} };
}

interface Variant {
  readonly f: Tensors;
  readonly type: (typeof TYPES)[number];
  readonly variant: string;
  readonly recorded: RecordedVariant;
  readonly seeds: { params: number; params_ema: number; teacher_params?: number; teacher_params_ema?: number };
}

/** Objectives whose targets divide a difference by the time that remains, which enlarges rounding. */
const QUOTIENTS: readonly ObjectiveName[] = ['consistency', 'consistency-distillation'];

/** Cases of one set of flags; a string says why it is not replayed. */
function variantCases(
  engine: Engine,
  golden: GoldenModel,
  { f, type, variant, recorded, seeds }: Variant,
): Case[] | string {
  const { flags, info_of_update: info, train_state_step, ignore_dt, max_steps, sigma } = recorded;
  const objective = type === 'length' ? 'shortcut' : type;
  const batch = f.shape('labels')[0]!;
  // Recordings of targets alone took the labels as they are, with and without guidance.
  const keep: Partial<TrainConfig> = info
    ? {}
    : { lengthEvery: 0, guidance: { weight: flags.cfg_scale, distill: flags.bootstrap_cfg === 1 } };
  const training = trainingOf({ ...golden.config, ignoreDt: ignore_dt }, flags, batch, {
    objective,
    ...(max_steps === undefined ? {} : { steps: max_steps }),
    ...(sigma === undefined ? {} : { sigma }),
    ...keep,
  });
  if (typeof training === 'string') return training;
  const { config, train } = training;
  // Consistency distillation always asks the teacher's average, whatever `bootstrap_ema` says.
  const { teacher } = factsOf(objective);
  const ofTeacher = teacher === 'fixed' || train.targetsFromEma ? seeds.teacher_params_ema : seeds.teacher_params;
  if (teacher && ofTeacher === undefined) return "no seed of the teacher's parameters";
  const at = (tensor: string) => `${variant}/${tensor}`;

  const replay = shared(async () => {
    const raw = { images: f.floats('images'), labels: f.integers('labels') };
    const request = recordedStep(config, train, f, at, raw, train_state_step - 1);
    const sets = {
      params: formulaParams(config, seeds.params),
      ema: formulaParams(config, seeds.params_ema),
      ...(teacher ? { teacher: formulaParams(config, ofTeacher!) } : {}),
    };
    return withTrainStep(engine, config, train, sets, async (step) =>
      stepOutputs(step, request, await step.run({ ...request, lr: 0 })),
    );
  });
  const make = (part: string, tolerance: number, measure: (got: StepOutputs) => Measured): Case => ({
    kind: 'targets',
    name: `${type}/${variant}/${part}`,
    tolerance,
    run: async () => measure(await replay()),
  });
  const { points, velocities, quotients, losses, consistency } = TOLERANCES.targets;
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
    ...tensor('v_t', QUOTIENTS.includes(objective) ? quotients : velocities, (got) => got.v_t),
    ...tensor('v_prime', velocities, (got) => got.v_prime),
    ...tensor('mse_v', losses, (got) => got.perSample),
    ...logged,
    ...scalar('v_magnitude_prime', velocities, (got) => rms(got.v_prime)),
    ...scalar('v_magnitude_bootstrap', velocities, (got) =>
      rms(got.v_t.subarray(0, (got.v_t.length / batch) * timeRows)),
    ),
  ];
}
