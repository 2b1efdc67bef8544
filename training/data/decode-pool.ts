/** Worker threads that decode pictures, so that training's own thread only waits for them: started as needed, ended by `close`. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { DataError, InterruptedError } from '../../engine/errors.ts';
import { loadSharp } from './sharp.ts';

/** What a row group of a parquet file is unpacked from. */
export interface RowGroupJob {
  /** Bytes of its column from `begin` on. Given away. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly begin: number;
  readonly fileSize: number;
  /** Of the file, with this row group alone. */
  readonly metadata: unknown;
  readonly column: string;
  /** Most bytes that its pictures may have together. */
  readonly most: number;
}

/** Encoded pictures one after the other, and where each ends. */
export interface PackedPictures {
  readonly packed: Uint8Array;
  readonly ends: Float64Array;
}

/** Decodes in worker threads. `what` names the picture in errors, all of which are DataErrors, or InterruptedErrors after `close`. */
export interface DecodePool {
  /** Pixels of the picture whose bytes `load` gives, when a thread has time for it. The bytes are given away. */
  decode(load: () => Promise<Uint8Array<ArrayBuffer>>, what: string): Promise<Uint8Array>;
  /** The pictures of a row group. A damaged one may keep a thread busy for ever: it is ended after a while. */
  unpack(job: RowGroupJob, what: string): Promise<PackedPictures>;
  /** The same for a column of labels; NaN for what is no number. */
  labels(job: RowGroupJob, what: string): Promise<Float64Array>;
  close(): Promise<void>;
}

/** Threads at most, and pictures that one works on at a time: sharp waits for its own threads meanwhile. */
const MOST_THREADS = 8;
const AT_A_TIME = 4;

/** Milliseconds that a row group may take: so many, and so many for each byte of it. */
const PATIENCE = 20_000;
const PATIENCE_PER_BYTE = 1e-3;

interface Thread {
  readonly worker: Worker;
  /** Rejects all that is pending there; no more is given to it. */
  readonly fail: (why: string, cause?: unknown) => void;
  readonly pending: Map<number, { resolve: (result: never) => void; reject: (error: Error) => void; what: string }>;
}

/** A pool that decodes to squares of side `size` with `channels` channels (1: grey, 3: sRGB). No thread is started yet. */
export function createDecodePool(size: number, channels: 1 | 3): DecodePool {
  const threads: Thread[] = [];
  const most = Math.min(MOST_THREADS, Math.max(1, availableParallelism() - 1));
  const waiting: (() => void)[] = [];
  let places = most * AT_A_TIME;
  let ids = 0;
  let closed = false;
  let sharp: Promise<unknown> | undefined;

  const start = (): Thread => {
    const worker = new Worker(new URL('./decode-worker.js', import.meta.url), { workerData: { size, channels } });
    const pending: Thread['pending'] = new Map();
    const fail = (why: string, cause?: unknown) => {
      const at = threads.indexOf(thread);
      if (at >= 0) threads.splice(at, 1);
      for (const { reject, what } of pending.values()) {
        reject(
          closed
            ? new InterruptedError(`reading ${what} was interrupted`)
            : new DataError(`${what} could not be decoded: ${why}`, { cause }),
        );
      }
      pending.clear();
    };
    const thread: Thread = { worker, pending, fail };
    worker.on('message', ({ id, result, failure }: { id: number; result: never; failure?: string }) => {
      const job = pending.get(id);
      if (!job) return;
      pending.delete(id);
      if (pending.size === 0) worker.unref();
      if (failure === undefined) job.resolve(result);
      else job.reject(new DataError(`${job.what}: ${failure}`, { hint: 'Replace the picture, or leave it out.' }));
    });
    worker.on('error', (error) => fail(error.message, error));
    worker.on('exit', (code) => fail(`its thread ended with ${code}`));
    threads.push(thread);
    return thread;
  };

  const post = <T>(
    message: Record<string, unknown>,
    moved: ArrayBuffer,
    what: string,
    patience?: number,
  ): Promise<T> => {
    if (closed) return Promise.reject(new InterruptedError(`reading ${what} was interrupted`));
    const idle = threads.find(({ pending }) => pending.size === 0);
    const least = [...threads].sort((a, b) => a.pending.size - b.pending.size)[0];
    const thread = idle ?? (threads.length < most || !least ? start() : least);
    return new Promise<T>((resolve, reject) => {
      const id = ids++;
      const timer =
        patience === undefined
          ? undefined
          : setTimeout(() => {
              thread.fail(`nothing came of it in ${Math.round(patience / 1000)} seconds`);
              void thread.worker.terminate();
            }, patience);
      const ended =
        <A>(then: (value: A) => void) =>
        (value: A) => {
          clearTimeout(timer);
          then(value);
        };
      thread.worker.ref(); // what is waited for keeps the process alive, an idle thread does not
      thread.pending.set(id, { resolve: ended(resolve), reject: ended(reject), what });
      thread.worker.postMessage({ id, ...message }, [moved]);
    });
  };
  const rowGroup = <T>(job: 'unpack' | 'labels', given: RowGroupJob, what: string) =>
    post<T>({ job, ...given }, given.bytes.buffer, what, PATIENCE + PATIENCE_PER_BYTE * given.bytes.length);

  return {
    async decode(load, what) {
      sharp ??= loadSharp();
      await sharp;
      // Bytes are read only when there is a place for them, so that they do not pile up.
      if (places > 0) places -= 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        if (closed) throw new InterruptedError(`reading ${what} was interrupted`);
        const bytes = await load();
        return await post<Uint8Array>({ job: 'decode', bytes }, bytes.buffer, what);
      } finally {
        const next = waiting.shift();
        if (next) next();
        else places += 1;
      }
    },
    unpack: (job, what) => rowGroup('unpack', job, what),
    labels: (job, what) => rowGroup('labels', job, what),
    async close() {
      closed = true;
      await Promise.all(threads.map(({ worker }) => worker.terminate()));
    },
  };
}
