/** Symmetric matrices in float64, row by row [n * n]: what a Fréchet distance needs of linear algebra, and no more. */
import { NonFiniteError } from '../engine/errors.ts';

/** Pivots below this share of the largest are rounding: what is left of the matrix counts as zero. */
const NOTHING = 2 ** -52;
/** More iterations for one eigenvalue than any matrix of finite numbers needs. */
const MOST_ITERATIONS = 60;

/** P A P' = L L': `order[i]` is the row of A that is row i here; `factor` is [n * rank], its row i holding min(i + 1, rank) numbers. */
export interface Factor {
  readonly order: Uint32Array;
  readonly rank: number;
  readonly factor: Float64Array;
}

/**
 * Cholesky factor of a positive semidefinite matrix, the largest pivot first, so that one of lower rank has a factor of that many
 * columns. Only rounding is left out: about n 2^-52 of the largest diagonal element.
 */
export function choleskyFactor(matrix: Float64Array, n: number): Factor {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  const left = Float64Array.from({ length: n }, (_, i) => matrix[i * n + i]!); // diagonal of what is not yet factored
  const rows = new Float64Array(n * n);
  const least = n * NOTHING * left.reduce((most, x) => Math.max(most, x), 0);
  let rank = 0;
  for (; rank < n; rank++) {
    let pivot = rank;
    for (let i = rank + 1; i < n; i++) if (left[i]! > left[pivot]!) pivot = i;
    if (!(left[pivot]! > least)) break;
    swap(order, rank, pivot);
    swap(left, rank, pivot);
    for (let j = 0; j < rank; j++) swap(rows, rank * n + j, pivot * n + j);
    const root = Math.sqrt(left[rank]!);
    rows[rank * n + rank] = root;
    for (let i = rank + 1; i < n; i++) {
      const value = (matrix[order[i]! * n + order[rank]!]! - dot(rows, i * n, rows, rank * n, rank)) / root;
      rows[i * n + rank] = value;
      left[i]! -= value * value;
    }
  }
  const factor = new Float64Array(n * rank);
  for (let i = 0; i < n; i++) factor.set(rows.subarray(i * n, i * n + rank), i * rank);
  return { order, rank, factor };
}

/** L' (P B P') L [rank * rank] for the factor of one matrix and another symmetric matrix B. */
export function congruent({ order, rank, factor }: Factor, matrix: Float64Array): Float64Array {
  const n = order.length;
  const columns = new Float64Array(rank * n); // L', so that all that is multiplied lies together
  for (let i = 0; i < n; i++) for (let j = 0; j < rank; j++) columns[j * n + i] = factor[i * rank + j]!;
  const result = new Float64Array(rank * rank);
  const permuted = new Float64Array(n);
  const products = new Float64Array(n * rank); // P B P' L
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) permuted[k] = matrix[order[i]! * n + order[k]!]!;
    for (let j = 0; j < rank; j++) products[j * n + i] = dot(permuted, j, columns, j * n + j, n - j);
  }
  for (let i = 0; i < rank; i++) {
    for (let j = 0; j <= i; j++) {
      const value = dot(columns, i * n + i, products, j * n + i, n - i);
      result[i * rank + j] = value;
      result[j * rank + i] = value;
    }
  }
  return result;
}

/**
 * Eigenvalues of a symmetric matrix, in ascending order: Householder's reduction to a tridiagonal matrix, then implicit QL (Golub
 * and Van Loan, "Matrix computations", 8.3). Only the lower triangle is read.
 * @throws NonFiniteError where it holds NaN or infinity
 */
export function symmetricEigenvalues(matrix: Float64Array, n: number): Float64Array {
  const { diagonal, beside } = tridiagonal(Float64Array.from(matrix), n);
  if (![...diagonal, ...beside].every(Number.isFinite))
    throw new NonFiniteError('a matrix whose eigenvalues are wanted is not finite');
  for (let low = 0; low < n; low++) deflate(diagonal, beside, low);
  return diagonal.sort();
}

function swap(values: Float64Array | Uint32Array, a: number, b: number): void {
  const kept = values[a]!;
  values[a] = values[b]!;
  values[b] = kept;
}

