/** Where tuning is kept between uses: a table for each adapter and driver. In browsers that is IndexedDB. */
import { TuningError } from '../engine/errors.ts';
import { adapterKey, checkAdapter, parseTable, type TunedAdapter, type TuningTable } from './table.ts';

/** Keeps one table for each adapter. */
export interface TuningStore {
  /** The adapter's table; null where there is none. @throws TuningError for one that is damaged, of another version or adapter. */
  get(adapter: TunedAdapter): Promise<TuningTable | null>;
  /** Keeps a table in the place of the adapter's earlier one. */
  put(table: TuningTable): Promise<void>;
}

const TABLES = 'tables';

/** The browser's database of this name, of the page's own origin. @throws TuningError, from each call, where the browser has none or refuses. */
export function indexedDbStore(name = 'odelt-tuning'): TuningStore {
  const within = async <T>(mode: IDBTransactionMode, body: (tables: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    try {
      const database = await open(name);
      try {
        const transaction = database.transaction(TABLES, mode);
        const done = new Promise<void>((resolve, reject) => {
          transaction.oncomplete = () => resolve();
          transaction.onabort = () => reject(transaction.error);
        });
        const [value] = await Promise.all([settled(body(transaction.objectStore(TABLES))), done]);
        return value;
      } finally {
        database.close();
      }
    } catch (cause) {
      throw new TuningError(`the browser's database '${name}' cannot be used`, {
        cause,
        hint: 'private windows and full disks have none: go without tuning, or give a table yourself',
      });
    }
  };
  return {
    async get(adapter) {
      const value = await within<unknown>('readonly', (tables) => tables.get(adapterKey(adapter)));
      if (value === undefined) return null;
      const where = `tuning in the browser's database '${name}'`;
      const table = parseTable(value, where);
      checkAdapter(table, adapter, where);
      return table;
    },
    put: async (table) => void (await within('readwrite', (tables) => tables.put(table, adapterKey(table.adapter)))),
  };
}

function open(name: string): Promise<IDBDatabase> {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => void request.result.createObjectStore(TABLES);
  return settled(request);
}

const settled = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
