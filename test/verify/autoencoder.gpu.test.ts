/** Autoencoders of latents as verify replays them: the bundle passes, and networks that are a little wrong fail. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { parseSafetensors } from '../../formats/safetensors.ts';
import { createAutoencoder } from '../../model/autoencoder/autoencoder.ts';
import { importAutoencoder } from '../../model/autoencoder/import.ts';
import type { Layer } from '../../model/autoencoder/layers.ts';
import type { Half } from '../../model/autoencoder/network.ts';
import { formulaWeights, type Leaves } from '../../verify/autoencoder.ts';
import { TOLERANCES, worstSample } from '../../verify/case.ts';
import { openGolden } from '../../verify/golden.node.ts';
import { channelsLast } from '../../verify/pytorch.ts';
import { caseId, verify } from '../../verify/replay.ts';
import { testEngine } from '../support/engine.ts';
import { FIXTURES } from '../support/golden.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

it('all recorded encodes and decodes of the bundle pass', async () => {
  const results = [];
  for await (const result of verify(engine, await openGolden(FIXTURES), { only: 'autoencoder/' })) results.push(result);
  expect(results.filter(({ ok }) => !ok)).toEqual([]);
  expect(results.map(caseId)).toEqual([
    'vae/autoencoder/gaussian',
    'vae/kl_2level/autoencoder/dec_dbg',
    'vae/kl_2level/autoencoder/enc_dbg',
    'vae/kl_2level/autoencoder/strong/dec_dbg',
    'vae/kl_2level/autoencoder/strong/enc_dbg',
    'vae/kl_3level/autoencoder/dec_5x7',
    'vae/kl_3level/autoencoder/enc_27x38',
    'vae/kl_3level/autoencoder/strong/dec_5x7',
    'vae/kl_3level/autoencoder/strong/enc_27x38',
    'vae/taef2/autoencoder/formula/dec_3x5',
    'vae/taef2/autoencoder/formula/enc_40x32',
    'vae/taesd/autoencoder/dec_5x3',
    'vae/tiny_small/autoencoder/pictures',
  ]);
}, 600_000);

/** Layers with one thing changed, of the strong recording of kl_2level. */
const WRONG: readonly (readonly [string, Half, (layer: Layer) => Layer | null])[] = [
  ['nothing wrong', 'encoder', (layer) => layer],
  [
    'the same padding on both sides where pictures are halved',
    'encoder',
    (layer) => {
      if (layer.kind !== 'convolution' || layer.padding === undefined) return layer;
      const { padding: _, ...same } = layer;
      return same;
    },
  ],
  ['no attention', 'decoder', (layer) => (layer.kind === 'attention' ? null : layer)],
  ['other groups in a norm', 'decoder', (layer) => (layer.kind === 'norm' ? { ...layer, groups: 4 } : layer)],
];

it.each(WRONG)(
  'a network with %s passes or fails as it should',
  async (what, half, change) => {
    const folder = join(FIXTURES, 'vae/kl_2level');
    const info = JSON.parse(await readFile(join(folder, 'info.json'), 'utf8')) as {
      parameter_layout: Leaves;
      formula_seed_strong: number;
      config: unknown;
    };
    const io = parseSafetensors(await readFile(join(folder, 'io.safetensors')), 'io');
    const weights = formulaWeights(info.parameter_layout, info.formula_seed_strong, 'formula', true);
    const { network, params } = await importAutoencoder([weights], info.config);
    const layers = network[half]!.flatMap((layer) => change(layer) ?? []);
    const made = await createAutoencoder(
      engine,
      { network: { ...network, [half]: layers }, params },
      { halves: [half] },
    );
    const batch = (name: string) => {
      const [n, c, h, w] = io.shape(name) as [number, number, number, number];
      return { values: channelsLast(io.floats(name), [n, c, h, w], c), shape: [n, h, w, c] as const };
    };
    const [from, to] =
      half === 'encoder' ? ['enc_dbg/x', 'strong/enc_dbg/moments'] : ['dec_dbg/z', 'strong/dec_dbg/image'];
    const { values } = await made.raw(half, batch(from));
    const { error } = worstSample(values, batch(to).values, 1);
    if (what === 'nothing wrong') expect(error).toBeLessThan(TOLERANCES.autoencoder / 4);
    else expect(error).toBeGreaterThan(10 * TOLERANCES.autoencoder);
    made.dispose();
  },
  600_000,
);
