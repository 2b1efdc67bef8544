/** The recorded training run: every logged loss, and what the parameters, their average and Adam's moments have become. */
import type { Engine } from '../engine/engine.ts';
import { DataError } from '../engine/errors.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { type ParamSet, paramsByName } from '../model/params.ts';
import { learningRate } from '../training/schedule.ts';
import { STATE_PARTS } from '../training/state.ts';
import {
  type Case,
  type CaseGroup,
  casesOf,
  type Measured,
  scalarError,
  shared,
  TOLERANCES,
  worst,
  worstSample,
} from './case.ts';
import { formulaParams } from './formula-params.ts';
import { type GoldenModel, isKeyBias, sampleOf } from './golden.ts';
import {
  isConsistency,
  LOSS_FLOOR,
  loggedLosses,
  loggedNames,
  recordedStep,
  rowErrors,
  stepOutputs,
  trainingOf,
  withTrainStep,
} from './recorded-step.ts';
import { requireJson, trajectorySchema } from './schemas.ts';

const STEM = 'train_trajectory';

export async function trajectoryCases(engine: Engine, golden: GoldenModel): Promise<CaseGroup> {
  const skipped: string[] = [];
  const file = `${STEM}.safetensors`;
  const cases = golden.files.includes(file)
    ? await casesOf('trajectory', file, async () => {
        const found = await runCases(engine, golden);
        if (typeof found !== 'string') return found;
        skipped.push(`${file} (${found})`);
        return [];
      })
    : [];
  return { cases, skipped, dispose: () => {} };
}

const TENSORS = ['x_t', 'v_t', 'v_prime'] as const;
/** Names of the state's parts in a recording. */
const RECORDED = { params: 'params', ema: 'params_ema', m: 'adam_mu', v: 'adam_nu' } as const;
type Part = (typeof STATE_PARTS)[number];

/** Errors of every step by what was compared, and the state after the last. */
interface Run {
  readonly errors: ReadonlyMap<string, readonly (readonly [string, number])[]>;
  readonly final: Readonly<Record<Part, ParamSet>>;
  readonly initial: ParamSet;
}

