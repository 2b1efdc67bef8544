/**
 * JAX's keys on the host: the threefry-2x32 hash (Salmon et al. 2011) and how keys and 32-bit words follow from it, bit for bit.
 * `partitionable` is JAX's default since 0.5: element i's word depends on i alone. Without it words also depend on how many are drawn.
 */
import { UsageError } from './errors.ts';

/** A key of JAX's: two 32-bit words. */
export type ThreefryKey = readonly [number, number];

/** How words follow from a key: JAX's flag `jax_threefry_partitionable`. Default true, as there. */
export interface ThreefryOptions {
  readonly partitionable?: boolean;
}

const ROTATIONS = [
  [13, 15, 26, 6],
  [17, 29, 16, 24],
] as const;
const PARITY = 0x1bd11bda;
const WORDS = 2 ** 32;

const rotated = (x: number, by: number) => (x << by) | (x >>> (32 - by));

/** Threefry-2x32 with 20 rounds: encrypts the counter (x0, x1). Of all of them the low 32 bits count. */
export function threefry2x32([k0, k1]: ThreefryKey, x0: number, x1: number): [number, number] {
  const keys = [k0, k1, k0 ^ k1 ^ PARITY];
  let a = (x0 + k0) | 0;
  let b = (x1 + k1) | 0;
  for (let group = 0; group < 5; group++) {
    for (const by of ROTATIONS[group % 2]!) {
      a = (a + b) | 0;
      b = rotated(b, by) ^ a;
    }
    a = (a + keys[(group + 1) % 3]!) | 0;
    b = (b + keys[(group + 2) % 3]! + group + 1) | 0;
  }
  return [a >>> 0, b >>> 0];
}

function checkWord(what: string, value: number): void {
  if (Number.isInteger(value) && value >= 0 && value < WORDS) return;
  throw new UsageError(`${what} is ${value}; it must be an integer in [0, 2^32)`);
}

/** `PRNGKey(seed)`. @throws UsageError unless the seed is an integer in [0, 2^32), all that JAX keeps of one by default. */
export function prngKey(seed: number): ThreefryKey {
  checkWord('the seed', seed);
  return [0, seed];
}

/** `fold_in(key, data)`: the key of one of many numbered uses. @throws UsageError unless data is an integer in [0, 2^32). */
export function foldIn(key: ThreefryKey, data: number): ThreefryKey {
  checkWord('data to fold in', data);
  return threefry2x32(key, 0, data);
}

/** `split(key, count)`: independent keys. @throws UsageError for a count below 0 or beyond 2^31. */
export function splitKey(key: ThreefryKey, count = 2, { partitionable = true }: ThreefryOptions = {}): ThreefryKey[] {
  if (!(Number.isInteger(count) && count >= 0 && count <= WORDS / 2))
    throw new UsageError(`a key cannot be split into ${count} keys`);
  if (partitionable) return Array.from({ length: count }, (_, i) => threefry2x32(key, 0, i));
  const words = wordsByHalves(key, 2 * count, 0, 2 * count);
  return Array.from({ length: count }, (_, i) => [words[2 * i]!, words[2 * i + 1]!]);
}

/** Which elements of an array to draw: `count` of them from number `first` on, of `total` (which matters only if not partitionable). */
export interface DrawRange {
  readonly count: number;
  readonly first?: number;
  readonly total?: number;
}

/**
 * `bits(key, [total])`, 32-bit words, of which elements first .. first + count - 1 are made.
 * @throws UsageError for a range outside [0, 2^53), or [0, 2^32) if not partitionable.
 */
export function randomBits(
  key: ThreefryKey,
  { count, first = 0, total = first + count }: DrawRange,
  { partitionable = true }: ThreefryOptions = {},
): Uint32Array<ArrayBuffer> {
  const whole = [count, first, total].every((n) => Number.isInteger(n) && n >= 0);
  if (!whole || first + count > total || total > (partitionable ? Number.MAX_SAFE_INTEGER : WORDS))
    throw new UsageError(`elements ${first} to ${first + count} of ${total} cannot be drawn`);
  if (!partitionable) return wordsByHalves(key, total, first, count);
  const words = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const [a, b] = threefry2x32(key, Math.floor((first + i) / WORDS), first + i);
    words[i] = a ^ b;
  }
  return words;
}

/** The older way: counters 0 .. total - 1, padded to an even number, of which element i of the first half meets i of the second. */
function wordsByHalves(key: ThreefryKey, total: number, first: number, count: number): Uint32Array<ArrayBuffer> {
  const half = Math.ceil(total / 2);
  return Uint32Array.from({ length: count }, (_, n) => {
    const i = (first + n) % half;
    const [a, b] = threefry2x32(key, i, i + half < total ? i + half : 0);
    return first + n < half ? a : b;
  });
}
