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

/** What is used of an entry of a dropped folder (`DataTransferItem.webkitGetAsEntry()`). */
export interface DroppedEntry {
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly fullPath: string;
  /** Gives the file that it is. */
  file?(found: (file: File) => void, failed: (error: unknown) => void): void;
  /** Of a folder: reads what is in it, some at a time, until there are none left. */
  createReader?(): DroppedReader;
}

/** Reads a dropped folder. */
export interface DroppedReader {
  /** Gives some of its entries, none at the end. */
  readEntries(found: (entries: DroppedEntry[]) => void, failed: (error: unknown) => void): void;
}

/** What is used of a DataTransferItem. */
export interface DroppedItem {
  readonly kind: string;
  /** The entry, where the browser knows them. */
  webkitGetAsEntry?(): unknown;
  /** The file, or null of what is none. */
  getAsFile(): File | null;
}

/** What is used of a DataTransfer. */
export interface Dropped {
  readonly items: ArrayLike<DroppedItem>;
}

/**
 * All files of what was dropped on a page, with their folders. To be called while the event is handled: what was dropped is gone
 * afterwards. @throws what the browser throws for a folder that cannot be read.
 */
export function droppedFiles({ items }: Dropped): Promise<FileAt[]> {
  const entries = Array.from(items)
    .filter(({ kind }) => kind === 'file')
    .map((item) => ({ entry: (item.webkitGetAsEntry?.() ?? null) as DroppedEntry | null, file: item.getAsFile() }));
  return Promise.all(
    entries.map(({ entry, file }) => (entry ? filesOf(entry) : Promise.resolve(file ? [fileAt(file)] : []))),
  ).then((found) => found.flat());
}

async function filesOf(entry: DroppedEntry): Promise<FileAt[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((found, failed) => entry.file!(found, failed));
    return [{ file, path: entry.fullPath }];
  }
  const reader = entry.createReader!();
  const files: FileAt[] = [];
  // Entries come in parts, until a part is empty.
  for (;;) {
    const some = await new Promise<DroppedEntry[]>((found, failed) => reader.readEntries(found, failed));
    if (some.length === 0) return files;
    for (const each of some) files.push(...(await filesOf(each)));
  }
}
