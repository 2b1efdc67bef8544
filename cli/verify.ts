/** `odelt verify`: replays recorded results of the reference on this machine's adapter and says how far off they are. */
import type { Command } from 'commander';
import pc from 'picocolors';
import { OdeltError } from '../engine/errors.ts';
import { printable } from '../engine/text.ts';
import { shippedGolden } from '../formats/shipped.node.ts';
import type { CaseResult, Kind } from '../verify/case.ts';
import { openGolden } from '../verify/golden.node.ts';
import { caseId, verify } from '../verify/replay.ts';
import { interruptSignal } from './ends.node.ts';
import { duration, log, ProgressLine, print, printJson } from './output.node.ts';
import { FailedResult } from './report.node.ts';
import { INDEX_HELP, openSession, parseIndex } from './session.node.ts';

interface VerifyFlags {
  large?: boolean;
  only?: string;
  adapter?: string;
  adapterIndex?: number;
  json?: boolean;
}

export function addVerify(command: Command): void {
  command
    .argument('[dir]', 'golden data: folders with a config.json and .safetensors recordings (default: bundled)')
    .option('--large', 'also replay models of more than 20 million parameters')
    .option('--only <text>', 'only cases whose name contains this, e.g. a/forward')
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--json', 'print one JSON document instead of text')
    .addHelpText(
      'after',
      `
Every line names a case, its relative error ||out - ref|| / ||ref|| (of the worst sample where a case has several)
and the largest error that passes. Files are first compared with MANIFEST.json, where there is one.
Exit code 1 if any case fails. GPU drivers are wrong now and then: a failure here is worth a bug report to the driver.`,
    )
    .action((dir: string | undefined, flags: VerifyFlags) => runVerify(dir ?? shippedGolden(), flags));
}

/** Summary of a run, as --json prints it. A case without a result has error null. */
interface VerifyReport {
  readonly directory: string;
  readonly adapter: unknown;
  readonly cases: readonly CaseResult[];
  readonly failed: number;
  readonly worst: Readonly<Partial<Record<Kind, { id: string; error: number; tolerance: number }>>>;
  readonly notReplayed: readonly string[];
  /** What cannot be said of the recordings themselves. */
  readonly notes: readonly string[];
  readonly seconds: number;
}

async function runVerify(directory: string, flags: VerifyFlags): Promise<void> {
  const started = performance.now();
  const signal = interruptSignal();
  const line = new ProgressLine();
  const session = await openSession(flags.adapter, flags);
  const seconds = () => (performance.now() - started) / 1000;
  const cases: CaseResult[] = [];
  const notReplayed: string[] = [];
  const notes: string[] = [];
  if (!flags.json) log(`adapter: ${session.adapter.adapter.name}`);
  try {
    const results = verify(session.engine, await openGolden(directory), {
      large: flags.large,
      only: flags.only,
      signal,
      onSkipped: (what) => notReplayed.push(what),
      onNote: (text) => notes.push(text),
      onCase: ({ id, done, total }) => {
        if (seconds() > 2) line.update(`${done}/${total}  ${duration(seconds())}  ${id}`);
      },
    });
    for await (const result of results) {
      const repeated = result.detail === cases.at(-1)?.detail;
      cases.push(result);
      if (flags.json) continue;
      line.clear();
      print(formatCase(result));
      if (!result.ok && result.detail && !repeated) print(result.detail.replace(/^/gm, '     '));
    }
  } finally {
    line.clear();
    session.engine.dispose();
  }
  const failed = cases.filter((c) => !c.ok);
  const report: VerifyReport = {
    directory,
    adapter: session.adapter.adapter,
    cases,
    failed: failed.length,
    worst: worstByKind(cases),
    notReplayed,
    notes,
    seconds: seconds(),
  };
  if (!flags.json) print(formatSummary(report));
  if (failed.length > 0) {
    const error = new OdeltError(
      'verify',
      `${failed.length} of ${cases.length} cases fail on ${session.adapter.adapter.name}`,
      {
        hint: failed.some((c) => Number.isFinite(c.error))
          ? 'run again with another --adapter: if that passes, this driver or its settings are at fault'
          : 'these cases gave nothing to compare; the reasons are above',
      },
    );
    throw new FailedResult(report, error);
  }
  if (flags.json) printJson(report);
}

const scientific = (x: number): string => (Number.isFinite(x) ? (x === 0 ? '0' : x.toExponential(1)) : 'none');

function formatCase(result: CaseResult): string {
  const { ok, error, tolerance } = result;
  const mark = ok ? pc.green('ok  ') : pc.red('FAIL');
  const numbers = `error ${scientific(error).padEnd(8)} tolerance ${scientific(tolerance)}`;
  return `${mark} ${printable(caseId(result)).padEnd(52)} ${numbers}`;
}

/** The largest error of each kind, by its share of the tolerance. */
function worstByKind(cases: readonly CaseResult[]): VerifyReport['worst'] {
  const share = ({ error, tolerance }: { error: number; tolerance: number }) =>
    Number.isNaN(error)
      ? Number.POSITIVE_INFINITY
      : tolerance === 0
        ? error === 0
          ? 0
          : Number.POSITIVE_INFINITY
        : error / tolerance;
  const found: Partial<Record<Kind, { id: string; error: number; tolerance: number }>> = {};
  for (const c of cases) {
    const known = found[c.kind];
    if (!known || share(c) > share(known)) found[c.kind] = { id: caseId(c), error: c.error, tolerance: c.tolerance };
  }
  return found;
}

/** What each way to store costs in accuracy: the largest error of all models. */
function storage(cases: readonly CaseResult[]): string[] {
  const errors = new Map<string, number>();
  for (const { kind, name, error } of cases) {
    const way = name.replace('strong/', '').replaceAll('_', ' ').replace('weights f16', 'weights, f16');
    if (kind === 'storage') errors.set(way, Math.max(error, errors.get(way) ?? 0));
  }
  const lines = [...errors].map(([way, error]) => `  ${way.padEnd(32)} ${scientific(error)}`);
  return lines.length > 0 ? ['largest error of the velocity against float32, relative to its norm:', ...lines] : [];
}

function formatSummary({ cases, failed, worst, notReplayed, notes, seconds }: VerifyReport): string {
  const kinds = Object.entries(worst).map(([kind, { id, error, tolerance }]) => {
    const count = cases.filter((c) => c.kind === kind).length;
    return `  ${kind.padEnd(11)} ${String(count).padStart(4)} cases, worst ${scientific(error)} of ${scientific(tolerance)} (${printable(id)})`;
  });
  return [
    '',
    ...kinds,
    ...storage(cases),
    ...notes.map((text) => `note: ${printable(text)}`),
    ...(notReplayed.length > 0 ? ['not replayed:', ...notReplayed.map((what) => `  ${printable(what)}`)] : []),
    failed === 0
      ? pc.green(`all ${cases.length} cases pass (${duration(seconds)})`)
      : pc.red(`${failed} of ${cases.length} cases fail (${duration(seconds)})`),
  ].join('\n');
}
