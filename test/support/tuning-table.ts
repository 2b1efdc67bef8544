/** Tables of tuning, made up. */
import { type TunedAdapter, type TuningResult, type TuningTable, tableOf } from '../../tuning/table.ts';

export const adapter: TunedAdapter = {
  ...{ name: 'Some GPU 9000', vendor: 'some', architecture: 'arch-1', driver: 'some driver 1.2.3' },
  modes: [],
};

export const result: TuningResult = {
  family: 'product',
  shape: { layout: 'NN', vec: true, n: 64 },
  tokens: 49,
  batches: [1, 16],
  variant: 'staged',
  reviewed: 'register',
  candidates: ['register', 'staged'],
  seconds: { reviewed: [0.002, 0.01], variant: [0.001, 0.008] },
  challenger: { variant: 'staged', ratio: { ratio: 0.63, low: 0.6, high: 0.66 } },
  rejected: [],
  untried: [],
  kernels: '0123456789abcdef',
};

export const table: TuningTable = tableOf(adapter, [result]);
