/** Owns what `odelt info` reports: the adapter, its limits and features, and why each candidate was taken or refused. */

import type { Command } from 'commander';
import { type AdapterReport, type NodeDeviceOptions, requestNodeDevice } from '../engine/adapters.node.ts';
import type { DescribedLimit, MatrixUnit } from '../engine/device.ts';
import { printable } from '../engine/text.ts';
import { print, printJson } from './output.node.ts';
import { INDEX_HELP, parseIndex } from './session.node.ts';

/** One JSON document; byte and count limits as in `AdapterDescription`. */
export interface InfoReport extends AdapterReport {
  runtime: { node: string; platform: string; arch: string };
}

/** Acquires a device as every command does, describes it, and destroys it. @throws as `requestNodeDevice` */
export async function gatherInfo(options: NodeDeviceOptions = {}): Promise<InfoReport> {
  const { device, adapterReport } = await requestNodeDevice(options);
  device.destroy();
  const { version, platform, arch } = process;
  return { ...adapterReport, runtime: { node: version, platform, arch } };
}

const BYTE_LIMITS: readonly DescribedLimit[] = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxUniformBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
];

const unitText = ({ componentType, resultComponentType, M, N, K }: MatrixUnit): string =>
  `${componentType} to ${resultComponentType} ${M}x${N}x${K}`;

/** The report as lines of text for a terminal, without a final line break. */
export function formatInfo(report: InfoReport): string {
  const { adapter, runtime } = report;
  const all: [string, string][] = [
    ['adapter', adapter.name],
    ...(report.listed ? [['the driver has', report.listed.names.join(', ')] as [string, string]] : []),
    ['vendor', [adapter.vendor, adapter.architecture].filter(Boolean).join(', ') || 'unknown'],
    ['driver', adapter.driver || 'unknown'],
    ['backend', report.backend],
    ['kind', adapter.software ? `${adapter.kind} (software: the CPU does the work)` : adapter.kind],
    ['subgroups', adapter.subgroupSize ? `${adapter.subgroupSize.min} to ${adapter.subgroupSize.max}` : 'unknown'],
    ...(adapter.matrixUnits.length > 0
      ? [['matrix units', adapter.matrixUnits.map(unitText).join(', ')] as [string, string]]
      : []),
    ['features', adapter.features.join(', ') || 'none'],
    ['runtime', `Node ${runtime.node}, ${runtime.platform} ${runtime.arch}`],
  ];
  // What a driver says of itself may hold anything.
  const facts = all.map(([key, value]): [string, string] => [key, printable(value)]);
  const limits = (Object.entries(adapter.limits) as [DescribedLimit, number][]).map(
    ([name, value]): [string, string] => [name, BYTE_LIMITS.includes(name) ? formatBytes(value) : String(value)],
  );
  const candidates = report.candidates.map(
    ({ name, outcome, reason }) => `  ${outcome.padEnd(9)}  ${printable(name)}: ${printable(reason)}`,
  );
  return [
    ...columns(facts, ''),
    '',
    'limits',
    ...columns(limits, '  '),
    '',
    `candidates (choice: ${report.choice})`,
    ...candidates,
  ].join('\n');
}

function columns(rows: readonly (readonly [string, string])[], indent: string): string[] {
  const width = Math.max(...rows.map(([key]) => key.length));
  return rows.map(([key, value]) => `${indent}${key.padEnd(width)}  ${value}`);
}

function formatBytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${Number((bytes / 2 ** 30).toFixed(2))} GiB`;
  return bytes >= 2 ** 20
    ? `${Number((bytes / 2 ** 20).toFixed(2))} MiB`
    : `${Number((bytes / 2 ** 10).toFixed(2))} KiB`;
}

export function addInfo(command: Command): void {
  command
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--json', 'print one JSON document')
    .action(async (flags: { adapter?: string; adapterIndex?: number; json?: boolean }) => {
      const report = await gatherInfo({ ...flags, adapter: flags.adapter as 'auto' | undefined });
      if (flags.json) printJson(report);
      else print(formatInfo(report));
    });
}
