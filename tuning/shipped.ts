/** Reviewed tables that come with odelt, for adapters that it was measured on. Each is loaded only where it is of use. */
import type { AdapterKind } from '../engine/device.ts';
import { parseTable, type TuningResult } from './table.ts';

/**
 * By kind of adapter: another version of a driver is taken to be like the one that was measured. Only what beat the reviewed choice in
 * two runs is put in; of the variants that there were, nothing did on lavapipe and SwiftShader (`odelt tune --out`).
 */
const TABLES: Readonly<Partial<Record<AdapterKind, () => Promise<{ default: unknown }>>>> = {
  lavapipe: () => import('../kernels/tuning/lavapipe.json'),
  swiftshader: () => import('../kernels/tuning/swiftshader.json'),
};

/** What odelt knows of adapters of this kind; nothing for most. */
export async function shippedResults(kind: AdapterKind): Promise<readonly TuningResult[]> {
  const table = await TABLES[kind]?.();
  return table ? parseTable(table.default, `odelt's own table for ${kind}`).results : [];
}
