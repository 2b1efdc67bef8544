/**
 * Linear algebra by OpenBLAS, where the system has it: called through the package koffi, an optional peer of odelt, which is loaded when
 * it is asked for. A library is code: it is looked for under fixed names of the system's folders and where ODELT_OPENBLAS says by an absolute path.
 */
import { isAbsolute } from 'node:path';
import { ConfigError, NonFiniteError, UnsupportedError } from '../engine/errors.ts';
import { type LinearAlgebra, ownAlgebra, sumOfRoots } from './linear-algebra.ts';
import { negligible } from './symmetric.ts';

/** Who does the linear algebra of Fréchet distances; auto: OpenBLAS where it is there. */
export const LINEAR_ALGEBRA = ['auto', 'own', 'openblas'] as const;
/** One of `LINEAR_ALGEBRA`. */
export type LinearAlgebraName = (typeof LINEAR_ALGEBRA)[number];

/** Where OpenBLAS is by platform. A bare name is one that the system's loader looks for in its own folders. */
const PLACES: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  linux: ['libopenblas.so.0'],
  darwin: ['/opt/homebrew/opt/openblas/lib/libopenblas.dylib', '/usr/local/opt/openblas/lib/libopenblas.dylib'],
};

const HINT =
  'install the package koffi beside odelt (npm install koffi) and OpenBLAS (Debian: libopenblas0; Homebrew: openblas), or use --linear-algebra own';

/** Fortran's names, with the lengths of texts that its compilers pass last. */
const FUNCTIONS = {
  dsyrk:
    'void dsyrk_(const char *uplo, const char *trans, const int *n, const int *k, const double *alpha, const double *a, const int *lda, const double *beta, double *c, const int *ldc, size_t l1, size_t l2)',
  dgemm:
    'void dgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const double *alpha, const double *a, const int *lda, const double *b, const int *ldb, const double *beta, double *c, const int *ldc, size_t l1, size_t l2)',
  dpotrf: 'void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t l1)',
  dpstrf:
    'void dpstrf_(const char *uplo, const int *n, double *a, const int *lda, int *piv, int *rank, const double *tol, double *work, int *info, size_t l1)',
  dsyevd:
    'void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t l1, size_t l2)',
} as const;

type Argument = string | number | Int32Array | Float64Array;
type Functions = Readonly<Record<keyof typeof FUNCTIONS, (...args: Argument[]) => void>>;

/** What was found, or why nothing was. */
type Found = { readonly algebra: LinearAlgebra } | { readonly missing: string; readonly cause?: unknown };

/** @throws ConfigError where ODELT_OPENBLAS is no absolute path */
function places(): readonly string[] {
  const given = process.env.ODELT_OPENBLAS;
  if (given === undefined || given === '') return PLACES[process.platform] ?? [];
  if (isAbsolute(given)) return [given];
  throw new ConfigError(`ODELT_OPENBLAS is '${given}'; it must be an absolute path`, {
    hint: 'a library is code, and is not looked for in the current folder',
  });
}

async function find(): Promise<Found> {
  const candidates = places();
  if (candidates.length === 0)
    return { missing: `where OpenBLAS is on ${process.platform} is not known: ODELT_OPENBLAS may name it` };
  let load: typeof import('koffi').load;
  try {
    ({ load } = (await import('koffi')).default);
  } catch (cause) {
    return { missing: 'the package koffi is not installed or cannot be loaded', cause };
  }
  const problems: string[] = [];
  for (const path of candidates) {
    try {
      const library = load(path);
      const config = library.func('const char *openblas_get_config()')() as string;
      const functions = Object.fromEntries(
        Object.entries(FUNCTIONS).map(([name, prototype]) => [name, library.func(prototype)]),
      ) as Record<string, (...args: Argument[]) => void> as Functions;
      const version = /^OpenBLAS (\d+\.\d+\.\d+)/.exec(config)?.[1];
      // Integers of 64 bits go by other names in most builds, but not in all.
      if (version === undefined || config.includes('USE64BITINT')) {
        problems.push(`${path} says that it is '${config.trim()}'`);
        continue;
      }
      return { algebra: algebraOf(functions, `openblas ${version}`) };
    } catch (cause) {
      problems.push(`${path}: ${cause instanceof Error ? cause.message : cause}`);
    }
  }
  return { missing: `no OpenBLAS could be loaded (${problems.join('; ')})` };
}

