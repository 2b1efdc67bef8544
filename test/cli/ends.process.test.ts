/** Early ends that need no adapter: signals before a command is loaded, and output that nobody takes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCli, type Cli, ended } from '../support/cli.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli?.remove());

describe('a signal before there is anything to save', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s ends the command with 130, as later', async (signal) => {
    // Sent as soon as somebody listens for it, which is before the commands are loaded.
    const hook = join(cli.folder, `${signal}.mjs`);
    writeFileSync(
      hook,
      `process.on('newListener', (name) => { if (name === '${signal}') process.kill(process.pid, '${signal}'); });`,
    );
    const result = await ended(process.execPath, ['--import', hook, cli.path, '--help'], { cwd: cli.folder });
    expect(result).toEqual({ code: 130, signal: null, stdout: '', stderr: '' });
  });
});

describe('output that nobody takes', () => {
  it('ends the command with 141 and no message', async () => {
    const { stdout, stderr } = await cli.bash(`
      odelt --help | true; echo "$PIPESTATUS"
      odelt --bogus --json | true; echo "$PIPESTATUS"`);
    expect(stdout).toBe('141\n141\n');
    expect(stderr).not.toMatch(/EPIPE|internal error|\n\s+at /);
  });

  it('on standard error ends it, too', async () => {
    const { stdout } = await cli.bash('odelt sampel 2>&1 >/dev/null | true; echo "$PIPESTATUS"');
    expect(stdout).toBe('141\n');
  });

  it('because the disk is full is an error', async () => {
    for (const args of ['--version', '--help', 'sample --help']) {
      expect(await cli.bash(`odelt ${args} >/dev/full`)).toEqual({
        code: 1,
        signal: null,
        stdout: '',
        stderr: 'OutputError: standard output cannot be written\n  because: ENOSPC: no space left on device, write\n',
      });
    }
  });
});
