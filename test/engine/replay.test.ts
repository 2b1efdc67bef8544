/** What a replay refreshes: blocks and workgroups follow their inputs, and nothing else is worked out again. */
import { describe, expect, it } from 'vitest';
import { checkDispatch, defineKernel } from '../../engine/kernel.ts';
import { ReplayState } from '../../engine/replay.ts';
import { map, type Scalar, scalarInput } from '../../engine/scalar.ts';
import { tensor } from '../../engine/tensor.ts';

const kernel = defineKernel(
  'scaled',
  `struct Params { count: u32, shift: i32, factor: f32 }
  @group(1) @binding(0) var<uniform> params: Params;
  @group(0) @binding(0) var<storage, read_write> y: array<f32>;
  @compute @workgroup_size(1) fn main() { y[params.count] = params.factor * f32(params.shift); }`,
);
const y = tensor('y', [4], 'f32', { label: 'y', bytes: 16, place: null });
const node = (count: Scalar, shift: Scalar, factor: Scalar, grid: Scalar | readonly [Scalar, Scalar] = 1) =>
  checkDispatch({ kernel, entry: 'main', tensors: { y }, params: { count, shift, factor }, grid }, '');
const fields = (state: ReplayState, i: number) => {
  const view = new DataView(state.blocks, state.offsets[i]);
  return [view.getUint32(0, true), view.getInt32(4, true), view.getFloat32(8, true)];
};

describe('blocks', () => {
  it('equal constants share one, what changes lies first, and all have their values', () => {
    const rows = scalarInput('rows', 10);
    const state = new ReplayState([node(1, -2, 0.5), node(rows, 7, 1.5), node(1, -2, 0.5), node(2, -2, 0.5)], 65535);
    expect(state.offsets).toEqual([256, 0, 256, 512]);
    expect(state.blocks.byteLength).toBe(3 * 256);
    expect(state.changing.byteLength).toBe(256);
    expect(state.update({ rows: 9 })).toBe(true);
    expect([0, 1, 2, 3].map((i) => fields(state, i))).toEqual([
      [1, -2, 0.5],
      [9, 7, 1.5],
      [1, -2, 0.5],
      [2, -2, 0.5],
    ]);
  });

  it('a dispatch without symbols needs no update at all', () => {
    const state = new ReplayState([node(1, 2, 3, [5, 6])], 65535);
    expect(state.update({})).toBe(false);
    expect([...state.counts]).toEqual([5, 6, 1]);
  });
});

describe('update', () => {
  it('works out again what depends on a changed input, and nothing else', () => {
    const evaluated: string[] = [];
    const noted = (s: Scalar, name: string) =>
      map(s, name, (v) => {
        evaluated.push(name);
        return v;
      });
    const [rows, rate] = [scalarInput('rows', 10), scalarInput('rate', 10)];
    const state = new ReplayState(
      [node(noted(rows, 'count'), 1, 1, noted(rows, 'grid')), node(1, 1, noted(rate, 'factor'), 3)],
      65535,
    );
    const updated = (values: Record<string, number>) => {
      evaluated.length = 0;
      const changed = state.update(values);
      return [changed, [...evaluated], [...state.counts], fields(state, 0)[0], fields(state, 1)[2]];
    };
    expect(updated({ rows: 4, rate: 0.5 })).toEqual([true, ['count', 'factor', 'grid'], [4, 1, 1, 3, 1, 1], 4, 0.5]);
    expect(updated({ rows: 4, rate: 0.5 })).toEqual([false, [], [4, 1, 1, 3, 1, 1], 4, 0.5]);
    expect(updated({ rows: 4, rate: 0.25 })).toEqual([true, ['factor'], [4, 1, 1, 3, 1, 1], 4, 0.25]);
    expect(updated({ rows: 0, rate: 0.25 })).toEqual([true, ['count', 'grid'], [0, 1, 1, 3, 1, 1], 0, 0.25]);
  });

  it('changes of a grid alone change no block', () => {
    const state = new ReplayState([node(1, 1, 1, scalarInput('rows', 10))], 65535);
    expect(state.update({ rows: 2 })).toBe(false);
    expect([...state.counts]).toEqual([2, 1, 1]);
    expect(state.update({ rows: 5 })).toBe(false);
    expect([...state.counts]).toEqual([5, 1, 1]);
  });

  it('tells -0 from 0', () => {
    const state = new ReplayState([node(1, 1, scalarInput('h'))], 65535);
    state.update({ h: 0 });
    expect(state.update({ h: -0 })).toBe(true);
    expect(Object.is(fields(state, 0)[2], -0)).toBe(true);
  });

  it('starts afresh after values that were missing or did not fit', () => {
    const state = new ReplayState([node(scalarInput('a', 10), 1, scalarInput('b'))], 65535);
    state.update({ a: 1, b: 1 });
    // `a` is packed before `b` is found missing.
    expect(() => state.update({ a: 2 })).toThrow("scalar 'b' was not given");
    expect(() => state.update({ a: 11, b: 1 })).toThrow("scalar 'a' is 11; the program was recorded for at most 10");
    expect(() => state.update({ a: 1.5, b: 1 })).toThrow('parameter count is 1.5, not an integer');
    expect(state.update({ a: 1, b: 1 })).toBe(true);
    expect(fields(state, 0)).toEqual([1, 1, 1]);
  });

  it('folds a grid beyond the limit, and refuses what cannot be folded', () => {
    const rows = scalarInput('rows');
    const state = new ReplayState([node(1, 1, 1, rows), node(1, 1, 1, [rows, 1])], 100);
    expect(() => state.update({ rows: 150 })).toThrow('150 x 1 x 1 workgroups; the device allows 100');
    const folded = new ReplayState([node(1, 1, 1, rows)], 100);
    folded.update({ rows: 150 });
    expect([...folded.counts]).toEqual([75, 2, 1]);
  });
});
