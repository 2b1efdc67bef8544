/** Autoencoders in bands of rows: the bits of the whole, the bytes that were promised, the fewest bands that fit. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createNodeEngine } from '../../engine/engine.node.ts';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, InterruptedError, LimitError } from '../../engine/errors.ts';
import { autoencoderPeak, chooseBands, createAutoencoder } from '../../model/autoencoder/autoencoder.ts';
import type { ImportedAutoencoder } from '../../model/autoencoder/import.ts';
import type { Half } from '../../model/autoencoder/network.ts';
import { importedKl } from '../support/autoencoder.ts';
import { testEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';
import { importedTaesd } from '../support/taesd.ts';
import { bits } from '../support/tiny.ts';

let engine: Engine;
let kl: ImportedAutoencoder;
let tiny: ImportedAutoencoder;

beforeAll(async () => {
  engine = await testEngine();
  [kl, tiny] = [await importedKl(), await importedTaesd()];
}, 600_000);
afterAll(() => engine.dispose());

const draw = (half: Half, height: number, width: number) => {
  const channels = half === 'decoder' ? 4 : 3;
  const normal = normals(7);
  const values = Float32Array.from({ length: height * width * channels }, () => normal());
  return { values, shape: [1, height, width, channels] as const };
};

describe.each(['kl', 'tiny'] as const)('%s in bands', (family) => {
  const imported = () => (family === 'kl' ? kl : tiny);

  it.each([
    ['decoder', 7, 5],
    ['encoder', 13, 6],
  ] as const)(
    '%s: the bits of the whole',
    async (half, height, width) => {
      const input = draw(half, height, width);
      const made = await createAutoencoder(engine, imported());
      const want = bits((await made.raw(half, input)).values);
      made.dispose();
      for (const bandRows of [9, 5, 1]) {
        const banded = await createAutoencoder(engine, imported(), { bandRows });
        expect(bits((await banded.raw(half, input)).values), `${bandRows} rows`).toBe(want);
        const { created } = engine.memory.report();
        await banded.raw(half, input);
        expect(engine.memory.report().created).toBe(created);
        banded.dispose();
      }
    },
    600_000,
  );
});

/** What an autoencoder takes of an engine that holds nothing. */
async function taken(imported: ImportedAutoencoder, [height, width]: readonly [number, number], options: object) {
  engine.releaseReadback();
  expect(engine.memory.report().live).toBe(0);
  engine.memory.resetPeak();
  const made = await createAutoencoder(engine, imported, { halves: ['decoder'], ...options });
  const decoded = await made.decode(draw('decoder', height, width));
  const { peak } = engine.memory.report();
  made.dispose();
  return { peak, decoded };
}

describe('a budget', () => {
  const size = [24, 16] as const;

  it('is kept to the byte, in the fewest bands', async () => {
    const peak = (bandRows: number) => autoencoderPeak(engine, tiny.network, 'decoder', size, { bandRows });
    const [all, two, four] = [await peak(48), await peak(24), await peak(12)];
    expect(all).toBeGreaterThan(two);
    expect(two).toBeGreaterThan(four);
    const choose = (maxBytes?: number) => chooseBands(engine, tiny.network, 'decoder', size, { maxBytes });
    expect(await choose()).toEqual({ rows: 48, bands: 1, peak: all });
    expect(await choose(all)).toEqual({ rows: 48, bands: 1, peak: all });
    expect(await choose(all - 1)).toEqual({ rows: 24, bands: 2, peak: two });
    expect(await choose(two - 1)).toEqual({ rows: 12, bands: 4, peak: four });
    const whole = await taken(tiny, size, {});
    const banded = await taken(tiny, size, { maxBytes: four });
    expect([whole.peak, banded.peak]).toEqual([all, four]);
    expect(bits(banded.decoded.values)).toBe(bits(whole.decoded.values));
    const options = { bandRows: 10 };
    const attended = await autoencoderPeak(engine, kl.network, 'decoder', size, options);
    expect((await taken(kl, size, options)).peak).toBe(attended);
  }, 600_000);

  it('below the smallest band names the smallest that would do', async () => {
    const error = await chooseBands(engine, tiny.network, 'decoder', size, { maxBytes: 1000 }).catch((e) => e);
    expect(error).toBeInstanceOf(LimitError);
    const { asked } = error as LimitError;
    const made = await createAutoencoder(engine, tiny, { halves: ['decoder'], maxBytes: asked - 1 });
    const refused = await made.decode(draw('decoder', ...size)).catch((e) => e);
    expect([refused.code, refused.asked, refused.available]).toEqual(['limit', asked, asked - 1]);
    made.dispose();
    expect((await taken(tiny, size, { maxBytes: asked })).peak).toBe(asked);
  }, 600_000);
});

it('what makes no sense is refused, and choosing stops when it is told to', async () => {
  for (const options of [{ bandRows: 0 }, { bandRows: 1.5 }, { maxBytes: 0 }, { maxBytes: Number.NaN }])
    await expect(createAutoencoder(engine, kl, options)).rejects.toThrow(ConfigError);
  const signal = AbortSignal.abort();
  await expect(chooseBands(engine, tiny.network, 'decoder', [4, 4], { signal })).rejects.toThrow(InterruptedError);
});

it('a device of small bindings gets bands without being asked for a budget', async () => {
  const { engine: own } = await createNodeEngine({ onError: () => {} });
  const like = { largestBinding: 40_000 };
  Object.defineProperty(own, 'largestBinding', { get: () => like.largestBinding });
  const found = await chooseBands(own, tiny.network, 'decoder', [24, 16]);
  expect(found.bands).toBeGreaterThan(1);
  like.largestBinding = 1000;
  await expect(chooseBands(own, tiny.network, 'decoder', [24, 16])).rejects.toThrow(
    'the device allows 1000 in one binding',
  );
  own.dispose();
});
