/** The files of a chosen or dropped folder, and the classes that their places in it tell. */

/** A file and where it lies, for files that do not say so themselves, as those of a dropped folder (`entry.fullPath`). */
export interface FileAt {
  readonly file: Blob;
  /** Names of folders and of the file, with slashes between. */
  readonly path: string;
}

/** A file with where it lies: Files know that of a chosen folder, but lose it on their way to a worker in some browsers. */
export const fileAt = (given: File | FileAt): FileAt =>
  given instanceof Blob ? { file: given, path: given.webkitRelativePath || given.name } : given;

/** Files in order, class by class; of one folder's, `root` is its name. */
export function byClass(files: readonly FileAt[]) {
  const all = files.map(({ file, path }) => ({ file, path, parts: path.split('/').filter((part) => part !== '') }));
  const top = all[0]?.parts[0];
  const isOneFolder = all.every(({ parts }) => parts[0] === top) && all.some(({ parts }) => parts.length > 2);
  const seen = all
    .map((each) => ({ ...each, parts: isOneFolder ? each.parts.slice(1) : each.parts }))
    .filter(({ parts }) => !parts.some((part) => part.startsWith('.')));
  const found = seen
    .filter(({ parts }) => parts.length === 2)
    .map(({ file, path, parts: [of, name] }) => ({ file, path, of: of!, name: name! }));
  found.sort((a, b) => inOrder(a.of, b.of) || inOrder(a.name, b.name));
  const deeper = seen.filter(({ parts }) => parts.length > 2).map(({ path }) => path);
  return { root: isOneFolder ? top : undefined, found, deeper };
}

/** By code units, as Node sorts names. */
const inOrder = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
