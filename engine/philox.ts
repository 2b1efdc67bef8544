/**
 * Counter-based random numbers on the CPU: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). A number is a pure function of (seed, stream, step, element), so nothing has to be saved to go on and no
 * order of evaluation changes it.
 *
 * Word order, shared bit for bit with the WGSL twin:
 *   key = (seed, stream), counter = (floor(element / 4), 0, step, 0); element e takes word e % 4 of the four.
 *   uniform: (w >>> 8) / 2^24.
 *   normal:  words 0, 1 make elements 0, 1 of a group of four, words 2, 3 make 2, 3 (Box-Muller):
 *            u1 = float32(((wa >>> 8) + 0.5) / 2^24), u2 = (wb >>> 8) / 2^24, r = sqrt(-2 ln u1),
 *            r cos(2 pi u2), then r sin(2 pi u2).
 * Integers and uniforms agree exactly between the twins; normals to the accuracy of the device's log, sqrt, cos and sin.
 */
import { ConfigError } from './errors.ts';

export type Words4 = readonly [number, number, number, number];
export type Words2 = readonly [number, number];

/** Names one sequence of random numbers; each field is an integer in [0, 2^32). */
export interface RandomSource {
  seed: number;
  /** What the numbers are for (noise, shuffling, ...): sources of different streams are independent. */
  stream: number;
  step: number;
}

const UNIT = 2 ** -24;
const WORDS = 2 ** 32;

/** Upper 32 bits of the 64-bit product of two unsigned 32-bit integers, by 16-bit halves (each sum stays below 2^32). */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/** Writes philox(counter, key) to out[at .. at + 3]; the hot path, which allocates nothing. */
function philoxInto(
  out: Uint32Array,
  at: number,
  counter0: number,
  counter1: number,
  counter2: number,
  counter3: number,
  key0: number,
  key1: number,
): void {
  let [c0, c1, c2, c3] = [counter0 >>> 0, counter1 >>> 0, counter2 >>> 0, counter3 >>> 0];
  let [k0, k1] = [key0 >>> 0, key1 >>> 0];
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0);
    const high1 = multiplyHigh(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[at] = c0;
  out[at + 1] = c1;
  out[at + 2] = c2;
  out[at + 3] = c3;
}

/** Philox4x32-10: four random words from a counter and a key of unsigned 32-bit words. */
export function philox(counter: Words4, key: Words2): [number, number, number, number] {
  const out = new Uint32Array(4);
  philoxInto(out, 0, ...counter, ...key);
  return [out[0]!, out[1]!, out[2]!, out[3]!];
}

function checkSource(source: RandomSource): void {
  for (const name of ['seed', 'stream', 'step'] as const) {
    const value = source[name];
    if (!Number.isInteger(value) || value < 0 || value >= WORDS) {
      throw new ConfigError(`random ${name} must be an integer in [0, 2^32), not ${value}`);
    }
  }
}

/** Elements [first, first + count) of the source as raw words. Throws ConfigError if a field is not a 32-bit integer. */
export function words(source: RandomSource, count: number, first = 0): Uint32Array {
  checkSource(source);
  const from = Math.floor(first / 4);
  const to = Math.ceil((first + count) / 4);
  const all = new Uint32Array(Math.max(to - from, 0) * 4);
  for (let group = from; group < to; group++) {
    philoxInto(all, (group - from) * 4, group, 0, source.step, 0, source.seed, source.stream);
  }
  return all.subarray(first - from * 4, first - from * 4 + count);
}

/** Uniform in [0, 1) in steps of 2^-24, hence exact in float32. */
export function uniforms(source: RandomSource, count: number, first = 0): Float32Array {
  return Float32Array.from(words(source, count, first), (word) => (word >>> 8) * UNIT);
}

/**
 * An integer in [0, n) from one word, by multiply and shift: floor(word * n / 2^32). A value's probability differs from
 * 1/n by less than 2^-32, which is below notice for the n of batches and data sets.
 */
export function below(word: number, n: number): number {
  return multiplyHigh(word, n);
}

/** Integers in [0, n); n an integer in [1, 2^32). */
export function integers(source: RandomSource, n: number, count: number, first = 0): Uint32Array {
  return words(source, count, first).map((word) => below(word, n));
}

/** Standard normals: elements [first, first + count) of the source, independent of how a range is cut into calls. */
export function normals(source: RandomSource, count: number, first = 0): Float32Array {
  const lead = first % 4;
  const raw = words(source, Math.ceil((lead + count) / 4) * 4, first - lead);
  const out = new Float32Array(raw.length);
  for (let i = 0; i < raw.length; i += 2) {
    const u1 = Math.fround(((raw[i]! >>> 8) + 0.5) * UNIT);
    const angle = 2 * Math.PI * (raw[i + 1]! >>> 8) * UNIT;
    const radius = Math.sqrt(-2 * Math.log(u1));
    out[i] = radius * Math.cos(angle);
    out[i + 1] = radius * Math.sin(angle);
  }
  return out.subarray(lead, lead + count);
}

/** A uniformly drawn order of 0 .. n-1 (Fisher-Yates; the swap of place i takes word i). */
export function permutation(source: RandomSource, n: number): Uint32Array {
  const draws = words(source, n);
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = below(draws[i]!, i + 1);
    const kept = order[i]!;
    order[i] = order[j]!;
    order[j] = kept;
  }
  return order;
}