async function runCases(engine: Engine, golden: GoldenModel): Promise<Case[] | string> {
  const f = (await golden.tensors(STEM))!;
  const { flags, steps } = await requireJson(golden, STEM, trajectorySchema);
  const { model } = flags;
  if (model.train_type !== 'shortcut') return `objective ${model.train_type}`;
  if (model.dropout !== 0) return `dropout ${model.dropout}: its masks are not recorded`;
  if (model.beta1 !== 0.9 || model.beta2 !== 0.999) return `Adam with ${model.beta1} and ${model.beta2}`;
  const training = trainingOf(golden.config, model, flags.batch_size, {
    steps: flags.max_steps,
    lr: model.lr,
    warmup: model.warmup,
    weightDecay: model.weight_decay,
    emaDecay: model.target_update_rate,
  });
  if (typeof training === 'string') return training;
  const { config, train } = training;
  if (steps.length === 0) throw new DataError(`${golden.name}/${STEM}.json: there are no steps`);

  const replay = shared(async (): Promise<Run> => {
    const initial = formulaParams(config, golden.seed);
    return withTrainStep(engine, config, train, { params: initial, ema: initial }, async (step, state) => {
      const errors = new Map<string, [string, number][]>();
      const note = (name: string, i: number, error: number) =>
        errors.set(name, [...(errors.get(name) ?? []), [`step ${i}`, error]]);
      for (const [i, want] of steps.entries()) {
        const at = (tensor: string) => `step${String(i).padStart(2, '0')}/${tensor}`;
        const raw = { images: f.floats(at('images')), labels: f.integers(at('labels')) };
        const request = recordedStep(config, train, f, at, raw, i);
        const lr = learningRate(i, train);
        const result = await step.run({ ...request, lr });
        const got = await stepOutputs(step, request, result);
        const logged = loggedLosses(config, train, got);
        const floor = LOSS_FLOOR * (want.loss ?? 0);
        for (const name of loggedNames(config, train)) {
          if (want[name] !== undefined) note(name, i, scalarError(logged[name], want[name], floor));
        }
        if (want.lr_applied !== undefined) note('lr', i, scalarError(lr, want.lr_applied));
        note('rows', i, rowErrors(f, at, got).error);
        const bySample = (values: Float32Array, name: string) =>
          note(name, i, worstSample(values, f.floats(at(name)), train.batch).error);
        bySample(got.perSample, 'mse_v');
        for (const name of TENSORS) if (f.has(at(name))) bySample(got[name], name);
      }
      const final = {
        params: await state.params.read(),
        ema: await state.ema.read(),
        m: await state.m.read(),
        v: await state.v.read(),
      };
      return { errors, final, initial };
    });
  });

  const make = (name: string, tolerance: number, measure: (run: Run) => Measured): Case => ({
    kind: 'trajectory',
    name,
    tolerance,
    run: async () => measure(await replay()),
  });
  const recorded = (name: string) => steps.some((step) => step[name] !== undefined);
  const stored = (name: string) => f.names().some((tensor) => tensor.endsWith(`/${name}`) && tensor.startsWith('step'));
  const names = [
    ...loggedNames(config, train).filter(recorded),
    ...(recorded('lr_applied') ? ['lr'] : []),
    ...['rows', 'mse_v'],
    ...TENSORS.filter(stored),
  ];
  return [
    ...names.map((name) => make(name, toleranceOf(name), (run) => worst(run.errors.get(name) ?? []))),
    ...STATE_PARTS.filter((part) => finalLeaves(f, part).length > 0).map((part) =>
      make(`final/${RECORDED[part]}`, TOLERANCES.trajectory[part], (run) => finalError(f, part, run)),
    ),
  ];
}

function toleranceOf(name: string): number {
  const { points, targets, predictions, losses, consistency, gradNorm } = TOLERANCES.trajectory;
  if (name === 'rows') return TOLERANCES.rows;
  if (name === 'lr') return TOLERANCES.learningRate;
  if (name === 'mse_v' || isConsistency(name)) return consistency;
  const known: Record<string, number> = { x_t: points, v_t: targets, v_prime: predictions, grad_norm: gradNorm };
  return known[name] ?? losses;
}

/** [tensor, leaf] of a recorded part: whole leaves, or samples of them. */
function finalLeaves(f: Tensors, part: Part): [string, string][] {
  const pattern = new RegExp(`^final/${RECORDED[part]}(?:_sample)?/(.+)$`);
  return f.names().flatMap((tensor): [string, string][] => {
    const leaf = pattern.exec(tensor)?.[1];
    return leaf && !isKeyBias(leaf) ? [[tensor, leaf]] : [];
  });
}

/** The error of everything recorded of a part, relative to how far the reference's run has moved it. Key biases are left out. */
function finalError(f: Tensors, part: Part, run: Run): Measured {
  const final = paramsByName(run.final[part]);
  const initial = paramsByName(run.initial);
  let difference = 0;
  let moved = 0;
  const leaves = finalLeaves(f, part);
  for (const [tensor, leaf] of leaves) {
    const want = f.floats(tensor);
    const after = final.get(leaf);
    if (!after) throw new DataError(`${tensor}: this model has no such parameter`);
    const got = sampleOf(after, want.length);
    const before =
      part === 'm' || part === 'v' ? new Float32Array(want.length) : sampleOf(initial.get(leaf)!, want.length);
    for (let i = 0; i < want.length; i++) {
      difference += (got[i]! - want[i]!) ** 2;
      moved += (want[i]! - before[i]!) ** 2;
    }
  }
  return { error: Math.sqrt(difference / moved), detail: `${leaves.length} tensors together` };
}
