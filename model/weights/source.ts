/** Where a model's weights come from, group by group, so that only what is in use need be read; and reading ahead. */
import { throwIfAborted, unlessAborted } from '../../engine/abort.ts';
import { CheckpointError, LimitError, UsageError } from '../../engine/errors.ts';
import {
  decodeFloats,
  decodeHalves,
  noRoom,
  type SafetensorsHeader,
  type TensorInfo,
  tensorInfo,
} from '../../formats/safetensors.ts';
import { MAX_READ } from '../../formats/safetensors-header.ts';
import type { ModelConfig } from '../config.ts';
import { type ParamGroup, type ParamLayout, type ParamSet, type ParamSpec, paramLayout } from '../params.ts';
import { checkDigest, DamagedGroup, storedDigests } from './digests.ts';
import { type GroupValues, toFloats } from './quantize.ts';

/** Where the values of a group of parameters come from: memory, a file by offset, a URL by range. */
export interface GroupSource {
  readonly layout: ParamLayout;
  /** Bytes that reading this group takes. */
  bytesOf(group: number): number;
  /** Values of one group of the layout, padding (zero) included; not to be written to. */
  read(group: number, signal?: AbortSignal): Promise<GroupValues>;
}

/** Parameters that are already in host memory. */
export const memorySource = (params: ParamSet): GroupSource => ({
  layout: params.layout,
  bytesOf: (group) => at(params.groups, group).byteLength,
  read: async (group) => at(params.groups, group),
});

/** A source that reads parts of a weight file. */
export interface RangeSource extends GroupSource {
  /** Bytes of tensors read so far; the header is not counted. */
  readonly bytesRead: number;
}

/** An open weight file that describes its model, of which groups are read when they are asked for. */
export interface ModelSource {
  readonly config: ModelConfig;
  readonly metadata: ReadonlyMap<string, string>;
  readonly source: RangeSource;
  /** Ends access to the file; may be called more than once. */
  close(): Promise<void>;
}

/** Bytes [begin, end) of a file. */
export type FetchBytes = (begin: number, end: number, signal?: AbortSignal) => Promise<Uint8Array>;

/** Strangers' bytes between two tensors of a group that are read along, since another request would cost more. */
const MAX_GAP = 16 * 1024;

interface Placed {
  readonly info: TensorInfo;
  /** First element in the group's values. */
  readonly offset: number;
}

/** Bytes [begin, end) of the file that are read at once. */
interface Span {
  readonly begin: number;
  readonly end: number;
  readonly tensors: readonly Placed[];
}

function at<T>(groups: readonly T[], group: number): T {
  const found = groups[group];
  if (found === undefined) throw new UsageError(`there is no parameter group ${group}; there are ${groups.length}`);
  return found;
}

/** The parameter's place in the file. @throws CheckpointError if it is missing or has another shape or no float type. */
function placeOf({ name, shape, offset }: ParamSpec, header: SafetensorsHeader, file: string): Placed {
  const info = tensorInfo(header, name, file);
  if (info.shape.length !== shape.length || info.shape.some((size, i) => size !== shape[i])) {
    throw new CheckpointError(`${file}: ${name} has shape [${info.shape}], the model needs [${shape}]`, {
      hint: 'use the configuration that the weights were trained with',
    });
  }
  if (!['F32', 'F16', 'BF16'].includes(info.dtype)) {
    throw new CheckpointError(`${file}: ${name} holds ${info.dtype}; weights are F32, F16 or BF16`);
  }
  return { info, offset };
}

/** Reads for a group: one where its tensors are neighbours, as in odelt's own files; else as few as MAX_GAP allows. */
function spansOf(group: ParamGroup, header: SafetensorsHeader, file: string): Span[] {
  const placed = group.specs.map((spec) => placeOf(spec, header, file));
  placed.sort((a, b) => a.info.begin - b.info.begin);
  const runs: Placed[][] = [];
  let end = -Infinity;
  for (const place of placed) {
    if (place.info.begin - end > MAX_GAP) runs.push([]);
    runs.at(-1)!.push(place);
    end = place.info.end;
  }
  const spans = runs.map((tensors) => ({ begin: tensors[0]!.info.begin, end: tensors.at(-1)!.info.end, tensors }));
  for (const { begin, end } of [...spans, { begin: 0, end: group.length * 4 }]) {
    if (end - begin <= MAX_READ) continue;
    const amounts = { asked: end - begin, available: MAX_READ };
    throw new LimitError(`${file}: group ${group.name} takes ${end - begin} bytes; ${MAX_READ} is the most`, amounts);
  }
  return spans;
}

