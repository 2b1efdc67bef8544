/** `odelt verify` on the bundled recordings of the reference: every case passes, and damage is seen. */
import { cp, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, DataError } from '../../engine/errors.ts';
import { parseSafetensors, serializeSafetensors } from '../../formats/safetensors.ts';
import { fromGolden } from '../../model/config.ts';
import { type CaseResult, relativeError, tightened, worst } from '../../verify/case.ts';
import { openGolden } from '../../verify/golden.node.ts';
import { Network } from '../../verify/network.ts';
import { caseId, type VerifyOptions, verify } from '../../verify/replay.ts';
import { WAYS } from '../../verify/storage.ts';
import { testEngine } from '../support/engine.ts';
import { FIXTURES } from '../support/golden.ts';

let engine: Engine;
let folder: string;
beforeAll(async () => {
  engine = await testEngine();
  folder = await mkdtemp(join(tmpdir(), 'odelt-verify-'));
});
afterAll(async () => {
  engine.dispose();
  await rm(folder, { recursive: true });
});

async function results(directory: string, options: VerifyOptions = {}): Promise<Map<string, CaseResult>> {
  const found = new Map<string, CaseResult>();
  for await (const result of verify(engine, await openGolden(directory), options)) found.set(caseId(result), result);
  return found;
}

const failures = (found: ReadonlyMap<string, CaseResult>) => [...found].filter(([, c]) => !c.ok).map(([id]) => id);

