/** Runge-Kutta methods as data: their Butcher tableaux, and nothing that computes with them. */

/**
 * An explicit method: stage i is the velocity k_i at (t + nodes[i] h, x + h sum_j stages[i][j] k_j), the step is
 * x + h sum_i weights[i] k_i.
 */
export interface Tableau {
  /** The error of one run with steps of h falls like h^order. */
  readonly order: number;
  readonly nodes: readonly number[];
  /** Row i has i entries. */
  readonly stages: readonly (readonly number[])[];
  readonly weights: readonly number[];
  /** Of adaptive methods: h sum_i error[i] k_i estimates the error of the step. Their last stage is the next step's first. */
  readonly error?: readonly number[];
}

const half = 1 / 2;

/** Methods with a fixed step; Euler's needs no stages kept (sampling/evaluation.ts), and is here for the same arithmetic in plain numbers. */
export const FIXED = {
  euler: { order: 1, nodes: [0], stages: [[]], weights: [1] },
  midpoint: { order: 2, nodes: [0, half], stages: [[], [half]], weights: [0, 1] },
  /** Heun's, the explicit trapezoid rule. */
  heun: { order: 2, nodes: [0, 1], stages: [[], [1]], weights: [half, half] },
  /** The classical method of Runge and Kutta. */
  rk4: {
    order: 4,
    nodes: [0, half, half, 1],
    stages: [[], [half], [0, half], [0, 0, 1]],
    weights: [1 / 6, 1 / 3, 1 / 3, 1 / 6],
  },
} as const satisfies Record<string, Tableau>;

const dopri5Weights = [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84] as const;
const tsit5Weights = [
  0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774,
] as const;

/** Methods that estimate their error, of order 5 with a companion of order 4. */
export const ADAPTIVE = {
  /** Dormand and Prince 1980; the error as the reference's library has it (Shampine's companion: two thirds of the original's). */
  dopri5: {
    order: 5,
    nodes: [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1],
    stages: [
      [],
      [1 / 5],
      [3 / 40, 9 / 40],
      [44 / 45, -56 / 15, 32 / 9],
      [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
      [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
      dopri5Weights,
    ],
    weights: [...dopri5Weights, 0],
    error: [
      35 / 384 - 1951 / 21600,
      0,
      500 / 1113 - 22642 / 50085,
      125 / 192 - 451 / 720,
      -2187 / 6784 + 12231 / 42400,
      11 / 84 - 649 / 6300,
      -1 / 60,
    ],
  },
  /** Tsitouras 2011. */
  tsit5: {
    order: 5,
    nodes: [0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1],
    stages: [
      [],
      [0.161],
      [-0.008480655492356989, 0.335480655492357],
      [2.8971530571054935, -6.359448489975075, 4.3622954328695815],
      [5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525],
      [5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383],
      tsit5Weights,
    ],
    weights: [...tsit5Weights, 0],
    error: [
      0.001780011052225777,
      0.0008164344596567463,
      -0.0078808780102619,
      0.144711007173263,
      -0.582357165452555,
      0.45808210592918686,
      -1 / 66,
    ],
  },
} as const satisfies Record<string, Tableau & { error: readonly number[] }>;

export type FixedName = keyof typeof FIXED;
export type AdaptiveName = keyof typeof ADAPTIVE;
