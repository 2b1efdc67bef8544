/** Timestamps of passes: a query set, and the buffers by which its values come back. */
import type { Engine } from './engine.ts';
import { UsageError } from './errors.ts';

/** While the timestamps are there. */
export interface Timestamps {
  readonly queries: GPUQuerySet;
  /** Ends and submits an encoder whose passes wrote the first `count` timestamps, waits, and reads them, in nanoseconds. */
  submit(encoder: GPUCommandEncoder, count: number): Promise<BigUint64Array>;
}

const QUERY_RESOLVE_COPY_SRC = 0x200 | 0x4;
const MAP_READ_COPY_DST = 0x1 | 0x8;

/**
 * Calls `body` with room for `capacity` timestamps, which is freed afterwards.
 * @throws UsageError for a device without 'timestamp-query', naming `what` was to be timed; OutOfMemoryError.
 */
export async function withTimestamps<T>(
  engine: Engine,
  what: string,
  capacity: number,
  body: (timestamps: Timestamps) => Promise<T>,
): Promise<T> {
  const { device, memory } = engine;
  if (!device.features.has('timestamp-query'))
    throw new UsageError(`this device has no 'timestamp-query' to time '${what}' with`);
  const queries = device.createQuerySet({ type: 'timestamp', count: capacity });
  const buffers: GPUBuffer[] = [];
  const create = (label: string, usage: number) => {
    const buffer = memory.create('staging', label, capacity * 8, usage);
    buffers.push(buffer);
    return buffer;
  };
  try {
    const resolved = create('timestamps', QUERY_RESOLVE_COPY_SRC);
    const staging = create('timestamps/read', MAP_READ_COPY_DST);
    await engine.allocated();
    return await body({
      queries,
      async submit(encoder, count) {
        encoder.resolveQuerySet(queries, 0, count, resolved, 0);
        encoder.copyBufferToBuffer(resolved, 0, staging, 0, count * 8);
        device.queue.submit([encoder.finish()]);
        // Before the mapping: the engine knows how to wait without taking the cores that compute.
        await engine.idle();
        await staging.mapAsync(1);
        const times = new BigUint64Array(staging.getMappedRange().slice(0, count * 8));
        staging.unmap();
        return times;
      },
    });
  } finally {
    queries.destroy();
    for (const buffer of buffers) memory.destroy(buffer);
  }
}