/**
 * The linear algebra that was asked for.
 * @throws UnsupportedError where 'openblas' is asked for and is not there; ConfigError for a wrong ODELT_OPENBLAS
 */
export async function openLinearAlgebra(wanted: LinearAlgebraName): Promise<LinearAlgebra> {
  if (wanted === 'own') return ownAlgebra;
  const found = await find();
  if ('algebra' in found) return found.algebra;
  if (wanted === 'auto') return ownAlgebra;
  throw new UnsupportedError(`OpenBLAS cannot be used: ${found.missing}`, { cause: found.cause, hint: HINT });
}

const int = (value: number) => Int32Array.of(value);
const real = (value: number) => Float64Array.of(value);
const [ZERO, ONE] = [real(0), real(1)];

/** Matrices are symmetric or their transposes are meant: Fortran has them column by column. */
function algebraOf({ dsyrk, dgemm, dpotrf, dpstrf, dsyevd }: Functions, name: string): LinearAlgebra {
  /** a [m * k] or its transpose, times b [k * n]: [m * n], all column by column. */
  function product(transposed: boolean, a: Float64Array, b: Float64Array, m: number, n: number, k: number) {
    const c = new Float64Array(m * n);
    const lda = int(transposed ? k : m);
    dgemm(transposed ? 'T' : 'N', 'N', int(m), int(n), int(k), ONE, a, lda, b, int(k), ZERO, c, int(m), 1, 1);
    return c;
  }

  /** The lower triangle of `a` [n * n], column by column, becomes its Cholesky factor; null where some pivot is none. */
  function definiteFactor(a: Float64Array, n: number, least: number): Float64Array | null {
    const factor = a.slice();
    const info = new Int32Array(1);
    dpotrf('L', int(n), factor, int(n), info, 1);
    for (let i = 0; i < n; i++) if (!(factor[i * n + i]! ** 2 > least)) return null;
    return info[0] === 0 ? factor : null;
  }

  function eigenvalues(matrix: Float64Array, n: number): Float64Array {
    const values = new Float64Array(n);
    if (n === 0) return values;
    if (!matrix.every(Number.isFinite)) throw new NonFiniteError('a matrix whose eigenvalues are wanted is not finite');
    const info = new Int32Array(1);
    const [size, integers] = [new Float64Array(1), new Int32Array(1)];
    const solve = (work: Float64Array, lwork: number, iwork: Int32Array, liwork: number) =>
      dsyevd('N', 'L', int(n), matrix, int(n), values, work, int(lwork), iwork, int(liwork), info, 1, 1);
    solve(size, -1, integers, -1); // asks how much room it needs
    const [lwork, liwork] = [size[0]!, integers[0]!];
    solve(new Float64Array(lwork), lwork, new Int32Array(liwork), liwork);
    if (info[0] !== 0) throw new NonFiniteError('eigenvalues do not converge');
    return values;
  }

  return {
    name,
    addProducts(products, columns, width, rows, stride) {
      // Row by row, the lower triangle is the upper one of Fortran's.
      dsyrk('U', 'T', int(width), int(rows), ONE, columns, int(stride), ONE, products, int(width), 1, 1);
    },
    rootTrace(a, b, n) {
      if (n === 0) return 0;
      let largest = 0;
      for (let i = 0; i < n; i++) largest = Math.max(largest, a[i * n + i]!);
      const least = negligible(n) * largest;
      let [factor, rank, other] = [definiteFactor(a, n, least), n, b];
      if (!factor) {
        // As our own code: the largest pivot first, to the rank that the matrix has.
        factor = a.slice();
        const [pivots, ranks, info] = [new Int32Array(n), new Int32Array(1), new Int32Array(1)];
        dpstrf('L', int(n), factor, int(n), pivots, ranks, real(least), new Float64Array(2 * n), info, 1);
        rank = ranks[0]!;
        other = new Float64Array(n * n);
        for (let j = 0; j < n; j++)
          for (let i = 0; i < n; i++) other[j * n + i] = b[(pivots[j]! - 1) * n + pivots[i]! - 1]!;
      }
      const lower = factor.subarray(0, n * rank);
      for (let j = 1; j < rank; j++) lower.fill(0, j * n, j * n + j); // above the diagonal is what was there before
      const products = product(false, other, lower, n, rank, n);
      return sumOfRoots(eigenvalues(product(true, lower, products, rank, rank, n), rank));
    },
  };
}
