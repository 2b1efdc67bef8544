/**
 * Stages: programs run one after another into a folder, each with a time of its own. What a stage gave is written when it ends; one that
 * fails or is out of time is recorded as such and the others go on; what is done is not done again.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InterruptedError } from '../engine/errors.ts';
import { makeFolder } from '../engine/folders.node.ts';
import { writeText } from '../formats/files.node.ts';
import { runChild, saidBy } from './child.node.ts';
import { scrubbed } from './private.node.ts';

/** One program to run. */
export interface Stage {
  readonly name: string;
  /** What it finds out, for the report. */
  readonly title: string;
  readonly program: string;
  readonly args: readonly string[];
  /** Seconds that it may take. */
  readonly seconds: number;
  readonly env?: Readonly<Record<string, string>>;
  /** The stage whose results it uses: it runs again where that one has. */
  readonly follows?: string;
  /** What it has left for another run, by the JSON that it printed; empty for nothing. */
  readonly leaves?: (printed: unknown) => string;
}

/** What became of a stage. */
export interface StageRecord {
  readonly name: string;
  readonly title: string;
  /** 'unfinished': it ended well and has more to do, which the next run does. */
  readonly state: 'done' | 'unfinished' | 'failed' | 'timed out' | 'interrupted' | 'not run';
  readonly seconds: number;
  /** Exit code, where it ended by itself. */
  readonly code: number | null;
  /** Why it is not done: the last it said, or what is left. */
  readonly why: string;
  /** Of the stage as it was run; a stage that is asked for otherwise runs again. */
  readonly key: string;
}

export interface StageOptions {
  /** Seconds for all stages together. */
  readonly seconds: number;
  /** Part of every stage's key: results of another version are no results. */
  readonly version: string;
  readonly signal?: AbortSignal;
  readonly grace?: number;
  /** Told before a stage runs, and what became of it. */
  readonly onStage?: (stage: Stage, record?: StageRecord) => void;
}

const RECORDS = 'stages.json';

/** What is known of stages that have run into this folder; nothing where there is none or its record is no such thing. */
export async function stageRecords(folder: string): Promise<StageRecord[]> {
  try {
    const records: unknown = JSON.parse(await readFile(join(folder, RECORDS), 'utf8'));
    return Array.isArray(records)
      ? records.filter((r) => typeof r?.name === 'string' && typeof r?.key === 'string')
      : [];
  } catch {
    return [];
  }
}

/**
 * Runs the stages that are not done yet; the record of all of them, in their order. A stage's standard output becomes NAME.json (or
 * NAME.txt), its messages NAME.log.
 * @throws OutputError; InterruptedError with everything recorded.
 */
export async function runStages(
  folder: string,
  stages: readonly Stage[],
  options: StageOptions,
): Promise<StageRecord[]> {
  const { version, signal, grace, onStage } = options;
  await makeFolder(folder);
  const known = new Map((await stageRecords(folder)).map((record) => [record.name, record]));
  const keyOf = ({ program, args }: Stage) => scrubbed(JSON.stringify([version, program, ...args]));
  const none = (stage: Stage, why: string): StageRecord => {
    const { name, title } = stage;
    return { name, title, state: 'not run', seconds: 0, code: null, why, key: keyOf(stage) };
  };
  const records = () =>
    stages.map((stage) => {
      const record = known.get(stage.name);
      return record?.key === keyOf(stage) ? record : none(stage, 'it has not been its turn');
    });
  const started = performance.now();
  const ran = new Set<string | undefined>();
  for (const stage of stages) {
    const before = known.get(stage.name);
    if (before?.state === 'done' && before.key === keyOf(stage) && !ran.has(stage.follows)) continue;
    const left = options.seconds - (performance.now() - started) / 1000;
    if (left < 1) {
      known.set(stage.name, none(stage, `the ${options.seconds} seconds for all stages were over; run it again`));
      continue;
    }
    onStage?.(stage);
    const record = await runStage(folder, stage, { seconds: Math.min(left, stage.seconds), signal, grace });
    known.set(stage.name, { ...record, key: keyOf(stage) });
    ran.add(stage.name);
    await writeText(join(folder, RECORDS), `${JSON.stringify(records(), null, 1)}\n`);
    onStage?.(stage, known.get(stage.name));
    if (signal?.aborted)
      throw new InterruptedError(`stopped in stage ${stage.name}`, { hint: 'the same command goes on' });
  }
  await writeText(join(folder, RECORDS), `${JSON.stringify(records(), null, 1)}\n`);
  return records();
}

async function runStage(
  folder: string,
  { name, title, program, args, env, leaves }: Stage,
  limits: { seconds: number; signal?: AbortSignal; grace?: number },
): Promise<Omit<StageRecord, 'key'>> {
  const ended = await runChild(program, args, { ...limits, env: { ...process.env, NO_COLOR: '1', ...env } });
  const { end, code, seconds } = ended;
  const [stdout, stderr] = [scrubbed(ended.stdout), scrubbed(ended.stderr)];
  if (stderr.trim() !== '') await writeText(join(folder, `${name}.log`), stderr);
  const left = end === 'exited' && code === 0 && isJson(stdout) ? (leaves?.(JSON.parse(stdout)) ?? '') : '';
  const state = end !== 'exited' ? end : code !== 0 ? 'failed' : left ? 'unfinished' : 'done';
  // What a stage that failed has to say is of use as well; of one that was stopped only part is there.
  if (end === 'exited' && stdout.trim() !== '') {
    await writeText(join(folder, `${name}.${isJson(stdout) ? 'json' : 'txt'}`), stdout);
  }
  const why =
    state === 'done' || state === 'unfinished'
      ? left
      : state === 'timed out'
        ? `it was stopped after ${limits.seconds.toFixed(0)} s`
        : lastLines(saidBy({ stderr }));
  return { name, title, state, seconds, code, why };
}

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

const lastLines = (text: string): string => text.split('\n').slice(-3).join(' ').slice(-400);