/** Whether all of a group's tensors are halves, which then stay as they are: half the host's memory, and no conversion. */
const holdsHalves = (spans: readonly Span[]): boolean =>
  spans.every(({ tensors }) => tensors.every(({ info }) => info.dtype === 'F16'));

/**
 * Reads a weight file's groups by their place in it: as halves where the file holds nothing else for a group, else as
 * floats. `header` is the file's, already checked (parseHeader); `fetchBytes` gets its bytes; `file` is its name for
 * messages. Each group that the file holds a digest of is compared with it; `fetchAnew`: where something keeps bytes on their
 * way, gets them past that, once for a group that does not agree.
 * @throws CheckpointError for a parameter that is missing, misshapen or of no float type, and from `read` for bytes short
 * of those asked for or other than the digest's; LimitError for a group beyond 2 GiB; from `read` OutOfMemoryError,
 * InterruptedError, UnsupportedError (see groupDigest) and whatever `fetchBytes` throws.
 */
export function rangeSource(
  header: SafetensorsHeader,
  config: ModelConfig,
  fetchBytes: FetchBytes,
  file: string,
  fetchAnew?: FetchBytes,
): RangeSource {
  const layout = paramLayout(config);
  const spans = layout.groups.map((group) => spansOf(group, header, file));
  const halves = spans.map(holdsHalves);
  const digests = storedDigests(header.metadata, layout, file);
  let bytesRead = 0;
  /** A group's tensors as the file has them, compared with its digest. */
  const readStored = async (group: number, fetchBytes: FetchBytes, signal?: AbortSignal) => {
    const { name, specs } = at(layout.groups, group);
    const stored = new Map<string, Uint8Array>();
    for (const { begin, end, tensors } of at(spans, group)) {
      throwIfAborted(signal, `reading ${file} was interrupted`);
      const bytes = await fetchBytes(begin, end, signal).catch((cause: unknown) => {
        throw noRoom(`${file}: group ${name}`, end - begin, cause);
      });
      if (bytes.length !== end - begin) {
        throw new CheckpointError(`${file}: asked for ${end - begin} bytes at ${begin}, got ${bytes.length}`);
      }
      bytesRead += bytes.length;
      for (const { info } of tensors) stored.set(info.name, bytes.subarray(info.begin - begin, info.end - begin));
    }
    const inOrder = specs.map((spec) => stored.get(spec.name)!);
    await checkDigest(inOrder, digests[group], name, file);
    return stored;
  };
  return {
    layout,
    get bytesRead() {
      return bytesRead;
    },
    bytesOf: (group) => at(spans, group).reduce((sum, { begin, end }) => sum + end - begin, 0),
    read: async (group, signal) => {
      const { name, length } = at(layout.groups, group);
      const stored = await readStored(group, fetchBytes, signal).catch((error: unknown) => {
        if (!fetchAnew || !(error instanceof DamagedGroup)) throw error;
        return readStored(group, fetchAnew, signal);
      });
      try {
        const values = halves[group] ? new Uint16Array(length) : new Float32Array(length);
        const decode = halves[group] ? decodeHalves : decodeFloats;
        for (const { tensors } of at(spans, group)) {
          for (const { info, offset } of tensors) values.set(decode(info, stored.get(info.name)!), offset);
        }
        return values;
      } catch (cause) {
        throw noRoom(`${file}: group ${name}`, 4 * length, cause);
      }
    },
  };
}

/** All groups of a source, as floats. @throws what reading one throws. */
export async function readParams(source: GroupSource): Promise<ParamSet> {
  const groups: Float32Array[] = [];
  for (const group of source.layout.groups.keys()) groups.push(toFloats(await source.read(group)));
  return { layout: source.layout, groups };
}

