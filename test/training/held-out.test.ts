/** Which pictures are held out: always the same, none twice, and none of them trained on; in memory and read as they are needed. */
import { expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import type { Dataset, StreamedDataset } from '../../training/data/dataset.ts';
import { holdOut } from '../../training/held-out.ts';
import { tinyData } from '../support/tiny.ts';

const firstBytes = (data: Dataset) =>
  Array.from({ length: data.count }, (_, i) => `${data.image(i).join()} ${data.label(i)}`);

it('parts the pictures, with their labels', () => {
  const all = tinyData(20);
  const { train, held } = holdOut(all, 0.25) as { train: Dataset; held: Dataset };
  expect([train.count, held.count]).toEqual([15, 5]);
  expect([...firstBytes(train), ...firstBytes(held)].sort()).toEqual(firstBytes(all).sort());
  expect(held.name).toBe('tiny (held out)');
  expect(firstBytes(holdOut(all, 0.25).held as Dataset)).toEqual(firstBytes(held));
  expect(() => held.image(-1)).toThrow();
});

it('of groups that are read together, keeps the groups, as far as anything is left of them', async () => {
  const all = tinyData(12);
  const streamed: StreamedDataset = {
    ...{ name: 'groups', height: 8, width: 8, channels: 1, classes: 3, count: 12, skipped: [] },
    ...{ elements: 'bytes', paired: false, identity: 'i', label: all.label },
    groups: { sizes: [1, 4, 7], together: 2 },
    open: () => ({ read: async (i) => all.image(i), close: async () => {} }),
  };
  const { train, held } = holdOut(streamed, 0.5) as { train: StreamedDataset; held: StreamedDataset };
  const seen: string[] = [];
  for (const part of [train, held]) {
    const sizes = [...(part.groups!.sizes as number[])];
    expect(sizes.reduce((a, b) => a + b)).toBe(part.count);
    expect(sizes.every((n) => n > 0)).toBe(true);
    expect(part.groups!.together).toBe(2);
    const reader = part.open();
    for (let i = 0; i < part.count; i++) seen.push(`${(await reader.read(i)).join()} ${part.label(i)}`);
  }
  expect(seen.sort()).toEqual(firstBytes(all).sort());
});

it.each([
  [0.01, 0],
  [0.99, 12],
])('a share of %s of 12 pictures is refused', (share, count) => {
  expect(() => holdOut(tinyData(12), share)).toThrow(ConfigError);
  expect(() => holdOut(tinyData(12), share)).toThrow(`a share of ${share} of the 12 pictures of 'tiny' is ${count}`);
});
