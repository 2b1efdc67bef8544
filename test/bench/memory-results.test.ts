/** The memory tables that are published say what today's code takes: bench/results and docs/measured.md cannot drift. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { describe, expect, it, test } from 'vitest';
import { estimateMemory, MEMORY_OPTIONS, type MemoryBench, memoryDocument } from '../../bench/memory.bench.ts';
import { addBenchMemory } from '../../cli/bench-memory.ts';
import type { Engine } from '../../engine/engine.ts';
import { preset } from '../../model/config.ts';
import { plotMemory } from '../../pictures/memory-plot.ts';

/** As much of an engine as estimates look at: the limits that WebGPU guarantees. */
const guaranteed = {
  device: {
    limits: {
      maxBufferSize: 256 * 2 ** 20,
      maxStorageBufferBindingSize: 128 * 2 ** 20,
      maxUniformBufferBindingSize: 65536,
      maxStorageBuffersPerShaderStage: 8,
      maxComputeWorkgroupStorageSize: 16384,
      maxComputeInvocationsPerWorkgroup: 256,
      maxComputeWorkgroupsPerDimension: 65535,
    },
    features: new Set(),
  },
  adapterClass: 'gpu',
  largestBinding: 128 * 2 ** 20,
} as unknown as Engine;

const published = (model: string) => {
  const text = (ending: string) => readFileSync(`bench/results/memory-${model}.${ending}`, 'utf8');
  return { report: JSON.parse(text('json')) as MemoryBench, md: text('md'), svg: text('svg') };
};

describe('bench/results', () => {
  for (const [file, name] of [
    ['dit-b2', 'dit-b/2'],
    ['dit-xl2', 'dit-xl/2'],
  ] as const) {
    it(`${name}: what is estimated today, to the byte`, { timeout: 300_000 }, async () => {
      const { report } = published(file);
      expect(report.model).toBe(name);
      expect(report.config).toEqual(preset(name));
      for (const { measured, ...row } of report.rows) {
        const option = MEMORY_OPTIONS.find((one) => one.name === row.option)!;
        expect(await estimateMemory(guaranteed, report.config, { blocks: row.blocks, option }, report)).toEqual(row);
        if (measured) expect([measured.peak, measured.live]).toEqual([row.peak, row.total]);
      }
    });

    it(`${name}: the table and the picture are of these numbers`, () => {
      const { report, md, svg } = published(file);
      expect(md).toBe(memoryDocument(report));
      expect(svg).toBe(plotMemory(report));
    });
  }
});

test('the command that docs/measured.md names prints this table: its defaults are those of the table', () => {
  const program = new Command();
  addBenchMemory(program);
  const defaults = program.commands[0]!.opts();
  const { model, batch, steps } = published('dit-b2').report;
  expect(defaults).toMatchObject({ preset: model, batch, steps });
});

test('docs/measured.md shows these numbers', () => {
  const { rows } = published('dit-b2').report;
  const order = [
    'f32',
    'f32 + ahead',
    'f16 + ahead',
    'f16 + ahead, f16 activations',
    'int8 + ahead',
    'f16 + 2 resident',
  ];
  expect(order.toSorted()).toEqual(MEMORY_OPTIONS.map(({ name }) => name).toSorted());
  const page = readFileSync('docs/measured.md', 'utf8');
  for (const blocks of [4, 8, 12]) {
    const cells = order.map((option) => rows.find((row) => row.blocks === blocks && row.option === option)!.peak / 1e6);
    expect(page).toContain(`| L=${blocks} | ${cells.map((mb) => mb.toFixed(1)).join(' | ')} |`);
  }
});
