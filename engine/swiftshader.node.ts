/** Owns finding, unpacking and loading SwiftShader, the software Vulkan driver that needs nothing installed (Linux only). */

import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { lstat, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { brotliDecompress } from 'node:zlib';
import { DataError, UnsupportedError } from './errors.ts';
import { cacheFolder, makeFolder } from './folders.node.ts';

/** Where browsers' packages put SwiftShader beside their own binary. */
export const SWIFTSHADER_DIRECTORIES = [
  '/usr/lib/chromium',
  '/usr/lib/chromium-browser',
  '/opt/google/chrome',
] as const;

const ICD = 'vk_swiftshader_icd.json';
const LOADER = 'libvulkan.so.1';
const MEMBERS = ['libvk_swiftshader.so', LOADER, ICD] as const;
const MARKER = 'complete.json';
const MAX_TAR_BYTES = 256 * 2 ** 20;
const RTLD_NODELETE = 0x1000; // linux; absent from os.constants.dlopen

/** The Vulkan driver description in a directory that holds SwiftShader, or undefined. */
export function swiftshaderIcd(directory: string): string | undefined {
  const icd = join(directory, ICD);
  return existsSync(icd) && existsSync(join(directory, 'libvk_swiftshader.so')) ? icd : undefined;
}

/**
 * `swiftshader.tar.br` of the npm package @sparticuz/chromium, where Node would find that package from this file: within odelt,
 * or beside it. Never from the current directory: a driver is code, and that directory may be anybody's.
 */
export function findSwiftshaderArchive(): string | undefined {
  const name = '@sparticuz/chromium';
  const places = createRequire(import.meta.url).resolve.paths(name) ?? [];
  return places.map((place) => join(place, name, 'bin', 'swiftshader.tar.br')).find((file) => existsSync(file));
}

interface Marker {
  files: Record<string, { bytes: number; sha256: string }>;
}

/**
 * Unpacks SwiftShader from a brotli-compressed tar into `cache`, once, and returns the directory. Safe for several
 * processes at a time: each unpacks into a directory of its own and renames it into place; a damaged copy is replaced.
 * @throws UnsupportedError (cannot be written, or the cache belongs to another user), DataError (the archive is damaged)
 */
export async function unpackSwiftshader(archive: string, cache: string = cacheFolder()): Promise<string> {
  const packed = await readFile(archive);
  const directory = join(cache, `swiftshader-${sha256(packed).slice(0, 16)}`);
  try {
    await makeFolder(cache, 0o700);
    await refuseForeign(cache);
    if (await isComplete(directory)) return directory;
    const fresh = `${directory}.${process.pid}.${randomUUID()}`;
    try {
      await unpackInto(fresh, packed, archive);
      // Renaming onto a directory fails while that is not empty: then another process was first, or it is damaged.
      for (let attempt = 0; attempt < 3; attempt++) {
        if (await rename(fresh, directory).then(...OUTCOME)) return directory;
        if (await isComplete(directory)) return directory;
        const damaged = `${directory}.damaged.${randomUUID()}`;
        if (await rename(directory, damaged).then(...OUTCOME)) await rm(damaged, { recursive: true, force: true });
      }
    } finally {
      await rm(fresh, { recursive: true, force: true });
    }
    throw new Error(`${directory} could not be replaced`);
  } catch (cause) {
    if (cause instanceof DataError || cause instanceof UnsupportedError) throw cause;
    throw new UnsupportedError(`SwiftShader could not be unpacked into ${cache}: ${(cause as Error).message}`, {
      hint: 'Set XDG_CACHE_HOME to a directory that you can write.',
      cause,
    });
  }
}

const OUTCOME = [() => true, () => false] as const;

async function unpackInto(directory: string, packed: Uint8Array, archive: string): Promise<void> {
  const marker: Marker = { files: {} };
  let tar: Uint8Array;
  try {
    tar = await promisify(brotliDecompress)(packed, { maxOutputLength: MAX_TAR_BYTES });
  } catch (cause) {
    throw new DataError(`${archive} is not brotli-compressed`, { hint: 'Install the package again.', cause });
  }
  const entries = new Map(readTar(tar).map((entry) => [basename(entry.name), entry.data]));
  await mkdir(directory, { mode: 0o700 });
  for (const name of MEMBERS) {
    const data = entries.get(name);
    if (!data) throw new DataError(`${archive} holds no ${name}`, { hint: 'Install @sparticuz/chromium 147.0.0.' });
    await writeFile(join(directory, name), data, { mode: 0o700 });
    marker.files[name] = { bytes: data.length, sha256: sha256(data) };
  }
  await writeFile(join(directory, MARKER), JSON.stringify(marker));
}

/** True if the marker is there and every file still has the size and hash it names. */
async function isComplete(directory: string): Promise<boolean> {
  try {
    await refuseForeign(directory);
    const marker = JSON.parse(await readFile(join(directory, MARKER), 'utf8')) as Marker;
    for (const name of MEMBERS) {
      const data = await readFile(join(directory, name));
      if (data.length !== marker.files[name]?.bytes || sha256(data) !== marker.files[name]?.sha256) return false;
    }
    return true;
  } catch {
    return false;
  }
}

/** Code is loaded from here, so nobody else may own it or be able to write to it. */
async function refuseForeign(directory: string): Promise<void> {
  const { uid, mode } = await stat(directory);
  const me = process.getuid?.();
  // A link of somebody else's, as may lie in /tmp, can be pointed elsewhere once this check is over.
  const entry = await lstat(directory);
  if ((me !== undefined && (uid !== me || entry.uid !== me)) || (mode & 0o022) !== 0) {
    throw new UnsupportedError(`${directory} belongs to another user or is writable by others`, {
      hint: `Run chmod go-w on it, or set XDG_CACHE_HOME to a directory of your own.`,
    });
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export interface TarEntry {
  name: string;
  data: Uint8Array;
}

/** The regular files of a tar archive (POSIX ustar, GNU's old magic included). @throws DataError if it is cut short or damaged */
export function readTar(bytes: Uint8Array): TarEntry[] {
  const entries: TarEntry[] = [];
  const text = (from: number, length: number) => {
    const field = bytes.subarray(from, from + length);
    const end = field.indexOf(0);
    return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
  };
  const octal = (from: number, length: number) => {
    const digits = text(from, length).trim();
    if (!/^[0-7]+$/.test(digits)) throw new DataError(`tar: not an octal number in the header before byte ${from}`);
    return Number.parseInt(digits, 8);
  };
  for (let at = 0; at < bytes.length; ) {
    const header = bytes.subarray(at, at + 512);
    if (header.length < 512) throw new DataError(`tar: the header at byte ${at} is cut short`);
    if (header.every((byte) => byte === 0)) break; // the end mark
    // The checksum is over the header with its own eight bytes taken as spaces.
    const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    if (sum !== octal(at + 148, 8)) throw new DataError(`tar: the header at byte ${at} has a wrong checksum`);
    const size = octal(at + 124, 12);
    const start = at + 512;
    if (start + size > bytes.length) throw new DataError(`tar: the file at byte ${at} is cut short`);
    const prefix = text(at + 257, 8) === 'ustar' ? text(at + 345, 155) : '';
    const type = text(at + 156, 1);
    if (type === '0' || type === '') {
      const name = text(at, 100);
      entries.push({ name: prefix ? `${prefix}/${name}` : name, data: bytes.subarray(start, start + size) });
    }
    at = start + Math.ceil(size / 512) * 512;
  }
  return entries;
}

/** True if Dawn will find a Vulkan loader: the system's, or one that `preloadVulkanLoader` made resident. */
export function hasVulkanLoader(): boolean {
  return makeResident(LOADER) === undefined;
}

/**
 * Makes the Vulkan loader of a directory resident, so that Dawn's own search by name finds it without a system loader.
 * It stays until the process ends. @throws UnsupportedError if the directory's loader cannot be loaded
 */
export function preloadVulkanLoader(directory: string): void {
  const reason = makeResident(join(directory, LOADER));
  if (reason) throw new UnsupportedError(`there is no Vulkan loader on this machine, and ${reason}`);
}

/** Loads a library for good; undefined on success, else the reason. */
function makeResident(file: string): string | undefined {
  try {
    // Node loads the library, finds that it is no addon, and throws; RTLD_NODELETE lets it stay loaded all the same.
    process.dlopen({ exports: {} }, file, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
    return undefined;
  } catch (error) {
    const message = (error as Error).message;
    return message.includes('did not self-register') ? undefined : message;
  }
}
