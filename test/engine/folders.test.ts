/** Making folders, where they can be made and where Node's own way never returns. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeFolder } from '../../engine/folders.node.ts';
import { writeText } from '../../formats/files.node.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-folders-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const at = (name: string) => join(scratch, name);

describe('makeFolder', () => {
  it('makes what is missing above it, and takes what is there', async () => {
    await Promise.all([makeFolder(at('new/one/a')), makeFolder(at('new/one/b'))]);
    await makeFolder(at('new/one/a'));
    await makeFolder('/');
    expect(readdirSync(at('new/one')).sort()).toEqual(['a', 'b']);
    writeFileSync(at('in-the-way'), 'x');
    await expect(makeFolder(at('in-the-way'))).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(makeFolder(at('in-the-way/x'))).rejects.toMatchObject({ code: 'ENOTDIR' });
  });

  it.runIf(process.platform === 'linux')('ends where the system never makes one', async () => {
    await expect(makeFolder('/proc/nothing/x')).rejects.toMatchObject({ code: 'ENOENT', path: '/proc/nothing' });
    await expect(writeText('/proc/nothing/x/file', '')).rejects.toMatchObject({
      code: 'output',
      message: '/proc/nothing/x/file cannot be written',
    });
  });
});