/** How far the reading of some groups is. */
export interface GroupProgress {
  /** Of the group that it is about. */
  readonly name: string;
  /** Bytes of the groups that have arrived so far. */
  readonly bytes: number;
  readonly totalBytes: number;
}

/**
 * `source`, telling `onGroup` before each of these groups is read for the first time: its name and the bytes so far. Around a
 * source that reads ahead it tells what somebody waits for, which is what a user wants to know.
 */
export function reporting(
  source: GroupSource,
  groups: readonly number[],
  onGroup: (progress: GroupProgress) => void,
): GroupSource {
  const unread = new Set(groups);
  const totalBytes = [...unread].reduce((sum, group) => sum + source.bytesOf(group), 0);
  let bytes = 0;
  return {
    layout: source.layout,
    bytesOf: (group) => source.bytesOf(group),
    read: async (group, signal) => {
      if (!unread.has(group)) return source.read(group, signal);
      onGroup({ name: source.layout.groups[group]!.name, bytes, totalBytes });
      const values = await source.read(group, signal);
      if (unread.delete(group)) bytes += source.bytesOf(group);
      return values;
    },
  };
}

/** How groups are read ahead. */
export interface PrefetchOptions {
  /** Aborting stops this prefetch and drops what it has read; groups that are asked for later are read anew. */
  readonly signal?: AbortSignal;
  /** Told of each group that has arrived; `bytes` and `totalBytes` are of those that this call asked for. */
  readonly onGroup?: (progress: GroupProgress) => void;
}

/** A source that reads ahead. */
export interface PrefetchingSource extends GroupSource {
  /**
   * Starts reading these groups in the background, one at a time and in order, behind prefetches started before; those
   * already on their way are left out. Each stays in host memory until `read` takes it, or for good with `keep`. An error
   * fails the group and those behind it: `read` of each throws it once, and reads anew the next time.
   */
  prefetch(groups: readonly number[], options?: PrefetchOptions): void;
}

/** A group on its way or arrived, and the call of `prefetch` that asked for it. */
interface Pending {
  readonly values: Promise<GroupValues>;
  readonly call: symbol;
}

/**
 * `source` with reading ahead; `read` waits for a group that is on its way and hands out one that has arrived. With `keep`
 * whatever has been read stays in host memory, so that nothing is read twice.
 */
export function prefetching(source: GroupSource, options: { keep?: boolean } = {}): PrefetchingSource {
  const pending = new Map<number, Pending>();
  let last: Promise<void> = Promise.resolve();
  const forget = (group: number, call: symbol) => {
    if (pending.get(group)?.call === call) pending.delete(group);
  };
  return {
    layout: source.layout,
    bytesOf: (group) => source.bytesOf(group),
    read: async (group, signal) => {
      const found = pending.get(group);
      if (found === undefined) {
        const read = await source.read(group, signal);
        if (options.keep) pending.set(group, { values: Promise.resolve(read), call: Symbol() });
        return read;
      }
      const values = await unlessAborted(found.values, signal, 'waiting for weights was interrupted').catch(
        (error: unknown) => {
          // A reader that gives up leaves the prefetch as it is.
          if (!signal?.aborted) forget(group, found.call);
          throw error;
        },
      );
      if (!options.keep) forget(group, found.call);
      return values;
    },
    prefetch: (groups, { signal, onGroup } = {}) => {
      if (signal?.aborted) return;
      const call = Symbol();
      const fresh = [...new Set(groups)].filter((group) => !pending.has(group));
      const totalBytes = fresh.reduce((sum, group) => sum + source.bytesOf(group), 0);
      let bytes = 0;
      // Whether the prefetch before failed is its readers' business.
      last = last.catch(() => undefined);
      for (const group of fresh) {
        const values = last.then(async () => {
          const read = await source.read(group, signal);
          bytes += source.bytesOf(group);
          onGroup?.({ name: source.layout.groups[group]!.name, bytes, totalBytes });
          return read;
        });
        pending.set(group, { values, call });
        last = values.then(() => undefined);
        // Nobody may ever read this group: its failure must not end the process.
        last.catch(() => undefined);
      }
      // Holds no values: a signal may outlive them.
      signal?.addEventListener('abort', () => void fresh.map((group) => forget(group, call)), { once: true });
    },
  };
}
