/** Network outputs and gradients against the recorded ones: forward, forward_strong and grads of a golden model. */
import type { Engine } from '../engine/engine.ts';
import type { Tensors } from '../formats/safetensors.ts';
import {
  type Case,
  type CaseGroup,
  casesOf,
  type Measured,
  relativeError,
  scalarError,
  shared,
  TOLERANCES,
  tightened,
  worst,
  worstSample,
} from './case.ts';
import { type GoldenModel, isKeyBias, sampleOf } from './golden.ts';
import { insideCases } from './inside.ts';
import { type Gradients, Network, type Rows } from './network.ts';
import { gradsSchema, noiseSchema, readJson, zeroLeavesOf } from './schemas.ts';

/** Cases that only call the network; they share one copy of it. */
export async function networkCases(engine: Engine, golden: GoldenModel): Promise<CaseGroup> {
  const skipped: string[] = [];
  let network: Network | undefined;
  const load = (strong: boolean): Network => {
    network ??= new Network(engine, golden.config);
    network.load(golden.seed, strong);
    return network;
  };
  let noise: Noise;
  const cases = await casesOf('forward', 'float_noise.json', async () => {
    noise = await readJson(golden, 'float_noise', noiseSchema);
    return [];
  });
  for (const stem of ['forward', 'forward_strong', 'grads']) {
    const file = `${stem}.safetensors`;
    if (!golden.files.includes(file)) continue;
    const found = casesOf('forward', file, async () => {
      const tensors = (await golden.tensors(stem))!;
      return [
        ...outputCases(golden, stem, tensors, noise, load, skipped),
        ...(await gradientCases(golden, stem, tensors, noise, load)),
      ];
    });
    cases.push(...(await found));
  }
  return { cases, skipped, dispose: () => network?.dispose() };
}

type Noise = Awaited<ReturnType<typeof readJson<typeof noiseSchema>>>;

const isStrong = (stem: string) => stem.endsWith('_strong');
const prefix = (stem: string) => (isStrong(stem) ? 'strong/' : '');

/** The time that `ode_scalar_t` gives to all samples. */
const SCALAR_T = 0.3;

/** The inputs of a recorded output, from its name; undefined for a name that says nothing to us. */
function rowsOf(golden: GoldenModel, f: Tensors, name: string): Rows | undefined {
  const match = /^(?:(conventional)|ode_l(\d+)|(?:ode_)?(blocks)|ode_(scalar_t))(?:_(dt_float|ignore_dt))?$/.exec(name);
  if (!match) return undefined;
  const [, conventional, length, blocks, scalar, variant] = match;
  const t = f.floats('t');
  const fill = (value: number) => new Array<number>(t.length).fill(value);
  const lengths = blocks ? f.integers('blocks') : fill(length ? Number(length) : golden.config.depth);
  return {
    x: f.floats('x'),
    t: scalar ? fill(SCALAR_T) : t,
    step: variant === 'ignore_dt' ? fill(0) : variant ? f.floats('dt_float') : f.integers('dt_int'),
    labels: f.integers('y'),
    ...(conventional ? {} : { lengths }),
  };
}

interface RecordedOutput {
  readonly name: string;
  /** Its tensor in the file. */
  readonly tensor: string;
  readonly rows: Rows;
}

/** The velocities that a file records, with the inputs that they are of. */
export const recordedOutputs = (golden: GoldenModel, f: Tensors): RecordedOutput[] =>
  f.names().flatMap((tensor) => {
    const [folder, name] = tensor.split('/') as [string, string | undefined];
    const rows = folder === 'out' && name ? rowsOf(golden, f, name) : undefined;
    return rows ? [{ name: name!, tensor, rows }] : [];
  });

function outputCases(
  golden: GoldenModel,
  stem: string,
  f: Tensors,
  noise: Noise,
  load: (strong: boolean) => Network,
  skipped: string[],
): Case[] {
  const outputs = recordedOutputs(golden, f);
  const inside = insideCases(
    golden,
    f,
    () => load(isStrong(stem)),
    (call) => rowsOf(golden, f, call),
  );
  const known = new Set([...outputs.map(({ tensor }) => tensor), ...Object.keys(inside)]);
  const others = new Set<string>();
  for (const tensor of f.names().filter((name) => !known.has(name))) {
    const [folder, name] = tensor.split('/') as [string, string | undefined];
    if (folder === 'out') others.add(tensor);
    else if (/^(act_|out_)/.test(folder)) others.add(name ? `${folder}/*` : folder);
  }
  if (others.size > 0) {
    const inner = [...others].some((name) => name.startsWith('act_'));
    const why = inner ? 'inner values that odelt does not have' : 'outputs of another precision';
    skipped.push(`${stem}: ${[...others].join(', ')} (${why})`);
  }
  const ofOutputs = outputs.map(({ name, tensor, rows }): Case => {
    const recorded = noise?.[`${stem}:${tensor}`];
    const relative = recorded?.rms === undefined ? undefined : recorded.rms / (recorded.rms_of_output ?? 1);
    return {
      kind: 'forward',
      name: prefix(stem) + name,
      tolerance: tightened(isStrong(stem) ? TOLERANCES.strong : TOLERANCES.forward, relative),
      run: async () => worstSample(await load(isStrong(stem)).velocity(rows), f.floats(tensor), rows.t.length),
    };
  });
  return [...ofOutputs, ...Object.values(inside)];
}

