/** Golden data on disk: finds the recorded models of a directory and reads their files when they are asked for. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { DataError } from '../engine/errors.ts';
import { parseSafetensors, type Tensors } from '../formats/safetensors.ts';
import { type GoldenDir, type GoldenFolder, type GoldenModel, parseGoldenConfig } from './golden.ts';

const NOT_FOUND = 'give a directory with golden data: sub-folders with a config.json, or one such folder';

async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new DataError(`${path}: cannot be read`, { cause });
  });
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DataError(`${path}: is no JSON`, { cause });
  }
}

const readBytes = (path: string) =>
  readFile(path).catch((cause: unknown) => {
    throw new DataError(`${path}: cannot be read`, { cause });
  });

const readTensors = async (path: string): Promise<Tensors> => parseSafetensors(await readBytes(path), path);

/** Reads each thing once: later calls get the first one's promise. */
function once<T>(read: (key: string) => Promise<T>): (key: string) => Promise<T> {
  const kept = new Map<string, Promise<T>>();
  return (key) => {
    const found = kept.get(key) ?? read(key);
    kept.set(key, found);
    return found;
  };
}

/** Sorted names of a directory's files, and of its folders. */
async function list(directory: string): Promise<{ files: string[]; folders: string[] }> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((cause: unknown) => {
    throw new DataError(`${directory}: cannot be read as a directory`, { cause, hint: NOT_FOUND });
  });
  const names = (folder: boolean) =>
    entries
      .filter((entry) => entry.isDirectory() === folder)
      .map((entry) => entry.name)
      .sort();
  return { files: names(false), folders: names(true) };
}

function jsonReader(directory: string, files: readonly string[]): (stem: string) => Promise<unknown> {
  const read = once((file: string) => readJson(join(directory, file)));
  return async (stem) => (files.includes(`${stem}.json`) ? read(`${stem}.json`) : undefined);
}

/** Sizes of the files in a directory and below, by path; those whose names begin with a dot are no recordings. */
async function sizes(directory: string, prefix = ''): Promise<[string, number][]> {
  const { files, folders } = await list(directory);
  const visible = (name: string) => !name.startsWith('.');
  const own = files.filter(visible).map(async (name): Promise<[string, number][]> => {
    const info = await stat(join(directory, name)).catch(() => null); // null: a link that leads nowhere
    return info?.isFile() ? [[prefix + name, info.size]] : [];
  });
  const below = folders.filter(visible).map((name) => sizes(join(directory, name), `${prefix}${name}/`));
  return (await Promise.all([...own, ...below])).flat();
}

async function openModel(directory: string, files: readonly string[]): Promise<GoldenModel> {
  const path = join(directory, 'config.json');
  const raw = await readJson(path);
  const read = once((file: string) => readTensors(join(directory, file)));
  return {
    name: basename(resolve(directory)),
    ...parseGoldenConfig(raw, path),
    raw,
    files,
    tensors: async (stem) => (files.includes(`${stem}.safetensors`) ? read(`${stem}.safetensors`) : undefined),
    json: jsonReader(directory, files),
  };
}

/**
 * Opens a directory of golden data: every sub-folder with a config.json is a model (and so is the directory itself, if it
 * has one). Throws DataError if there is none.
 */
export async function openGolden(path: string): Promise<GoldenDir> {
  const top = await list(path);
  const folders: GoldenFolder[] = [];
  const add = (at: string, files: readonly string[]) => {
    if (!files.includes('config.json')) return;
    const directory = join(path, at);
    folders.push({ name: basename(resolve(directory)), path: at, open: () => openModel(directory, files) });
  };
  add('', top.files);
  for (const folder of top.folders) add(`${folder}/`, (await list(join(path, folder))).files);
  if (folders.length === 0) throw new DataError(`${path}: no folder in it has a config.json`, { hint: NOT_FOUND });
  const files = new Map(await sizes(path));
  return { path, folders, files, json: jsonReader(path, top.files), bytes: (file) => readBytes(join(path, file)) };
}
