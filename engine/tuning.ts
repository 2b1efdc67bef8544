/** What an engine carries to choose between ways to compute an operation, without knowing what either means. */

/** What a choice may depend on: sizes and kinds by name, never the number of samples. */
export type ShapeClass = Readonly<Record<string, number | string | boolean>>;

/** Choices measured beforehand. Asked whenever an operation is recorded or run that has several variants. */
export interface Tuning {
  /** The id of the variant for a family's shape; undefined where nothing is known: the family's own choice is taken. */
  choice(family: string, shape: ShapeClass): string | undefined;
}
