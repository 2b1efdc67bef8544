/** Layers of decoders of latents: how often each occurs, and what all of them take together. */
import { expect, it } from 'vitest';
import { decoderCases, decoderLayers, decoderUse } from '../../bench/decoder-cases.ts';
import { decoderTotals } from '../../bench/decoder-layers.ts';
import { timingOf } from '../../bench/harness.ts';
import { formatBench } from '../../bench/markdown.ts';
import { contracts } from '../../kernels/registry.ts';
import { benchReport, kernelResult } from '../support/bench-report.ts';

it('cases are what the networks run, as often as they run it', () => {
  const square = (side: number) => ({ batch: 1, height: side, width: side });
  // Stable Diffusion: two residual blocks in the middle and three on each of four levels, two convolutions each; two shortcuts, three
  // enlarged pictures, the first and the last, and one before all; a norm before each but these seven, and that of the attention.
  expect(decoderLayers('Stable Diffusion')).toBe(28 + 2 + 3 + 2 + 1 + (28 + 1 + 1) + 4 + 1);
  // TAEF2: ten blocks of three convolutions, three of them with two more and a norm; three enlarged pictures, the first and the last.
  expect(decoderLayers('TAEF2')).toBe(10 * 3 + 3 * 3 + 3 + 2);
  const plain = { ...square(256), input: 128, output: 128, side: 3 };
  expect(decoderUse('convolution', plain)).toEqual({ decoder: 'Stable Diffusion', times: 2 });
  expect(decoderUse('convolution', { ...plain, fused: 'bias, residual' })?.times).toBe(3);
  expect(decoderUse('convolution', { ...square(32), input: 512, output: 512, side: 3 })?.times).toBe(5);
  expect(decoderUse('groupnorm', { ...square(32), channels: 256, groups: 4, activation: 'relu' })).toEqual({
    ...{ decoder: 'TAEF2', times: 3 },
  });
  expect(decoderUse('linear', { rows: 1, tokens: 1024, input: 512, output: 512 })?.times).toBe(4);
  expect(decoderUse('convolution', { ...plain, input: 127 })).toBeNull();
  expect(decoderUse('constructor', plain)).toBeNull();
});

it('the work of all layers is that of the network', () => {
  // Multiply-adds of Stable Diffusion's convolutions, level by level: 9 taps, 1024 pixels where the picture is smallest.
  const pixels = 1024;
  const first = 4 * 4 + 9 * 4 * 512 + 10 * 9 * 512 * 512;
  const second = 7 * 9 * 512 * 512;
  const third = 9 * 512 * 512 + 9 * 512 * 256 + 512 * 256 + 5 * 9 * 256 * 256;
  const fourth = 9 * 256 * 256 + 9 * 256 * 128 + 256 * 128 + 5 * 9 * 128 * 128 + 9 * 128 * 3;
  const expected = 2 * pixels * (first + 4 * second + 16 * third + 64 * fourth);
  const { bench } = contracts.find(({ name }) => name === 'convolution')!;
  const own = decoderCases('convolution').filter((k) => decoderUse('convolution', k)!.decoder === 'Stable Diffusion');
  expect(own.reduce((sum, k) => sum + bench!.cost(k).flops, 0)).toBe(expected);
});

it('totals weigh each layer with how often it occurs, and its share of the ceiling with its time', () => {
  const layer = (times: number, seconds: number, fields: object) =>
    kernelResult({ layer: { decoder: 'TAEF2', times }, timing: timingOf([seconds]), ...fields });
  const results = [
    layer(3, 0.5, { case: { size: 1 }, flops: 1e10, roofline: 0.5 }),
    layer(1, 2.5, { case: { size: 2 }, flops: 2e10, roofline: 0.1 }),
    layer(3, 9, { case: { size: 1 }, pass: 'backward' }),
    kernelResult({ case: { size: 3 } }),
    layer(2, 1, { case: { size: 1 }, subject: 'other', flops: 1e10, roofline: 1 }),
  ];
  const [mine, other] = decoderTotals(results);
  expect(mine).toMatchObject({ decoder: 'TAEF2', subject: 'lavapipe', seconds: 4, timed: 4, all: 44, gflops: 12.5 });
  expect(mine!.roofline).toBeCloseTo((1.5 * 0.5 + 2.5 * 0.1) / 4, 12);
  expect(mine!.layers.map(({ result, seconds }) => [result.case, seconds])).toEqual([
    ...[
      [{ size: 2 }, 2.5],
      [{ size: 1 }, 1.5],
    ],
  ]);
  expect(other).toMatchObject({ subject: 'other', seconds: 2, timed: 2, gflops: 10, roofline: 1 });
  const text = formatBench(benchReport({ kernels: results.slice(0, 4) }));
  expect(text).toContain("by TAEF2's decoder: 4 of its 44 layers take 4000 ms, 12.5 GFLOP/s, 25 % of the ceilings.");
  expect(text).toMatch(/\| linear +\| size 1 +\| 3 +\| 500 +\| 1500 +\| 37\.5 % +\|/);
  expect(decoderTotals([kernelResult()])).toEqual([]);
});