/** Cases `<name>/grad...` of a file: gradients of mean((v - v_target)^2) for the file's inputs. */
async function gradientCases(
  golden: GoldenModel,
  stem: string,
  f: Tensors,
  noise: Noise,
  load: (strong: boolean) => Network,
): Promise<Case[]> {
  const recorded = stem === 'grads' ? await readJson(golden, 'grads', gradsSchema) : undefined;
  const names = new Set(f.names().flatMap((name) => /^(.+?)\/grad(?:_sample|_stats)?\//.exec(name)?.[1] ?? []));
  return [...names].flatMap((name): Case[] => {
    const rows = rowsOf(golden, f, name);
    if (!rows) return [];
    const replay = shared(() => load(isStrong(stem)).gradients(rows, f.floats('v_target')));
    const { loss, grad_norm, zero_grad_leaves } = recorded?.[name] ?? {};
    const zeros = zero_grad_leaves ?? zeroLeavesOf(golden.raw);
    const wantedLoss = loss ?? (f.has(`${name}/loss`) ? f.floats(`${name}/loss`)[0] : undefined);
    const limit = tightened(
      isStrong(stem) ? TOLERANCES.strongGradients : TOLERANCES.gradients,
      stem === 'grads' ? noise?.[`grads:${name}`]?.worst_relative_to_leaf_max : undefined,
    );
    const make = (part: string, tolerance: number, measure: (got: Gradients) => Measured): Case => ({
      kind: 'gradients',
      name: prefix(stem) + name + part,
      tolerance,
      run: async () => measure(await replay()),
    });
    return [
      make('', limit, (got) => tensorErrors(f, name, got.gradients)),
      make('/key_biases', TOLERANCES.keyBiases, (got) => keyBiases(got.gradients)),
      ...(zeros.length > 0 ? [make('/zero_leaves', 0, (got) => zeroLeaves(got.gradients, zeros))] : []),
      ...(wantedLoss === undefined
        ? []
        : [make('/loss', TOLERANCES.gradients, (got) => ({ error: scalarError(got.loss, wantedLoss) }))]),
      ...(grad_norm === undefined
        ? []
        : [
            make('/norm', TOLERANCES.gradients, (got) => ({
              error: scalarError(Math.sqrt(sumOf(got.gradients.values(), squares)), grad_norm),
            })),
          ]),
      ...(f.has(`${name}/v`)
        ? [make('/v', TOLERANCES.forward, (got) => worstSample(got.v, f.floats(`${name}/v`), rows.t.length))]
        : []),
    ];
  });
}

const squares = (values: Float32Array) => values.reduce((sum, x) => sum + x * x, 0);
const largest = (values: Float32Array) => values.reduce((max, x) => Math.max(max, Math.abs(x)), 0);

function sumOf<T>(items: Iterable<T>, f: (item: T) => number): number {
  let sum = 0;
  for (const item of items) sum += f(item);
  return sum;
}

/** The worst tensor: every recorded element, and the statistics over the elements that were not. */
function tensorErrors(f: Tensors, name: string, gradients: ReadonlyMap<string, Float32Array>): Measured {
  const errors: [string, number][] = [];
  for (const [leaf, got] of gradients) {
    if (isKeyBias(leaf)) continue;
    if (f.has(`${name}/grad/${leaf}`)) errors.push([leaf, relativeError(got, f.floats(`${name}/grad/${leaf}`))]);
    if (f.has(`${name}/grad_sample/${leaf}`)) {
      const want = f.floats(`${name}/grad_sample/${leaf}`);
      errors.push([leaf, relativeError(sampleOf(got, want.length), want, expectedNorm(f, name, leaf, got, want))]);
    }
    if (f.has(`${name}/grad_stats/${leaf}`)) {
      const stats = f.numbers(`${name}/grad_stats/${leaf}`);
      errors.push([`${leaf} (statistics)`, statisticsError(got, stats)]);
    }
  }
  const found = worst(errors);
  return { ...found, detail: `${found.detail}, of ${errors.length} comparisons` };
}

/** Norm that a sample as large as `want` has on average: samples are often one column of a kernel, and that may be near zero. */
function expectedNorm(f: Tensors, name: string, leaf: string, got: Float32Array, want: Float32Array): number {
  const stats = `${name}/grad_stats/${leaf}`;
  return f.has(stats) ? Math.sqrt((f.numbers(stats)[1]! * want.length) / got.length) : 0;
}

/** Errors of a leaf's sum, norm and largest magnitude against [sum, sum of squares, largest magnitude]. */
function statisticsError(values: Float32Array, [sum, squared, max]: ArrayLike<number> & Iterable<number>): number {
  const norm = Math.sqrt(squared!);
  const ours = Math.sqrt(squares(values));
  // A sum may cancel: its error is measured against the sum that values of one sign would have.
  const bySum = scalarError(
    values.reduce((s, x) => s + x, 0),
    sum!,
    Math.sqrt(values.length) * norm,
  );
  return Math.max(bySum, scalarError(ours, norm), scalarError(largest(values), max!));
}

function keyBiases(gradients: ReadonlyMap<string, Float32Array>): Measured {
  const all = Math.max(...[...gradients.values()].map(largest));
  return worst([...gradients].filter(([leaf]) => isKeyBias(leaf)).map(([leaf, g]) => [leaf, largest(g) / all]));
}

function zeroLeaves(gradients: ReadonlyMap<string, Float32Array>, leaves: readonly string[]): Measured {
  return worst(leaves.map((leaf) => [leaf, largest(gradients.get(leaf) ?? Float32Array.of(Number.NaN))]));
}
