/**
 * Whether recordings are there and whole: files against the MANIFEST.json of their folder, which lists size and SHA-256 of each.
 * A folder may lie in another and have a manifest of its own.
 */
import * as v from 'valibot';
import { DataError } from '../engine/errors.ts';
import { hasSha256, sha256 } from '../formats/bytes.ts';
import type { Case, Measured } from './case.ts';
import { type GoldenDir, isAbout } from './golden.ts';

const MANIFEST = 'MANIFEST.json';

/** By path in the manifest's folder. */
const schema = v.record(
  v.string(),
  v.looseObject({
    bytes: v.pipe(v.number(), v.integer(), v.minValue(0)),
    sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits')),
  }),
);
type Entry = v.InferOutput<typeof schema>[string];

export interface Recordings {
  /** One case for each recording that a manifest lists, with the folder that it counts for. */
  readonly cases: readonly { readonly model: string; readonly found: Case }[];
  /** What cannot be told, and files that no manifest lists. */
  readonly notes: readonly string[];
}

/** Cases without an engine. A manifest that cannot be read is a failed case. */
export async function recordingCases(golden: GoldenDir): Promise<Recordings> {
  const folders = [...golden.files.keys()].flatMap((path) =>
    path === MANIFEST || path.endsWith(`/${MANIFEST}`) ? [path.slice(0, -MANIFEST.length)] : [],
  );
  if (folders.length === 0) {
    const note = `${golden.path} has no ${MANIFEST}: whether recordings are missing or have been changed cannot be told`;
    return { cases: [], notes: [note] };
  }
  const notes: string[] = [];
  if (!hasSha256()) {
    notes.push('files are compared by size only: SHA-256 needs a secure context (https or localhost)');
  }
  const cases: { model: string; found: Case }[] = [];
  const known = new Set<string>();
  for (const folder of folders) {
    known.add(folder + MANIFEST);
    try {
      for (const [name, entry] of Object.entries(await readManifest(golden, folder + MANIFEST))) {
        known.add(folder + name);
        if (isAbout(name)) continue;
        cases.push(caseOf(golden, folder + name, () => compare(golden, folder + name, entry)));
      }
    } catch (error) {
      cases.push(caseOf(golden, folder + MANIFEST, () => Promise.reject(error)));
    }
  }
  const covered = (path: string) => folders.some((folder) => path.startsWith(folder));
  const strangers = [...golden.files.keys()].filter((path) => covered(path) && !known.has(path) && !isAbout(path));
  if (strangers.length > 0) notes.push(`not listed in ${MANIFEST}: ${strangers.join(', ')}`);
  return { cases, notes };
}

/** Files in a folder count for it, those at the top for the directory. */
function caseOf({ folders }: GoldenDir, path: string, run: () => Promise<Measured>): { model: string; found: Case } {
  const slash = path.indexOf('/');
  const own = folders.find((folder) => folder.path === '')?.name ?? '.';
  const model = slash < 0 ? own : path.slice(0, slash);
  return { model, found: { kind: 'recording', name: path.slice(slash + 1), tolerance: 0, run } };
}

async function readManifest(golden: GoldenDir, path: string): Promise<Record<string, Entry>> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(await golden.bytes(path)));
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(`${path}: is no JSON`, { cause });
  }
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const keys = issue.path?.map(({ key }) => String(key)).join(' > ') ?? 'the document';
  throw new DataError(`${path}: ${keys}: ${issue.message}`);
}

async function compare(golden: GoldenDir, path: string, { bytes, sha256: stated }: Entry): Promise<Measured> {
  const differs = (detail: string): Measured => ({ error: Number.NaN, detail: `${path} ${detail}` });
  const size = golden.files.get(path);
  if (size === undefined) return differs(`is missing; ${MANIFEST} lists it`);
  if (size !== bytes) return differs(`has ${size} bytes; ${MANIFEST} says ${bytes}`);
  if (!hasSha256()) return { error: 0 };
  const found = await sha256(await golden.bytes(path));
  return found === stated ? { error: 0 } : differs(`has the SHA-256 ${found}; ${MANIFEST} says ${stated}`);
}
