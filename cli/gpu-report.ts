/** The report of `odelt bench gpu`: what its stages gave, as one document to read and one for programs. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatRejected, formatResults } from '../tuning/report.ts';
import type { TuningResult } from '../tuning/table.ts';
import type { StageRecord } from './stages.node.ts';

/** Everything, for programs. */
export interface GpuReport {
  readonly odelt: string;
  readonly date: string;
  readonly quick: boolean;
  readonly stages: readonly StageRecord[];
  /** What each stage printed, by its name. */
  readonly results: Readonly<Record<string, unknown>>;
}

async function textOf(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}

/** Gathers the report of the stages that have run into a folder. */
export async function gatherReport(folder: string, about: Omit<GpuReport, 'results'>): Promise<GpuReport> {
  const results: Record<string, unknown> = {};
  for (const { name, state } of about.stages) {
    if (state === 'not run') continue;
    // One that was stopped has printed nothing, but may have saved what it had.
    const printed = state === 'timed out' || state === 'interrupted' ? undefined : `${name}.json`;
    const [saved] = (await readdir(join(folder, name)).catch((): string[] => [])).filter((f) => f.endsWith('.json'));
    const file = printed ?? (saved && join(name, saved));
    const text = file && (await textOf(join(folder, file)));
    if (text) results[name] = JSON.parse(text);
  }
  return { ...about, results };
}

interface Info {
  readonly adapter?: { name: string; driver: string; kind: string; vendor: string; architecture: string };
  readonly backend?: string;
  readonly runtime?: { node: string; platform: string; arch: string };
}

/** The report to read: the adapter, what became of each stage, and the tables that stages saved as NAME/*.md. */
export async function formatGpuReport(folder: string, report: GpuReport): Promise<string> {
  const { adapter, backend, runtime } = (report.results.info ?? {}) as Info;
  const lines = [`# ${adapter?.name ?? 'An adapter that could not be described'}`, ''];
  if (adapter) {
    const words = [adapter.vendor, adapter.architecture, adapter.driver].filter(Boolean).join(', ');
    lines.push(`${words} (${adapter.kind}), ${backend}; Node ${runtime?.node}, ${runtime?.platform} ${runtime?.arch}.`);
  }
  lines.push(`odelt ${report.odelt}, ${report.date}${report.quick ? ', quick: sizes too small to judge by' : ''}.`, '');
  lines.push('| stage | what | state | s | why |', '|---|---|---|--:|---|');
  for (const { name, title, state, seconds, why } of report.stages) {
    lines.push(`| ${[name, title, state, seconds.toFixed(1), cell(why)].join(' | ')} |`);
  }
  for (const { name, title, state } of report.stages) {
    if (state === 'not run') continue;
    const tables = await tablesOf(join(folder, name));
    const short = summary(name, report.results[name]);
    if (short || tables.length > 0) lines.push('', `## ${name}: ${title}`, ...(short ? ['', short] : []), ...tables);
  }
  return `${lines.join('\n')}\n`;
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

/** Documents that a command saved, their headings one level down. */
async function tablesOf(folder: string): Promise<string[]> {
  const names = (await readdir(folder).catch(() => [] as string[])).filter((name) => name.endsWith('.md')).sort();
  const texts = await Promise.all(names.map((name) => textOf(join(folder, name))));
  return texts.flatMap((text) => ['', (text ?? '').trim().replace(/^# .*\n+/, '')]);
}

/** What results say that no stage has saved as a table. */
function summary(name: string, result: unknown): string {
  if (name === 'verify') {
    const { cases = [], failed = 0 } = (result ?? {}) as { cases?: readonly unknown[]; failed?: number };
    return cases.length > 0
      ? `${cases.length - failed} of ${cases.length} recorded results of the reference agree.`
      : '';
  }
  if (name === 'tune' || name === 'tune-square') {
    const { kept = [] } = (result ?? {}) as { kept?: readonly TuningResult[] };
    return [formatResults(kept), formatRejected(kept)].filter(Boolean).join('\n\n');
  }
  if (name === 'check') {
    const { cases = [], failed = [] } = (result ?? {}) as { cases?: readonly unknown[]; failed?: readonly string[] };
    const wrong = failed.length > 0 ? ` Wrong: ${failed.join('; ')}.` : '';
    return cases.length > 0 ? `${cases.length - failed.length} of ${cases.length} kernel cases are right.${wrong}` : '';
  }
  return '';
}
