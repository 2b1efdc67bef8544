/** The reference's pickles as verify replays them: the bundle passes, and a number that is changed by one bit fails. */
import { describe, expect, it } from 'vitest';
import { checkpointCases } from '../../verify/checkpoints.ts';
import { openGolden } from '../../verify/golden.node.ts';
import type { GoldenDir } from '../../verify/golden.ts';
import { FIXTURES } from '../support/golden.ts';

const PICKLE = 'checkpoints/checkpoint_jax_arrays.pkl';

/** Errors by case, and the files that were used. */
async function replayed(change: (bytes: Uint8Array) => void = () => {}) {
  const bundle = await openGolden(FIXTURES);
  const bytes = async (path: string) => {
    const found = await bundle.bytes(path);
    if (path === PICKLE) change(found);
    return found;
  };
  const dir: GoldenDir = { ...bundle, bytes };
  const used = new Set<string>();
  const errors: Record<string, number> = {};
  for (const { cases } of await checkpointCases(dir, used)) {
    for (const { name, run, tolerance } of cases) {
      const { error } = await run().catch(() => ({ error: Number.NaN }));
      errors[name.replace('checkpoint_jax_arrays.pkl/', '')] = error <= tolerance ? 0 : error;
    }
  }
  return { errors, used: [...used].sort() };
}

/** Where the numbers of a leaf's kernel begin: after its name, the longest run of bytes. */
const place = (bytes: Uint8Array, name: string) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(name);

describe('the bundled pickle', () => {
  it('is read bit for bit', async () => {
    const { errors, used } = await replayed();
    expect(errors).toEqual({ model: 0, step: 0, values: 0, sums: 0 });
    expect(used).toEqual([PICKLE, 'checkpoints/checkpoint_tiny_expected.safetensors', 'checkpoints/checkpoints.json']);
  });

  it('fails where one bit of a number is another', async () => {
    const { errors } = await replayed((bytes) => {
      bytes[place(bytes, 'DiTBlock_0') + 600]! ^= 1;
    });
    expect(errors).toMatchObject({ model: 0, step: 0 });
    expect(errors.values).toBeGreaterThan(0);
  });

  it('fails where it is truncated, or names something else', async () => {
    const { errors } = await replayed((bytes) => {
      bytes[place(bytes, '_reconstruct_array')] = 0x78;
    });
    expect(errors).toEqual({ model: Number.NaN, step: Number.NaN, values: Number.NaN, sums: Number.NaN });
  });
});
