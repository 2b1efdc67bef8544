/** Commands at work that are interrupted, hung up on or no longer read: training keeps its checkpoint, and nobody sees a stack. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCli, type Cli, type Ended, ended } from '../support/cli.ts';
import { ROOT } from '../support/repository.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli?.remove());

/** Far more updates than are waited for, each of them short. */
const TRAIN = '--steps 100000 --save-every 100000 --batch 8 --width 16 --heads 2 --depth 4 --patch 7'.split(' ');

/** The only checkpoint of a run is of the last update in its log. */
function expectCheckpoint(run: string): void {
  const lines = readFileSync(join(cli.folder, run, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n');
  expect(lines.length).toBeGreaterThan(0);
  const { step } = JSON.parse(lines.at(-1)!);
  expect(step).toBe(lines.length);
  expect(readdirSync(join(cli.folder, run, 'checkpoints'))).toEqual([`step-${step}`]);
  expect(existsSync(join(cli.folder, run, 'checkpoints', `step-${step}`, 'optim.safetensors'))).toBe(true);
  expect(readFileSync(join(cli.folder, run, 'loss.svg'), 'utf8')).toMatch(/^<svg [\s\S]*>flow<[\s\S]*<\/svg>\n$/);
}

describe('train', () => {
  /** Trains until the first update has been said, then lets `then` end it. */
  const train = (run: string, then: (kill: (signal: NodeJS.Signals) => void) => void): Promise<Ended> => {
    let begun = false;
    return ended(process.execPath, [cli.path, 'train', '--out', run, ...TRAIN], {
      cwd: cli.folder,
      onStderr: (text, kill) => {
        if (begun || !/^step \d/m.test(text)) return;
        begun = true;
        then(kill);
      },
    });
  };

  it.each([
    ['SIGINT', 'stopping after this step (press Ctrl-C again to stop at once)'],
    ['SIGTERM', 'stopping after this step (press Ctrl-C again to stop at once)'],
    ['SIGHUP', 'InterruptedError'],
  ] as const)('writes a checkpoint after %s and exits with 130', async (signal, said) => {
    const { code, stderr, stdout } = await train(signal, (kill) => kill(signal));
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(stderr).toContain(said);
    expect(stderr).toMatch(/InterruptedError: /);
    expectCheckpoint(signal);
  });

  it('takes signals that arrive together for one: npm and timeout send what the terminal has sent already', async () => {
    const { code, stderr } = await train('together', (kill) => {
      kill('SIGINT');
      setTimeout(() => kill('SIGINT'), 5);
    });
    expect(code).toBe(130);
    expect(stderr.match(/stopping after this step/g)).toHaveLength(1);
    expectCheckpoint('together');
  });

  it('is not ended at once by the second hang-up of a closing terminal', async () => {
    const { code } = await train('twice', (kill) => {
      kill('SIGHUP');
      kill('SIGHUP');
      setTimeout(() => kill('SIGHUP'), 5);
    });
    expect(code).toBe(130);
    expectCheckpoint('twice');
  });

  it('writes a checkpoint when its terminal is closed', async (test) => {
    if (!existsSync('/usr/bin/script')) test.skip('script(1) is not installed, which gives a terminal');
    const command = `exec "${process.execPath}" "${cli.path}" train --out closed ${TRAIN.join(' ')}`;
    const { stdout } = await cli.bash(`
      script -qfc '${command}' typescript >/dev/null 2>&1 &
      terminal=$!
      until grep -aq '^step' <(tr '\\r' '\\n' <typescript); do sleep 0.2; done
      kill -9 $terminal
      until ls closed/checkpoints | grep -x 'step-[0-9]*'; do sleep 0.2; done`);
    expect(stdout).toMatch(/^step-\d+\n$/);
    expectCheckpoint('closed');
  });

  it('writes a checkpoint when nobody reads its messages any more', async () => {
    const { stdout } = await cli.bash(
      `odelt train --out unread ${TRAIN.join(' ')} 2>&1 | grep -m1 '^step'; echo "$PIPESTATUS"`,
    );
    expect(stdout).toMatch(/^step \d+\/100000 .*\n141\n$/);
    expectCheckpoint('unread');
  });
});

describe('verify', () => {
  const golden = '--only forward';

  it('ends quietly when its reader has gone', async () => {
    const { stdout, stderr } = await cli.bash(`odelt verify ${golden} | head -c1; echo " $PIPESTATUS"`);
    expect(stdout).toBe('o 141\n');
    expect(stderr).not.toMatch(/Error|\n\s+at /);
  });

  it('prints all of its JSON through a slow pipe', async () => {
    const { stdout } = await cli.bash(`odelt verify --json ${golden} | (sleep 1; cat)`);
    const { cases, failed } = JSON.parse(stdout);
    expect(cases.length).toBeGreaterThan(10);
    expect(failed).toBe(0);
  });

  it('prints one document when there is an error, with the result where there is one', async () => {
    const none = await cli.run('verify', '--only', 'no such case', '--json');
    expect(none.code).toBe(2);
    expect(JSON.parse(none.stdout).error.message).toContain("contains 'no such case'");
    // A recording with its numbers wiped out.
    const from = join(ROOT, 'test/fixtures/golden/a');
    mkdirSync(join(cli.folder, 'golden', 'a'), { recursive: true });
    for (const name of ['config.json', 'forward.safetensors']) {
      const bytes = readFileSync(join(from, name));
      if (name !== 'config.json') bytes.fill(0, 8 + Number(bytes.readBigUInt64LE(0)));
      writeFileSync(join(cli.folder, 'golden', 'a', name), bytes);
    }
    const wrong = await cli.run('verify', 'golden', '--json');
    expect(wrong.code).toBe(1);
    const { failed, cases, error } = JSON.parse(wrong.stdout);
    expect(failed).toBeGreaterThan(0);
    expect(error).toMatchObject({ name: 'OdeltError', code: 'verify' });
    expect(error.message).toContain(`${failed} of ${cases.length} cases fail on `);
    expect(wrong.stderr).toContain(error.message);
  });
});

describe('info', () => {
  it('fails when its report cannot be written', async () => {
    const { code, stderr } = await cli.bash('odelt info --json >/dev/full');
    expect(code).toBe(1);
    expect(stderr).toContain('OutputError: standard output cannot be written\n  because: ENOSPC');
  });
});

describe('bench memory --run', () => {
  it('ends with 130 and says how many settings were measured', async () => {
    const { code, stdout, stderr } = await cli.watch(['bench', 'memory', '--run', '--preset', 'tiny', '--json'], {
      cwd: cli.folder,
      onStderr: (text, kill) => {
        if (/\(2 of \d+\)\n$/.test(text)) kill('SIGINT');
      },
    });
    expect(code, stderr).toBe(130);
    const { name, message } = JSON.parse(stdout).error;
    expect([name, message]).toEqual([
      'InterruptedError',
      expect.stringMatching(/^measuring was interrupted after 1 of \d+ settings$/),
    ]);
  });
});

describe('sample', () => {
  it('ends quietly when nobody takes its JSON, its picture written', async () => {
    const { stdout, stderr } = await cli.bash(
      'odelt sample --count 2 --steps 1 --blocks 4 --json --out s.png | true; echo "$PIPESTATUS"',
    );
    expect(stdout).toBe('141\n');
    expect(stderr).not.toMatch(/Error|\n\s+at /);
    expect(readFileSync(join(cli.folder, 's.png')).subarray(1, 4).toString()).toBe('PNG');
  });
});
