/** What an engine carries to choose between ways to compute an operation, without knowing what either means. */
import type { AdapterKind, MatrixUnit } from './device.ts';

/** What a choice may depend on: sizes and kinds by name, never the number of samples. */
export type ShapeClass = Readonly<Record<string, number | string | boolean>>;

/** One choice, as data: the variant to take for a family's shape. */
export interface TuningChoice {
  readonly family: string;
  readonly shape: ShapeClass;
  /** The variant's id. */
  readonly variant: string;
}

/** What runs kernels, as far as a choice may depend on it: an engine. */
export interface Runner {
  readonly device: GPUDevice;
  readonly adapterClass: AdapterKind;
  readonly matrixUnits: readonly MatrixUnit[];
}

/** Choices measured beforehand, as `tuningOf` of odelt/bench makes it. Asked whenever an operation is recorded or run that has several variants. */
export interface Tuning {
  /**
   * The variant of a family for a shape on that engine; undefined where nothing is known: the family's own choice is taken.
   * @throws UsageError where what is known is none of the variants there.
   */
  variant(engine: Runner, family: string, shape: ShapeClass): { readonly id: string } | undefined;
  /** All that `variant` knows, so that it can be written down and made again with `tuningOf`. Training runs need it. */
  readonly choices?: readonly TuningChoice[];
}

/** One text for equal shapes of a family, whatever the order of their fields. */
export function shapeKey(family: string, shape: ShapeClass): string {
  const fields = Object.entries(shape).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${family} ${JSON.stringify(Object.fromEntries(fields))}`;
}
