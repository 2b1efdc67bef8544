/** What an engine carries to choose between ways to compute an operation, without knowing what either means. */

/** What a choice may depend on: sizes and kinds by name, never the number of samples. */
export type ShapeClass = Readonly<Record<string, number | string | boolean>>;

/** One choice, as data: the variant to take for a family's shape. */
export interface TuningChoice {
  readonly family: string;
  readonly shape: ShapeClass;
  /** The variant's id. */
  readonly variant: string;
}

/** Choices measured beforehand. Asked whenever an operation is recorded or run that has several variants. */
export interface Tuning {
  /** The id of the variant for a family's shape; undefined where nothing is known: the family's own choice is taken. */
  choice(family: string, shape: ShapeClass): string | undefined;
  /** All that `choice` knows, so that it can be written down and made again with `tuningOf`. Training runs need it. */
  readonly choices?: readonly TuningChoice[];
}

/** One text for equal shapes of a family, whatever the order of their fields. */
export function shapeKey(family: string, shape: ShapeClass): string {
  const fields = Object.entries(shape).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${family} ${JSON.stringify(Object.fromEntries(fields))}`;
}

/** Tuning that makes these choices, in one order for equal ones; of two for one shape the last. */
export function tuningOf(choices: readonly TuningChoice[]): Tuning {
  const known = new Map(choices.map((c) => [shapeKey(c.family, c.shape), c]));
  return {
    choice: (family, shape) => known.get(shapeKey(family, shape))?.variant,
    choices: [...known].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, choice]) => choice),
  };
}
