/** Tuning on disk: one file per adapter and driver, written whole, refused where it is not what it should be. */
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { OutputError, TuningError } from '../../engine/errors.ts';
import { fileStore, readTable } from '../../tuning/store.node.ts';
import { tableOf } from '../../tuning/table.ts';
import { rejection } from '../support/programs.ts';
import { adapter, table } from '../support/tuning-table.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'odelt-tuning-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const other = { ...adapter, driver: 'some driver 2' };

describe('a store of files', () => {
  it('gives what was put, for each adapter its own, and leaves nothing else behind', async () => {
    const store = fileStore(join(folder, 'a', 'b'));
    expect(await store.get(adapter)).toBeNull();
    expect(await store.list()).toEqual([]);
    await store.put(tableOf(adapter, []));
    await store.put(table);
    await store.put(tableOf(other, []));
    expect(await store.get(adapter)).toEqual(table);
    expect(await store.get(other)).toEqual(tableOf(other, []));
    expect(store.path(adapter)).not.toBe(store.path(other));
    expect(readdirSync(store.folder)).toHaveLength(2);
    expect((await store.list()).map((entry) => entry.table)).toEqual(
      expect.arrayContaining([table, tableOf(other, [])]),
    );
  });

  it('lies in the user’s cache, by an absolute path only', () => {
    vi.stubEnv('XDG_CACHE_HOME', folder);
    expect(fileStore().folder).toBe(join(folder, 'odelt', 'tuning'));
    vi.stubEnv('XDG_CACHE_HOME', 'cache');
    vi.stubEnv('HOME', folder);
    expect(fileStore().folder).toBe(join(folder, '.cache', 'odelt', 'tuning'));
  });

  it('refuses a file that is damaged, and one of another adapter, by its name', async () => {
    const store = fileStore(folder);
    await store.put(table);
    const path = store.path(adapter);
    const whole = readFileSync(path, 'utf8');
    writeFileSync(path, whole.slice(0, whole.length / 2));
    const torn = await rejection(store.get(adapter), TuningError);
    expect(torn.message).toBe(`${path} is damaged: it is no JSON`);
    expect((await store.list()).map((entry) => entry.table)).toEqual([torn]);
    writeFileSync(path, whole);
    renameSync(path, store.path(other));
    const foreign = await rejection(store.get(other), TuningError);
    expect(foreign.message).toContain(`${store.path(other)} was measured on Some GPU 9000 (some driver 1.2.3)`);
  });

  it('says why nothing can be kept or read', async () => {
    writeFileSync(join(folder, 'file'), '');
    const store = fileStore(join(folder, 'file', 'tuning'));
    await rejection(store.put(table), OutputError);
    expect((await rejection(store.get(adapter), TuningError)).message).toContain('cannot be read');
    const missing = await rejection(readTable(join(folder, 'none.json')), TuningError);
    expect(missing.message).toContain('none.json cannot be read: there is no such file');
  });
});
