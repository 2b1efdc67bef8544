/** Numbers that are none are found wherever they are; long work on the host leaves turns to others, and gives the same numbers. */
import { afterEach, expect, it, vi } from 'vitest';
import { NonFiniteError } from '../../engine/errors.ts';
import { firstNonFinite } from '../../formats/finite.ts';
import { parseModelConfig } from '../../model/config.ts';
import { initParams, initParamsInTurns, paramEntries } from '../../model/params.ts';
import { checkFinite } from '../../training/finite.ts';
import { setBits, tinyModel } from '../support/tiny.ts';

afterEach(() => vi.restoreAllMocks());

/** How often others had a turn of the event loop until `work` was done, where each piece of it takes a second by the clock. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let [time, ticks, done] = [0, 0, false];
  vi.spyOn(performance, 'now').mockImplementation(() => (time += 1000));
  const tick = () => {
    ticks++;
    if (!done) setImmediate(tick);
  };
  const working = work();
  setImmediate(tick);
  await working;
  done = true;
  return ticks;
}

it('the first number that is not finite is that of Number.isFinite, for all exponents and signs', () => {
  const bits = Uint32Array.from({ length: 3 * 512 }, (_, i) => (((i % 512) << 23) | [0, 1, 0x7fffff][i >> 9]!) >>> 0);
  const values = new Float32Array(bits.buffer);
  for (let i = 0; i < values.length; i++) {
    const one = values.subarray(i, i + 1);
    expect(firstNonFinite(one), `${bits[i]!.toString(16)}`).toBe(Number.isFinite(one[0]) ? -1 : 0);
  }
  expect(firstNonFinite(Float32Array.of(1, 2, Number.NaN, Number.NEGATIVE_INFINITY))).toBe(2);
  expect(firstNonFinite(new Float32Array(0))).toBe(-1);
});

it('a state is looked through to its last number, with turns for others', async () => {
  const set = (seed: number) => initParams(tinyModel, seed);
  const sets = { params: set(1), ema: set(2), m: set(3), v: set(4) };
  const count = [...paramEntries(sets.v)].length;
  expect(await turnsDuring(() => checkFinite(sets, 7))).toBeGreaterThanOrEqual(4 * count);
  vi.restoreAllMocks();
  const { spec, values } = [...paramEntries(sets.v)].at(-1)!;
  values[values.length - 1] = Number.POSITIVE_INFINITY;
  const error = await checkFinite(sets, 7).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(NonFiniteError);
  expect((error as Error).message).toBe(`step 7: v/${spec.name} is no longer finite; nothing was saved`);
});

it('initial parameters that are drawn in turns are the same ones', async () => {
  const model = parseModelConfig({ ...tinyModel, width: 32 });
  const params = initParams(model, 9);
  expect(setBits({ params: await initParamsInTurns(model, 9) })).toEqual(setBits({ params }));
  const turns = await turnsDuring(() => initParamsInTurns(model, 9));
  expect(turns).toBeGreaterThanOrEqual([...paramEntries(params)].length);
});
