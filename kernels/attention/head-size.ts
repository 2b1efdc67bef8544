/** The largest head that attention computes; by itself, so that who only describes models need not load kernels. */

/** Features of one head: the kernels hold a query's, and as many sums, in registers. */
export const MAX_HEAD_SIZE = 128;
