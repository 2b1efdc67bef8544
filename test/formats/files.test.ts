/** Reading files that may be anything: only regular ones are read, and nothing else is waited for. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { DataError } from '../../engine/errors.ts';
import { openRegular, readRegular } from '../../formats/files.node.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-files-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const at = (name: string) => join(scratch, name);
const fail = (problem: string, cause?: unknown): never => {
  throw new DataError(`file ${problem}`, { cause });
};

describe('readRegular', () => {
  it('reads a file, through a link too, and refuses one that is too large', async () => {
    writeFileSync(at('five'), Uint8Array.of(1, 2, 3, 4, 5));
    symlinkSync(at('five'), at('link'));
    expect([...(await readRegular(at('five'), { most: 5, fail }))]).toEqual([1, 2, 3, 4, 5]);
    expect([...(await readRegular(at('link'), { fail }))]).toEqual([1, 2, 3, 4, 5]);
    await expect(readRegular(at('five'), { most: 4, fail })).rejects.toThrow(
      new DataError('file has 5 bytes; at most 4 are expected'),
    );
  });

  it('gives ranges, and says where a file that has shrunk ends', async () => {
    writeFileSync(at('shrinks'), Uint8Array.of(1, 2, 3, 4, 5));
    const file = await openRegular(at('shrinks'), fail);
    expect(file.size).toBe(5);
    expect([...(await file.read(1, 3))]).toEqual([2, 3]);
    truncateSync(at('shrinks'), 2);
    await expect(file.read(0, 5)).rejects.toThrow(new DataError('file ends at byte 2, expected more until 5'));
    await Promise.all([file.close(), file.close()]);
  });

  it.skipIf(process.platform === 'win32')(
    'neither waits for a pipe nor reads devices, sockets, folders, bad links',
    async () => {
      execFileSync('mkfifo', [at('pipe')]);
      mkdirSync(at('folder'));
      symlinkSync(at('nowhere'), at('dangling'));
      symlinkSync(at('loop'), at('loop'));
      writeFileSync(at('secret'), 'x');
      chmodSync(at('secret'), 0);
      const server = createServer().listen(at('socket'));
      const problem = (name: string) => readRegular(at(name), { fail }).catch((error: unknown) => error);
      expect(await problem('pipe')).toEqual(new DataError('file is no regular file'));
      expect(await problem('/../../../../../../dev/zero')).toEqual(new DataError('file is no regular file'));
      expect(await problem('socket')).toEqual(new DataError('file is no regular file'));
      expect(await problem('folder')).toEqual(new DataError('file is a folder'));
      expect(await problem('dangling')).toEqual(
        new DataError('file cannot be read: there is no such file, or it is a link to nothing'),
      );
      expect(await problem('loop')).toEqual(new DataError('file cannot be read: it is a link that leads to itself'));
      expect(await problem('secret/x')).toEqual(
        new DataError('file cannot be read: a file is in the place of a folder'),
      );
      server.close();
      // Whoever may read everything is made somebody else for this one.
      const root = process.geteuid?.() === 0;
      if (root) chmodSync(scratch, 0o755);
      if (root) process.seteuid!(65534);
      try {
        expect(await problem('secret')).toEqual(new DataError('file cannot be read: no permission'));
      } finally {
        if (root) process.seteuid!(0);
      }
    },
  );
});

it('reads more at once than one call of the system may', async () => {
  writeFileSync(at('long'), 'ab');
  truncateSync(at('long'), 2 ** 31 + 1);
  const bytes = await readRegular(at('long'), { fail });
  expect(bytes.length).toBe(2 ** 31 + 1);
  expect([...bytes.subarray(0, 3), bytes.at(-1)]).toEqual([97, 98, 0, 0]);
});
