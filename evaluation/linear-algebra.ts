/** What Fréchet distances need of linear algebra, by whom it is done: our own code here, a library elsewhere (openblas.node.ts). */
import { choleskyFactor, congruent, symmetricEigenvalues } from './symmetric.ts';

/** The operations of a Fréchet distance on matrices in float64, row by row. */
export interface LinearAlgebra {
  /** Who does it, as results record it: 'own', or a library and its version. */
  readonly name: string;
  /**
   * Adds the products of columns to the lower triangle of `products` [width * width], of which entry (i, j) becomes larger by the sum over r of
   * columns[i, r] columns[j, r], `columns` being [width, stride] with `rows` numbers in each row.
   */
  addProducts(products: Float64Array, columns: Float64Array, width: number, rows: number, stride: number): void;
  /**
   * Trace of (A B)^(1/2) for positive semidefinite A and B [n * n], symmetric, of any rank: with A = L L', the sum of the roots of the
   * eigenvalues of L' B L. @throws NonFiniteError
   */
  rootTrace(a: Float64Array, b: Float64Array, n: number): number;
}

/** The sum of roots of eigenvalues that are not below zero but for rounding. */
export const sumOfRoots = (eigenvalues: Float64Array): number =>
  eigenvalues.reduce((sum, x) => sum + Math.sqrt(Math.max(0, x)), 0);

/** Plain loops: no package, in browsers too. */
export const ownAlgebra: LinearAlgebra = {
  name: 'own',
  addProducts(products, columns, width, rows, stride) {
    for (let i = 0; i < width; i++) {
      const atI = i * stride;
      for (let j = 0; j <= i; j++) {
        const atJ = j * stride;
        let [even, odd] = [0, 0];
        for (let r = 0; r < rows - 1; r += 2) {
          even += columns[atI + r]! * columns[atJ + r]!;
          odd += columns[atI + r + 1]! * columns[atJ + r + 1]!;
        }
        if (rows % 2 === 1) even += columns[atI + rows - 1]! * columns[atJ + rows - 1]!;
        products[i * width + j]! += even + odd;
      }
    }
  },
  rootTrace(a, b, n) {
    const factor = choleskyFactor(a, n);
    return sumOfRoots(symmetricEigenvalues(congruent(factor, b), factor.rank));
  },
};