describe('the bundled recordings', () => {
  let found: Map<string, CaseResult>;
  const skipped: string[] = [];
  const notes: string[] = [];
  beforeAll(async () => {
    found = await results(FIXTURES, {
      onSkipped: (what) => skipped.push(what),
      onNote: (text) => notes.push(text),
    });
  }, 1_800_000);

  it('all pass', () => {
    expect(failures(found)).toEqual([]);
    expect([...new Set([...found.values()].map((c) => c.kind))]).toEqual([
      'recording',
      'solver',
      'model',
      'forward',
      'gradients',
      'storage',
      'targets',
      'trajectory',
      'sampling',
      'checkpoint',
      'autoencoder',
      'random',
      'evaluation',
    ]);
  });

  it('say what storing less costs: something, and less than half of what is allowed', () => {
    const ways = new Map<string, number>();
    for (const { kind, name, error, tolerance } of found.values()) {
      if (kind !== 'storage') continue;
      expect(error / tolerance, name).toBeLessThan(0.5);
      const way = name.replace('strong/', '');
      ways.set(way, Math.max(error, ways.get(way) ?? 0));
    }
    expect([...ways.keys()]).toEqual(Object.keys(WAYS));
    for (const [way, error] of ways) expect(error, way).toBeGreaterThan(way.startsWith('int8') ? 1e-3 : 1e-4);
  });

  it('agree far better than verify demands', () => {
    const bounds: [RegExp, number][] = [
      [/^torch\/forward\//, 3e-6],
      [/\/autoencoder\//, 4e-6],
      [/\/forward\/strong\//, 5e-6],
      [/\/forward\//, 1e-6],
      [/\/gradients\/strong\//, 5e-5],
      [/\/gradients\//, 5e-6],
      [/\/targets\/consistency.*\/v_t$/, 3e-6],
      [/\/targets\/.*\/[xv]_/, 1e-6],
      [/\/targets\//, 1e-5],
      [/\/recording\//, 0],
      [/\/trajectory\/(loss|loss_flow|lr)$/, 1e-5],
      [/\/trajectory\/(loss_bootstrap|depth_consistency|grad_norm)$/, 1e-4],
      [/\/trajectory\/final\/params_ema$/, 1e-3],
      [/\/trajectory\//, 1e-4],
      [/\/sampling\/.*\/accepted_times$/, 1e-4],
      [/\/sampling\/strong\/.*\/x_1$/, 1e-3],
      [/\/sampling\//, 1e-6],
      [/\/solver\//, 3e-8],
      [/\/model\//, 1e-12],
      [/\/checkpoint\//, 1e-13],
      [/\/random\//, 0],
      [/\/evaluation\/.*set3_rank_deficient/, 1e-6],
      [/\/evaluation\//, 1e-13],
    ];
    const exact = [...found].filter(([, { kind }]) => kind !== 'storage');
    const loose = exact.filter(([id, { error }]) => !(error <= bounds.find(([pattern]) => pattern.test(id))![1]));
    expect(loose.map(([id, { error }]) => `${id} ${error}`)).toEqual([]);
  });

  it('leave GPUs room, ten times what CPUs take, but hardly more', (context) => {
    if (engine.adapterClass === 'gpu') return context.skip('the room is for GPUs, and this is one');
    const exact = [...found].filter(([, { kind, tolerance }]) => kind !== 'storage' && tolerance > 0);
    // A little less than ten, so that another version of a driver is no failure.
    // Autoencoders are long sums of large numbers: five times is what their 1e-5 leaves.
    const room = (kind: string) => (kind === 'autoencoder' ? 5 : 8);
    const tight = exact.filter(([, { kind, error, tolerance }]) => error > tolerance / room(kind));
    expect(tight.map(([id, { error }]) => `${id} ${error}`)).toEqual([]);
    // Most measure nothing near their own: the largest of those that share a tolerance counts.
    const largest = new Map<string, number>();
    for (const [, { kind, error, tolerance }] of exact) {
      const key = `${kind} ${tolerance}`;
      largest.set(key, Math.max(error / tolerance, largest.get(key) ?? 0));
    }
    expect([...largest].filter(([, share]) => share < 1 / 60)).toEqual([]);
  });

  it('cover every kind of recording', () => {
    for (const id of [
      './recording/solver_toy.json',
      'a/recording/forward.safetensors',
      'dit_b2/recording/config.json',
      'a/forward/conventional',
      'a/forward/ode_l4',
      'a/forward/ode_blocks',
      'a/forward/ode_blocks_dt_float',
      'a/forward/ode_blocks_ignore_dt',
      'a/forward/ode_scalar_t',
      'a/forward/inside_blocks/dt_embed',
      'a/forward/inside_blocks/dit_block_5',
      'a/forward/inside_blocks/log_variances',
      'a/forward/inside_conventional/dit_block_5',
      'a/forward/inside_conventional/final_layer',
      'b/forward/strong/ode_l12',
      'misaligned/forward/ode_l5',
      'a/gradients/blocks',
      'a/gradients/conventional',
      'a/gradients/strong/ode_blocks',
      'misaligned/gradients/blocks/zero_leaves',
      'a/targets/shortcut/cfg0_ema0_depth6/v_t',
      'a/targets/shortcut/cfg1_ema1_depth0/v_t',
      'a/targets/icfm/discrete/x_t',
      'a/targets/progressive/step50_cfg1_ema1_depth0/v_t',
      'a/targets/consistency/step90_depth6/v_t',
      'a/targets/consistency-distillation/default_depth0/v_t',
      'a/targets/livereflow/cfg1.5_depth6/x_t',
      'b/targets/length/imagenet/loss_bootstrap',
      'a/targets/length/celeba/depth_consistency',
      'a/trajectory/depth_consistency',
      'a/trajectory/final/adam_nu',
      'b/trajectory/final/params',
      'a/sampling/euler/l6_t3_cfg0',
      'b/sampling/euler/conventional_t4_cfg1.5',
      './solver/pulse/dopri5/tol0.0001',
      'a/sampling/plots/l6_t3_cfg1',
      'a/sampling/livereflow/l0_t4_cfg1',
      'a/sampling/consistency/l6_t4_cfg1',
      'a/sampling/consistency/l0_t4_cfg1.5',
      'a/sampling/adaptive_v0_at_t0',
      'a/sampling/dopri5/l6_tol0.0001_cfg0/accepted_times',
      'a/sampling/tsit5/l2_tol0.0001_cfg1/x_1',
      'b/sampling/strong/tsit5/l12_tol0.001/x_1',
      'checkpoints/checkpoint/checkpoint_jax_arrays.pkl/values',
      'torch/forward/dit_guided_4',
    ]) {
      expect(found.has(id), id).toBe(true);
    }
    expect(notes).toEqual([]);
  });

  it('that are not replayed are listed, each once, with the reason', () => {
    const text = skipped.join('\n');
    // The bundle leaves out what has another precision; noise and statistics in words are no results of their own.
    expect(skipped).toEqual(['dit_b2: 131,101,712 parameters (ask for large cases)']);
    // Every file is compared by a case or in the list, but for those of a model that is left out as a whole.
    const read =
      /\/(config|float_noise|train_trajectory_noise|forward_strong|grads|targets|train_trajectory|sampling|solver_toy|formula_check|prng|fid|checkpoints|dit|info)\.json$|\.(safetensors|pkl)$/;
    for (const id of found.keys()) {
      const [model, kind, ...parts] = id.split('/');
      if (kind !== 'recording' || model === 'dit_b2') continue;
      const file = parts.join('/');
      const path = model === '.' ? file : `${model}/${file}`;
      expect(text.includes(path), path).toBe(!read.test(`/${path}`));
    }
  });

  it('leave no GPU memory behind', () => {
    const { byKind } = engine.memory.report();
    expect({ ...byKind, staging: undefined }).toEqual({ staging: undefined });
  });
});

async function copyOf(model: string, name: string): Promise<string> {
  const directory = join(folder, name);
  await cp(join(FIXTURES, model), join(directory, model), { recursive: true });
  return directory;
}

test('a tensor that is off by one per cent fails, and only its case', async () => {
  const directory = await copyOf('misaligned', 'changed');
  const file = join(directory, 'misaligned/forward.safetensors');
  const bytes = await readFile(file);
  const { begin, end } = parseSafetensors(bytes).header.tensors.get('out/ode_l5')!;
  for (let at = begin; at < end; at += 4) bytes.writeFloatLE(bytes.readFloatLE(at) * 1.01, at);
  await writeFile(file, bytes);
  const found = await results(directory, { only: '/forward/' });
  expect(failures(found)).toEqual(['misaligned/forward/ode_l5']);
  expect(found.get('misaligned/forward/ode_l5')!.error).toBeCloseTo(0.01 / 1.01, 5);
});

test('files that cannot be read are failed cases; the others go on', async () => {
  const directory = await copyOf('misaligned', 'damaged');
  await mkdir(join(directory, 'b'));
  await writeFile(join(directory, 'b/config.json'), '{"image_size": 8');
  await cp(join(FIXTURES, 'b/sampling.safetensors'), join(directory, 'misaligned/sampling.safetensors'));
  await cp(
    join(FIXTURES, 'a/targets_shortcut.safetensors'),
    join(directory, 'misaligned/targets_shortcut.safetensors'),
  );
  await truncate(join(directory, 'misaligned/targets_shortcut.safetensors'), 200_000);
  const found = await results(directory);
  expect(failures(found)).toEqual([
    'b/model/config.json',
    'misaligned/targets/targets_shortcut.safetensors',
    'misaligned/sampling/sampling.safetensors',
  ]);
  expect(found.get('b/model/config.json')!.detail).toContain('config.json: is no JSON');
  expect(found.get('misaligned/targets/targets_shortcut.safetensors')!.detail).toContain(
    'targets_shortcut.safetensors',
  );
  expect(found.get('misaligned/sampling/sampling.safetensors')!.detail).toBe('misaligned/sampling.json is missing');
  expect(found.get('misaligned/forward/ode_l7')!.ok).toBe(true);
});

test('cases are found from the files: other sizes, seeds, heads, groups, batch', async () => {
  const directory = join(folder, 'other');
  await mkdir(join(directory, 'small'), { recursive: true });
  const sizes = { image_size: 9, channels: 2, patch_size: 3, hidden_size: 20, num_heads: 5, depth: 4, depth_min: 3 };
  const golden = { ...sizes, depth_group: 1, num_classes: 3, mlp_ratio: 2, seed: 77, lengths: [3, 4] };
  await writeFile(join(directory, 'small/config.json'), JSON.stringify(golden));
  const batch = 3;
  const x = Float32Array.from({ length: batch * 9 * 9 * 2 }, (_, i) => Math.sin(i));
  const rows = { x, t: [0, 0.5, 0.25], step: [7, 0, 2], labels: [0, 3, 1] };
  const network = new Network(engine, fromGolden(golden));
  network.load(77, false);
  const lengths = Int32Array.of(3, 4, 3);
  const out = {
    'out/ode_l3': await network.velocity({ ...rows, lengths: [3, 3, 3] }),
    'out/ode_blocks': await network.velocity({ ...rows, lengths }),
    'out/conventional': await network.velocity(rows),
  };
  network.dispose();
  // Each sample of a mixed batch is what it is alone.
  const [first] = [out['out/ode_l3'].subarray(0, x.length / batch)];
  expect(relativeError(out['out/ode_blocks'].subarray(0, first!.length), first!)).toBeLessThan(1e-6);
  expect(relativeError(out['out/ode_blocks'], out['out/ode_l3'])).toBeGreaterThan(1e-4);
  const floats = (name: string, values: Float32Array, shape = [values.length]) =>
    ({ name, shape, dtype: 'F32', values }) as const;
  const integers = (name: string, values: Int32Array) =>
    ({ name, shape: [values.length], dtype: 'I32', values }) as const;
  const bytes = serializeSafetensors([
    floats('x', x, [batch, 9, 9, 2]),
    floats('t', Float32Array.from(rows.t)),
    integers('dt_int', Int32Array.from(rows.step)),
    integers('y', Int32Array.from(rows.labels)),
    integers('blocks', lengths),
    ...Object.entries(out).map(([name, values]) => floats(name, values, [batch, 9, 9, 2])),
  ]);
  await writeFile(join(directory, 'small/forward.safetensors'), bytes);
  const found = await results(directory);
  expect([...found.keys()]).toEqual([
    'small/forward/ode_l3',
    'small/forward/ode_blocks',
    'small/forward/conventional',
    'small/storage/f16_weights', // activations in f16 want other sizes
    'small/storage/int8_weights',
  ]);
  expect(failures(found)).toEqual([]);
  // The seed makes the parameters: another one is another model.
  await writeFile(join(directory, 'small/config.json'), JSON.stringify({ ...golden, seed: 78 }));
  expect(failures(await results(directory))).toEqual([...found.keys()]);
});

test('a directory without cases, or none that was asked for, is an error that says what was looked for', async () => {
  const empty = join(folder, 'empty');
  await mkdir(empty);
  await expect(results(empty)).rejects.toThrow(DataError);
  await expect(results(empty)).rejects.toMatchObject({ hint: expect.stringContaining('config.json') });
  await expect(results(join(folder, 'missing'))).rejects.toThrow('cannot be read as a directory');
  const large = join(folder, 'large');
  await cp(join(FIXTURES, 'dit_b2'), join(large, 'dit_b2'), { recursive: true });
  await expect(results(large)).rejects.toThrow('there is nothing to verify');
  await expect(results(FIXTURES, { only: 'a/backward' })).rejects.toThrow(ConfigError);
});

test('an interrupted verification stops between cases', async () => {
  const controller = new AbortController();
  controller.abort();
  await expect(results(FIXTURES, { signal: controller.signal })).rejects.toThrow('interrupted after 0 of');
});

test('errors and tolerances', () => {
  expect(relativeError([3, 4], [3, 4])).toBe(0);
  expect(relativeError([0, 0], [0, 0])).toBe(0);
  expect(relativeError([3, 4.05], [3, 4])).toBeCloseTo(0.01, 12);
  expect(relativeError([1], [1, 2])).toBeNaN();
  expect(tightened(2e-5, undefined)).toBe(2e-5);
  expect(tightened(2e-5, 1e-7)).toBe(2e-6);
  expect(tightened(2e-5, 1e-9)).toBe(2e-6);
  expect(tightened(2e-5, 1)).toBe(2e-5);
  expect(
    worst([
      ['a', 1],
      ['b', Number.NaN],
      ['c', 2],
    ]),
  ).toEqual({ error: Number.NaN, detail: 'largest: b' });
  expect(worst([])).toMatchObject({ error: Number.NaN });
});
