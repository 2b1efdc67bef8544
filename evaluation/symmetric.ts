/** Symmetric matrices in float64, row by row [n * n]: what Fréchet distances and principal components need of linear algebra. */
import { NonFiniteError, UsageError } from '../engine/errors.ts';
import { normals } from '../engine/philox.ts';

/** What rounding is of the largest number. */
const NOTHING = 2 ** -52;
/** Pivots at or below this share of the largest diagonal element are rounding: what is left of the matrix counts as zero. */
export const negligible = (n: number): number => n * NOTHING;
/** Inverse iterations for an eigenvector: one is enough from a start that is not orthogonal to it; the others polish. */
const INVERSE_ITERATIONS = 3;
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
  const least = negligible(n) * left.reduce((most, x) => Math.max(most, x), 0);
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
  return eigenvaluesOf(tridiagonal(Float64Array.from(matrix), n));
}

/** Some eigenvalues, and the eigenvectors that belong to them. */
export interface Eigenvectors {
  /** [count], in descending order. */
  readonly values: Float64Array;
  /** [count * n], a vector of length 1 in each row, all orthogonal to each other. */
  readonly vectors: Float64Array;
}

/**
 * The `count` largest eigenvalues of a symmetric matrix and their eigenvectors: by inverse iteration with the tridiagonal matrix (as
 * LAPACK's dstein), each vector kept orthogonal to those before, then turned back. Time is that of the eigenvalues.
 * @throws UsageError for more than there are; NonFiniteError where the matrix holds NaN or infinity
 */
export function leadingEigenvectors(matrix: Float64Array, n: number, count: number): Eigenvectors {
  if (!(Number.isInteger(count) && count >= 1 && count <= n))
    throw new UsageError(`a matrix of ${n} rows has no ${count} eigenvectors`);
  const reduced = tridiagonal(Float64Array.from(matrix), n);
  const ascending = eigenvaluesOf(reduced);
  const values = ascending.slice(n - count).reverse();
  const size = Math.max(Math.abs(ascending[0]!), Math.abs(ascending[n - 1]!));
  const vectors = new Float64Array(count * n);
  let shift = Number.POSITIVE_INFINITY;
  for (let k = 0; k < count; k++) {
    // Equal eigenvalues would give the same vector again, up to rounding.
    shift = Math.min(values[k]!, shift - 4 * NOTHING * size);
    const x = Float64Array.from(normals({ seed: k, stream: 0, step: 0 }, n));
    for (let i = 0; i < INVERSE_ITERATIONS; i++) {
      solveShifted(reduced, shift, size, x);
      for (let pass = 0; pass < 2; pass++) makeOrthogonal(x, vectors, k);
    }
    vectors.set(x, k * n);
  }
  for (let k = 0; k < count; k++) turnBack(reduced, vectors.subarray(k * n, (k + 1) * n));
  return { values, vectors };
}

function eigenvaluesOf({ diagonal, beside }: Tridiagonal): Float64Array {
  if (![...diagonal, ...beside].every(Number.isFinite))
    throw new NonFiniteError('a matrix whose eigenvalues are wanted is not finite');
  const [d, e] = [diagonal.slice(), beside.slice()];
  for (let low = 0; low < d.length; low++) deflate(d, e, low);
  return d.sort();
}

/** Takes its parts along the first `count` rows of `vectors` out of x, which becomes 1 long. */
function makeOrthogonal(x: Float64Array, vectors: Float64Array, count: number): void {
  const n = x.length;
  for (let k = 0; k < count; k++) {
    const along = dot(x, 0, vectors, k * n, n);
    for (let i = 0; i < n; i++) x[i]! -= along * vectors[k * n + i]!;
  }
  const length = Math.sqrt(dot(x, 0, x, 0, n));
  for (let i = 0; i < n; i++) x[i]! /= length;
}

/** x = (T - shift)^-1 x, up to its length: Gaussian elimination that exchanges neighbouring rows where that is safer. */
function solveShifted({ diagonal, beside }: Tridiagonal, shift: number, size: number, x: Float64Array): void {
  const n = diagonal.length;
  const least = NOTHING * size || NOTHING;
  const pivot = diagonal.map((value) => value - shift); // upper triangle: pivot, the place beside it, the one beyond
  const upper = beside.slice();
  const beyond = new Float64Array(n);
  for (let i = 0; i + 1 < n; i++) {
    const below = beside[i]!;
    if (Math.abs(below) > Math.abs(pivot[i]!)) {
      const factor = pivot[i]! / below;
      const [next, after] = [pivot[i + 1]!, upper[i + 1]!];
      pivot[i] = below;
      pivot[i + 1] = upper[i]! - factor * next;
      upper[i] = next;
      beyond[i] = i + 2 < n ? after : 0;
      upper[i + 1] = i + 2 < n ? -factor * after : 0;
      const kept = x[i]!;
      x[i] = x[i + 1]!;
      x[i + 1] = kept - factor * x[i]!;
    } else {
      if (Math.abs(pivot[i]!) < least) pivot[i] = least;
      const factor = below / pivot[i]!;
      pivot[i + 1]! -= factor * upper[i]!;
      x[i + 1]! -= factor * x[i]!;
    }
  }
  if (Math.abs(pivot[n - 1]!) < least) pivot[n - 1] = least;
  for (let i = n - 1; i >= 0; i--) {
    const right = (i + 1 < n ? upper[i]! * x[i + 1]! : 0) + (i + 2 < n ? beyond[i]! * x[i + 2]! : 0);
    x[i] = (x[i]! - right) / pivot[i]!;
  }
}

/** An eigenvector of the tridiagonal matrix becomes one of the matrix that it was made of. */
function turnBack({ reflectors, halves }: Tridiagonal, x: Float64Array): void {
  const n = x.length;
  for (let k = 1; k < n; k++) {
    if (halves[k] === 0) continue;
    const along = dot(reflectors, k * n, x, 0, k) / halves[k]!;
    for (let j = 0; j < k; j++) x[j]! -= along * reflectors[k * n + j]!;
  }
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

/** A symmetric matrix as Q T Q'; Q is the product, from the last, of 1 - u u' / halves[k], u being row k of `reflectors` up to k. */
interface Tridiagonal {
  readonly diagonal: Float64Array;
  /** What couples i and i + 1; the last is zero. */
  readonly beside: Float64Array;
  readonly reflectors: Float64Array;
  /** Zero where there is nothing to reflect. */
  readonly halves: Float64Array;
}

/** Reduces a, which is written over, from its last row up. */
function tridiagonal(a: Float64Array, n: number): Tridiagonal {
  const diagonal = new Float64Array(n);
  const beside = new Float64Array(n);
  const halves = new Float64Array(n);
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
    halves[k] = half;
    a.set(u.subarray(0, k), k * n);
  }
  if (n > 0) diagonal[0] = a[0]!;
  return { diagonal, beside, reflectors: a, halves };
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
