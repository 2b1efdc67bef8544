/** Tuning under Node: a file for each adapter in the user's cache folder. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TuningError } from '../engine/errors.ts';
import { cacheFolder } from '../engine/folders.node.ts';
import { failAs, readRegular, writeText } from '../formats/files.node.ts';
import { hash32 } from './hash.ts';
import type { TuningStore } from './store.ts';
import { adapterKey, checkAdapter, parseTableText, type TunedAdapter, type TuningTable } from './table.ts';

/** A store that can say what it holds. */
export interface FileStore extends TuningStore {
  readonly folder: string;
  /** Path of an adapter's table, whether there is one or not. */
  path(adapter: TunedAdapter): string;
  /** Every table in the folder, by its path; an error in the place of one that cannot be read. */
  list(): Promise<{ path: string; table: TuningTable | TuningError }[]>;
}

/** More than any table has. */
const MOST_BYTES = 64 << 20;

/** The table in a file. @throws TuningError for a file that cannot be read, or holds no whole table of this version. */
export async function readTable(path: string): Promise<TuningTable> {
  const fail = failAs(TuningError, path, 'give a file that `odelt tune --out` wrote');
  const bytes = await readRegular(path, { most: MOST_BYTES, fail });
  return parseTableText(new TextDecoder().decode(bytes), path);
}

/** @throws OutputError. */
export const writeTable = (path: string, table: TuningTable): Promise<void> =>
  writeText(path, `${JSON.stringify(table, null, 1)}\n`);

/** Tables in a folder; default: `tuning` in odelt's part of the user's cache ($XDG_CACHE_HOME, else ~/.cache). */
export function fileStore(folder = join(cacheFolder(), 'tuning')): FileStore {
  const path = (adapter: TunedAdapter) => join(folder, `${fileName(adapter)}.json`);
  const names = (): Promise<string[]> =>
    readdir(folder).catch((cause: NodeJS.ErrnoException): string[] => {
      if (cause.code === 'ENOENT') return [];
      throw new TuningError(`${folder} cannot be read`, { cause, hint: 'check permissions, or set XDG_CACHE_HOME' });
    });
  return {
    folder,
    path,
    async get(adapter) {
      const file = path(adapter);
      if (!(await names()).includes(`${fileName(adapter)}.json`)) return null;
      const table = await readTable(file);
      checkAdapter(table, adapter, file);
      return table;
    },
    put: (table) => writeTable(path(table.adapter), table),
    async list() {
      const files = (await names()).filter((name) => name.endsWith('.json')).sort();
      return Promise.all(
        files.map(async (name) => {
          const file = join(folder, name);
          const table = await readTable(file).catch((error: unknown) => {
            if (error instanceof TuningError) return error;
            throw error;
          });
          return { path: file, table };
        }),
      );
    },
  };
}

/** Readable, and different for different adapters and drivers. */
function fileName(adapter: TunedAdapter): string {
  const readable = adapter.name.replace(/[^A-Za-z0-9]+/g, '-').slice(0, 60);
  return `${readable}-${hash32(adapterKey(adapter))}`;
}
