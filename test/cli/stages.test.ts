/** Stages of `odelt bench gpu`, with programs that only pretend: what fails, hangs or is interrupted is recorded, and what is done stays. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { folderName } from '../../cli/bench-gpu.ts';
import { runChild, saidBy } from '../../cli/child.node.ts';
import { formatGpuReport, gatherReport } from '../../cli/gpu-report.ts';
import { scrubbed } from '../../cli/private.node.ts';
import { runStages, type Stage, type StageOptions, type StageRecord, stageRecords } from '../../cli/stages.node.ts';
import { InterruptedError } from '../../engine/errors.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'odelt-stages-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string) => join(folder, name);
/** A stage that runs this JavaScript; it may count its runs with `ran()`. */
const stage = (name: string, body: string, seconds = 60): Stage => ({
  ...{ name, title: `what ${name} says`, seconds, program: process.execPath },
  args: ['-e', `const fs = require('fs'); const ran = () => fs.appendFileSync('${at(`${name}.runs`)}', 'x');\n${body}`],
});
const runs = (name: string) => (existsSync(at(`${name}.runs`)) ? readFileSync(at(`${name}.runs`), 'utf8').length : 0);
const run = (stages: readonly Stage[], options: Partial<StageOptions> = {}) =>
  runStages(at('out'), stages, { seconds: 100, version: '1', grace: 0.5, ...options });
const states = (records: readonly StageRecord[]) => records.map(({ name, state }) => `${name} ${state}`);

/** Whether a process is there. */
function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie has ended and waits for whoever started it.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** A program that will not end when it is asked to, and has started another of that kind. */
const STUBBORN = `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);`;
const stubbornFamily = (pids: string) => `
const child = require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(STUBBORN)}], { stdio: 'inherit' });
${STUBBORN}
fs.writeFileSync(${JSON.stringify(pids)}, JSON.stringify([process.pid, child.pid]));
process.stderr.write('started');`;

it('one that fails or hangs is recorded, and the others go on; again, what is done is not done again', async () => {
  const stages = [
    stage('good', `ran(); console.log('{"answer": 42}')`),
    stage(
      'bad',
      `ran(); console.log('half'); console.error('it is broken'); process.exit(fs.existsSync('${at('mended')}') ? 0 : 3)`,
    ),
    stage('slow', `ran(); ${stubbornFamily(at('pids'))}`, 1.5),
    stage('last', `ran(); console.log('plain words')`),
  ];
  const first = await run(stages);
  expect(states(first)).toEqual(['good done', 'bad failed', 'slow timed out', 'last done']);
  expect(first[1]).toMatchObject({ code: 3, why: 'it is broken' });
  expect(first[2]).toMatchObject({ code: null, why: 'it was stopped after 2 s' });
  expect(first[2]!.seconds).toBeGreaterThan(1.4);
  expect(JSON.parse(readFileSync(at('out/good.json'), 'utf8'))).toEqual({ answer: 42 });
  expect(readFileSync(at('out/last.txt'), 'utf8')).toBe('plain words\n');
  expect(readFileSync(at('out/bad.log'), 'utf8')).toBe('it is broken\n');
  for (const pid of JSON.parse(readFileSync(at('pids'), 'utf8')) as number[]) expect(alive(pid)).toBe(false);
  expect(await stageRecords(at('out'))).toEqual(first);

  writeFileSync(at('mended'), '');
  const second = await run(stages);
  expect(states(second)).toEqual(['good done', 'bad done', 'slow timed out', 'last done']);
  expect(['good', 'bad', 'slow', 'last'].map(runs)).toEqual([1, 2, 2, 1]);
});

it('another version, or a stage that is asked for otherwise, runs again', async () => {
  const body = `ran(); console.log('{}')`;
  await run([stage('one', body), stage('two', body)]);
  await run([stage('one', body), stage('two', `${body};`)]);
  expect([runs('one'), runs('two')]).toEqual([1, 2]);
  await run([stage('one', body), stage('two', `${body};`)], { version: '2' });
  expect([runs('one'), runs('two')]).toEqual([2, 3]);
});

it('interrupted, it stops the stage with all its processes, and goes on the next time', async () => {
  const controller = new AbortController();
  const family = stage(
    'family',
    `ran(); if (!fs.existsSync('${at('pids')}')) {${stubbornFamily(at('pids'))}} else console.log('{}')`,
  );
  const stages = [stage('before', `ran(); console.log('{}')`), family, stage('after', `ran(); console.log('{}')`)];
  const watch = setInterval(() => existsSync(at('pids')) && controller.abort(), 50);
  const error = await run(stages, { signal: controller.signal }).catch((e: unknown) => e);
  clearInterval(watch);
  expect(error).toBeInstanceOf(InterruptedError);
  expect(states(await stageRecords(at('out')))).toEqual(['before done', 'family interrupted', 'after not run']);
  for (const pid of JSON.parse(readFileSync(at('pids'), 'utf8')) as number[]) expect(alive(pid)).toBe(false);

  expect(states(await run(stages))).toEqual(['before done', 'family done', 'after done']);
  expect(['before', 'family', 'after'].map(runs)).toEqual([1, 2, 1]);
});

it('one that has left something goes on at the next run, and what uses its results runs again after it', async () => {
  const tune: Stage = {
    ...stage('tune', `ran(); console.log(JSON.stringify({ left: 2 - fs.readFileSync('${at('tune.runs')}').length }))`),
    leaves: (printed) => ((printed as { left: number }).left > 0 ? '1 problem is left' : ''),
  };
  const body = `ran(); console.log('{}')`;
  const stages = [tune, { ...stage('use', body), follows: 'tune' }, stage('other', body)];
  const first = await run(stages);
  expect(states(first)).toEqual(['tune unfinished', 'use done', 'other done']);
  expect(first[0]).toMatchObject({ code: 0, why: '1 problem is left' });
  expect(states(await run(stages))).toEqual(['tune done', 'use done', 'other done']);
  await run(stages);
  expect(['tune', 'use', 'other'].map(runs)).toEqual([2, 2, 1]);
});

