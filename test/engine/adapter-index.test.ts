/** Which of several adapters is taken: what Dawn's list says, numbers, names that hide each other, processes in turn. */
import { describe, expect, it } from 'vitest';
import { listedAt, listedInTurn, listedNames, listedOf } from '../../engine/adapter-index.ts';
import { adapterIndexChoice } from '../../engine/adapters.node.ts';
import { ConfigError } from '../../engine/errors.ts';

const LAVAPIPE = 'llvmpipe (LLVM 15.0.6, 256 bits)';
const SWIFTSHADER = 'SwiftShader Device (Subzero)';
const ANY = ['gpu', 'lavapipe', 'swiftshader', 'software'] as const;

it("reads names from Dawn's refusal, and no others", () => {
  const refusal = (...names: string[]) =>
    `no adapter with backend 'vulkan' and name 'x' found\nAvailable adapters:${names.map((name) => `\n * backend: 'vulkan', name: '${name}'`).join('')}`;
  expect(listedNames(refusal(SWIFTSHADER, "Bob's GPU", LAVAPIPE))).toEqual([SWIFTSHADER, "Bob's GPU", LAVAPIPE]);
  expect(listedNames(refusal())).toEqual([]);
  expect(listedNames("unrecognised backend 'x'")).toBe(null);
});

describe('the adapters of a driver', () => {
  it('are those of the kinds asked for, in their order', () => {
    const names = [SWIFTSHADER, 'NVIDIA L4', LAVAPIPE];
    const kinds = (...accepts: (typeof ANY)[number][]) => listedOf(names, accepts).map(({ name }) => name);
    expect(kinds(...ANY)).toEqual(names);
    expect(kinds('gpu')).toEqual(['NVIDIA L4']);
    expect(kinds('lavapipe', 'swiftshader')).toEqual([SWIFTSHADER, LAVAPIPE]);
  });

  it('of one name, or of one that contains another, are hidden by the first that Dawn would take', () => {
    const listed = listedOf(['RTX 4090', 'RTX 4070 Ti', 'RTX 4090', 'RTX 4070'], ANY);
    expect(listed.map(({ hiddenBy }) => hiddenBy)).toEqual([null, null, 0, 1]);
    expect(listedAt(listed, 1).name).toBe('RTX 4070 Ti');
    expect(() => listedAt(listed, 2, 5)).toThrow(ConfigError);
    expect(() => listedAt(listed, 2, 5)).toThrow(
      "adapter 7 is 'RTX 4090', and Dawn, which tells adapters of a driver apart by name, would take number 5, 'RTX 4090'",
    );
    expect(() => listedAt(listed, 3)).toThrow("would take number 1, 'RTX 4070 Ti'");
    // Hidden by one of another kind, which is not on the list.
    expect(() => listedAt(listedOf(['llvmpipe on a GPU', 'GPU'], ['gpu']), 0)).toThrow('would take another');
  });

  it('go round the processes of a machine, those that can be taken', () => {
    const taken = (names: string[]) => [0, 1, 2, 3].map((rank) => listedInTurn(listedOf(names, ANY), rank)?.name);
    expect(taken(['A', 'B', 'C'])).toEqual(['A', 'B', 'C', 'A']);
    expect(taken(['H200', 'H200', 'L4', 'H200'])).toEqual(['H200', 'L4', 'H200', 'L4']);
    expect(taken(['H200', 'H200'])).toEqual(['H200', 'H200', 'H200', 'H200']);
    expect(taken([])).toEqual([undefined, undefined, undefined, undefined]);
  });
});

it('the number comes from the option, then ODELT_ADAPTER_INDEX, else there is none', () => {
  expect(adapterIndexChoice(2, { ODELT_ADAPTER_INDEX: '1' })).toBe(2);
  expect(adapterIndexChoice(undefined, { ODELT_ADAPTER_INDEX: '1' })).toBe(1);
  expect(adapterIndexChoice(undefined, { ODELT_ADAPTER_INDEX: '' })).toBe(undefined);
  expect(adapterIndexChoice(undefined, {})).toBe(undefined);
  expect(() => adapterIndexChoice(undefined, { ODELT_ADAPTER_INDEX: '-1' })).toThrow(
    "ODELT_ADAPTER_INDEX is '-1'; it must be the number of an adapter, from 0",
  );
  expect(() => adapterIndexChoice(1.5, {})).toThrow("adapterIndex is '1.5'");
});