/** Four sums, which do not wait for each other. */
function dot(a: Float64Array, at: number, b: Float64Array, from: number, length: number): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  let i = 0;
  for (; i + 3 < length; i += 4) {
    s0 += a[at + i]! * b[from + i]!;
    s1 += a[at + i + 1]! * b[from + i + 1]!;
    s2 += a[at + i + 2]! * b[from + i + 2]!;
    s3 += a[at + i + 3]! * b[from + i + 3]!;
  }
  for (; i < length; i++) s0 += a[at + i]! * b[from + i]!;
  return s0 + s1 + (s2 + s3);
}

/** Reduces a (which is written over) from its last row up; `beside[i]` couples i and i + 1, the last being zero. */
function tridiagonal(a: Float64Array, n: number): { diagonal: Float64Array; beside: Float64Array } {
  const diagonal = new Float64Array(n);
  const beside = new Float64Array(n);
  const u = new Float64Array(n);
  const p = new Float64Array(n);
  for (let k = n - 1; k > 0; k--) {
    diagonal[k] = a[k * n + k]!;
    let scale = 0;
    for (let j = 0; j < k; j++) scale = Math.max(scale, Math.abs(a[k * n + j]!));
    if (scale === 0) continue;
    for (let j = 0; j < k; j++) u[j] = a[k * n + j]! / scale;
    const norm = Math.sqrt(dot(u, 0, u, 0, k));
    const turned = u[k - 1]! > 0 ? -norm : norm; // away from u, so that nothing cancels
    const half = norm * norm - u[k - 1]! * turned;
    u[k - 1]! -= turned;
    beside[k - 1] = scale * turned;
    if (half === 0) continue;
    p.fill(0, 0, k);
    for (let i = 0; i < k; i++) {
      const ui = u[i]!;
      let sum = 0;
      for (let j = 0, at = i * n; j < i; j++, at++) {
        sum += a[at]! * u[j]!;
        p[j]! += a[at]! * ui;
      }
      p[i]! += sum + a[i * n + i]! * ui;
    }
    for (let j = 0; j < k; j++) p[j]! /= half;
    const shared = dot(u, 0, p, 0, k) / (2 * half);
    for (let j = 0; j < k; j++) p[j]! -= shared * u[j]!;
    for (let i = 0; i < k; i++) {
      const [ui, pi] = [u[i]!, p[i]!];
      for (let j = 0, at = i * n; j <= i; j++, at++) a[at]! -= ui * p[j]! + pi * u[j]!;
    }
  }
  if (n > 0) diagonal[0] = a[0]!;
  return { diagonal, beside };
}

/** Implicit QL steps until diagonal[low] is an eigenvalue of what is left from there on. */
function deflate(d: Float64Array, e: Float64Array, low: number): void {
  const n = d.length;
  for (let iteration = 0; iteration < MOST_ITERATIONS; iteration++) {
    let high = low;
    while (high < n - 1 && Math.abs(e[high]!) > NOTHING * (Math.abs(d[high]!) + Math.abs(d[high + 1]!))) high++;
    if (high === low) return;
    const apart = (d[low + 1]! - d[low]!) / (2 * e[low]!);
    const length = Math.hypot(apart, 1);
    let g = d[high]! - d[low]! + e[low]! / (apart + (apart < 0 ? -length : length));
    let [sine, cosine, shift] = [1, 1, 0];
    let i = high - 1;
    for (; i >= low; i--) {
      const f = sine * e[i]!;
      const b = cosine * e[i]!;
      const r = Math.hypot(f, g);
      e[i + 1] = r;
      if (r === 0) break;
      sine = f / r;
      cosine = g / r;
      g = d[i + 1]! - shift;
      const t = (d[i]! - g) * sine + 2 * cosine * b;
      shift = sine * t;
      d[i + 1] = g + shift;
      g = cosine * t - b;
    }
    if (i >= low) {
      // It has fallen apart into two.
      d[i + 1]! -= shift;
      e[high] = 0;
      continue;
    }
    d[low]! -= shift;
    e[low] = g;
    e[high] = 0;
  }
  throw new NonFiniteError('eigenvalues do not converge');
}