it('one that is killed fails, and a program that is not there is an error', async () => {
  const records = await run([
    stage('killed', `process.kill(process.pid, 'SIGKILL')`),
    stage('next', `console.log('{}')`),
  ]);
  expect(states(records)).toEqual(['killed failed', 'next done']);
  await expect(runChild(at('nothing'), [], { seconds: 5 })).rejects.toThrow('ENOENT');
});

it('beyond the time for all, stages are not run and said to be so', async () => {
  const records = await run([stage('long', STUBBORN, 50), stage('late', `ran(); console.log('{}')`)], { seconds: 1.5 });
  expect(states(records)).toEqual(['long timed out', 'late not run']);
  expect(records[1]!.why).toBe('the 1.5 seconds for all stages were over; run it again');
  expect(runs('late')).toBe(0);
});

it('a record that is damaged counts as none', async () => {
  const stages = [stage('one', `ran(); console.log('{}')`)];
  await run(stages);
  writeFileSync(at('out/stages.json'), '[{"name": 1}, null, "x"');
  expect(await stageRecords(at('out'))).toEqual([]);
  expect(states(await run(stages))).toEqual(['one done']);
  expect(runs('one')).toBe(2);
});

it('the report holds every stage, its result and the tables that it saved', async () => {
  const stages = [
    stage(
      'info',
      `console.log(JSON.stringify({ adapter: { name: 'A | B', driver: 'd 1', kind: 'gpu', vendor: 'v', architecture: 'a' }, backend: 'vulkan', runtime: { node: 'v20', platform: 'linux', arch: 'x64' } }))`,
    ),
    stage('verify', `console.log(JSON.stringify({ cases: [1, 2, 3], failed: 1 })); process.exit(1)`),
    stage(
      'model',
      `fs.mkdirSync('${at('out/model')}'); fs.writeFileSync('${at('out/model/m.md')}', '# Title\\n\\n| a |\\n'); console.log('{"x": 1}')`,
    ),
    stage('slow', STUBBORN, 1),
  ];
  const records = await run(stages);
  const report = await gatherReport(at('out'), { odelt: '1', date: '2026-01-02', quick: false, stages: records });
  expect(report.results).toMatchObject({ verify: { failed: 1 }, model: { x: 1 } });
  const text = await formatGpuReport(at('out'), report);
  expect(text).toContain('# A | B\n\nv, a, d 1 (gpu), vulkan; Node v20, linux x64.\nodelt 1, 2026-01-02.\n');
  expect(text).toMatch(/\| slow \| what slow says \| timed out \| [\d.]+ \| it was stopped after 1 s \|/);
  expect(text).toContain('## verify: what verify says\n\n2 of 3 recorded results of the reference agree.');
  expect(text).toContain('## model: what model says\n\n| a |\n');
});

it('paths and names of users are taken out', () => {
  const places = {
    home: '/home/jo',
    working: '/home/jo/work',
    temporary: '/tmp',
    program: '/home/jo/work/node_modules/odelt/dist',
    package: '/home/jo/work/node_modules/odelt',
  };
  expect(scrubbed('at /home/jo/work/node_modules/odelt/dist/cli.js:1, /home/jo/work/out and /home/jo/x', places)).toBe(
    'at <odelt>/cli.js:1, <here>/out and ~/x',
  );
  expect(scrubbed('"/home/kim/.local/icd.json" /Users/lee', places)).toBe(
    '"/home/<user>/.local/icd.json" /Users/<user>',
  );
  expect(scrubbed('"from /srv/app/node_modules/webgpu/x"', places)).toBe('"from <above>/node_modules/webgpu/x"');
  const windows = {
    ...places,
    home: 'C:\\Users\\Jo',
    working: 'C:\\Users\\Jo\\work',
    temporary: 'C:\\T',
    package: 'D:\\o',
    program: 'D:\\o',
  };
  expect(
    scrubbed(JSON.stringify({ a: 'C:\\Users\\Jo\\work\\x', b: 'C:/Users/Jo/y', c: 'C:\\Users\\Kim\\z' }), windows),
  ).toBe(JSON.stringify({ a: '<here>\\x', b: '~/y', c: 'C:\\Users\\<user>\\z' }));
});

it('folders are named for adapters by what every file system takes', () => {
  expect(folderName({ name: 'NVIDIA GeForce RTX 3080 Laptop GPU', kind: 'gpu' })).toBe(
    'nvidia-geforce-rtx-3080-laptop-gpu',
  );
  expect(folderName({ name: 'llvmpipe (LLVM 15, 256 bits)', kind: 'lavapipe' })).toBe(
    'llvmpipe-llvm-15-256-bits-lavapipe',
  );
  expect(folderName({ name: '../..', kind: 'gpu' })).toBe('adapter');
});

it("what a program said is told without Dawn's usual warnings", async () => {
  const warnings = ['Uniform', 'Storage'].map(
    (kind) => `Warning: maxDynamic${kind}BuffersPerPipelineLayout artificially reduced from 1000000 to 16 to fit`,
  );
  const body = `console.error(${JSON.stringify(`${warnings.join('\n')}\nLimitError: too large\nWarning: of mine\n`)})`;
  const ended = await runChild(process.execPath, ['-e', body], {});
  expect(ended.end).toBe('exited');
  expect(saidBy(ended)).toBe('LimitError: too large\nWarning: of mine');
});
