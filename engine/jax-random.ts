/**
 * What `jax.random` draws from a key, on the host: uniforms, normals, integers, coin tosses and permutations, bit for bit as JAX
 * on a CPU. Normals go through XLA's float32 log1p and inverse error function with fused multiplications and additions, operation
 * by operation: a machine without them, and GPUs, differ from that in last bits, of their own normals too.
 */
import { UsageError } from './errors.ts';
import { type DrawRange, randomBits, splitKey, type ThreefryKey, type ThreefryOptions } from './threefry.ts';

const { fround } = Math;
const WORDS = 2 ** 32;

/** a b + c in float32, rounded once but for one case in about 2^29: the product is exact in a double, the sum is rounded twice. */
const fma = (a: number, b: number, c: number): number => fround(a * b + c);

const floats = (...values: number[]): readonly number[] => values.map(fround);

function polynomial(coefficients: readonly number[], x: number): number {
  let p = coefficients[0]!;
  for (let i = 1; i < coefficients.length; i++) p = fma(p, x, coefficients[i]!);
  return p;
}

const unit = (word: number): number => (word >>> 9) / 2 ** 23;

/**
 * `uniform(key, [total], minval, maxval)` in float32: [count] numbers in [min, max), default [0, 1). The bounds are rounded to float32.
 * @throws UsageError for a range that randomBits refuses.
 */
export function jaxUniform(
  key: ThreefryKey,
  range: DrawRange,
  { min = 0, max = 1, ...options }: ThreefryOptions & { readonly min?: number; readonly max?: number } = {},
): Float32Array<ArrayBuffer> {
  const [low, high] = [fround(min), fround(max)];
  const span = fround(high - low);
  return Float32Array.from(randomBits(key, range, options), (word) => Math.max(low, fma(unit(word), span, low)));
}

/**
 * `normal(key, [total])` in float32: [count] standard normals.
 * @throws UsageError for a range that randomBits refuses.
 */
export function jaxNormal(key: ThreefryKey, range: DrawRange, options?: ThreefryOptions): Float32Array<ArrayBuffer> {
  const above = -(1 - 2 ** -24); // the first float32 after -1
  const values = jaxUniform(key, range, { ...options, min: above, max: 1 });
  for (let i = 0; i < values.length; i++) values[i] = fround(Math.SQRT2) * erfInv(values[i]!);
  return values;
}

/**
 * `randint(key, [total], min, max)`: [count] integers in [min, max).
 * @throws UsageError unless both are 32-bit signed integers and min < max.
 */
export function jaxIntegers(
  key: ThreefryKey,
  range: DrawRange,
  { min, max, ...options }: ThreefryOptions & { readonly min: number; readonly max: number },
): Int32Array<ArrayBuffer> {
  if ((min | 0) !== min || (max | 0) !== max || min >= max)
    throw new UsageError(`no 32-bit integers are at least ${min} and less than ${max}`);
  const [upper, lower] = splitKey(key, 2, options).map((half) => randomBits(half, range, options)) as [
    Uint32Array,
    Uint32Array,
  ];
  const span = max - min;
  const step = 2 ** 16 % span;
  const multiplier = (Math.imul(step, step) >>> 0) % span;
  return Int32Array.from(upper, (high, i) => {
    const offset = ((Math.imul(high % span, multiplier) >>> 0) + (lower[i]! % span)) % WORDS;
    return min + (offset % span);
  });
}

/** `bernoulli(key, p, [total])`: [count] of 1 with probability p, else 0. @throws UsageError unless p is in [0, 1]. */
export function jaxBernoulli(
  key: ThreefryKey,
  p: number,
  range: DrawRange,
  options?: ThreefryOptions,
): Uint8Array<ArrayBuffer> {
  if (!(p >= 0 && p <= 1)) throw new UsageError(`a probability lies in [0, 1], not ${p}`);
  return Uint8Array.from(jaxUniform(key, range, options), (u) => (u < fround(p) ? 1 : 0));
}

/** `permutation(key, size)`: 0 .. size - 1 in random order, by sorting random words. @throws UsageError for a size outside [0, 2^32). */
export function jaxPermutation(key: ThreefryKey, size: number, options?: ThreefryOptions): Uint32Array<ArrayBuffer> {
  // Enough rounds that words which happen to be equal, and so stay in order, cannot be noticed.
  const rounds = Math.ceil((3 * Math.log(Math.max(1, size))) / Math.log(WORDS - 1));
  let order = Uint32Array.from({ length: size }, (_, i) => i);
  let rest = key;
  for (let round = 0; round < rounds; round++) {
    const [next, own] = splitKey(rest, 2, options) as [ThreefryKey, ThreefryKey];
    rest = next;
    const words = randomBits(own, { count: size }, options);
    const places = Array.from({ length: size }, (_, i) => i).sort((a, b) => words[a]! - words[b]!);
    order = Uint32Array.from(places, (place) => order[place]!);
  }
  return order;
}

const INNER = floats(
  ...[2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 0.00021858087, -0.00125372503, -0.00417768164],
  ...[0.246640727, 1.50140941],
);
const OUTER = floats(
  ...[-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047],
  ...[1.00167406, 2.83297682],
);

/** Giles's approximation ("Approximating the erfinv function", 2010) of a float32 in (-1, 1). */
function erfInv(x: number): number {
  const w = -log1p(fround(-x * x));
  return fround(x * (w < 5 ? polynomial(INNER, fround(w - 2.5)) : polynomial(OUTER, fround(fround(Math.sqrt(w)) - 3))));
}

const SMALL = fround(Math.SQRT2 - 1);
// Of Cephes' log1p, for which x is small.
const LOG1P_ABOVE = floats(
  ...[4.52700008624e-5, 0.498541028232, 6.57873259421, 29.9119193286],
  ...[60.949667981, 57.1129635906, 20.0395534992],
);
const LOG1P_BELOW = floats(
  ...[1, 15.0629090835, 83.047565968, 221.762398237, 309.098722253],
  ...[216.427886145, 60.1186604976],
);

function log1p(x: number): number {
  if (Math.abs(x) >= SMALL) return log(fround(1 + x));
  const squared = fround(x * x);
  const cubed = fround(x * squared);
  const ratio = fround(polynomial(LOG1P_ABOVE, x) / polynomial(LOG1P_BELOW, x));
  return fround(x + fma(-0.5, squared, fround(cubed * ratio)));
}

const ROOT_HALF = fround(Math.SQRT1_2);
const LOG = [
  floats(7.0376836292e-2, -1.151461031e-1, 1.167699874e-1),
  floats(-1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1),
  floats(2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
] as const;
/** ln 2 in two parts, of which the first is exact when multiplied by an exponent. */
const [LN2_HIGH, LN2_LOW] = [fround(0.693359375), fround(-2.1219444e-4)];

/** Cephes' natural logarithm of a normal float32 in (0, sqrt 2), its polynomial in three parts that do not wait for each other. */
function log(value: number): number {
  // value = mantissa 2^exponent, the mantissa in [sqrt(1/2), sqrt 2).
  let [mantissa, exponent] = [value, 0];
  while (mantissa < ROOT_HALF) {
    mantissa *= 2;
    exponent--;
  }
  const x = fround(mantissa - 1);
  const squared = fround(x * x);
  const cubed = fround(squared * x);
  const inner = fma(fma(polynomial(LOG[0], x), cubed, polynomial(LOG[1], x)), cubed, polynomial(LOG[2], x));
  const tail = fma(inner, cubed, fround(exponent * LN2_LOW));
  return fma(exponent, LN2_HIGH, fround(fma(-0.5, squared, x) + tail));
}
