/** Recordings behind a URL: their folder's MANIFEST.json says what there is, and files are fetched when they are asked for. */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { DataError, InterruptedError } from '../engine/errors.ts';
import { parseSafetensors } from '../formats/safetensors.ts';
import { type GoldenDir, type GoldenFolder, parseGoldenConfig } from '../verify/golden.ts';
import { verify } from '../verify/replay.ts';
import type { Calls, VerifyRequest } from './protocol.ts';

/** Opens recordings at `url`. @throws DataError for a folder without a manifest or without models. */
async function openGoldenUrl(url: string, signal?: AbortSignal): Promise<GoldenDir> {
  const base = url.endsWith('/') ? url : `${url}/`;
  const bytes = async (path: string): Promise<Uint8Array<ArrayBuffer>> => {
    const at = new URL(path, base).href;
    const response = await fetch(at, { signal }).catch((cause: unknown) => {
      throwIfAborted(signal, `reading ${at} was interrupted`);
      throw new DataError(`${at}: cannot be read`, { cause });
    });
    if (!response.ok) throw new DataError(`${at}: the server answered ${response.status} ${response.statusText}`);
    return new Uint8Array(await response.arrayBuffer());
  };
  const json = async (path: string): Promise<unknown> => {
    try {
      return JSON.parse(new TextDecoder().decode(await bytes(path)));
    } catch (cause) {
      if (cause instanceof DataError || cause instanceof InterruptedError) throw cause;
      throw new DataError(`${base}${path}: is no JSON`, { cause });
    }
  };
  const listed = Object.entries(((await json('MANIFEST.json')) ?? {}) as Record<string, { bytes?: number }>);
  const files = new Map(listed.map(([path, entry]) => [path, entry?.bytes ?? 0]));
  files.set('MANIFEST.json', 0);
  const folders = [...files.keys()]
    .filter((path) => path === 'config.json' || /^[^/]+\/config\.json$/.test(path))
    .map((path): GoldenFolder => {
      const folder = path.slice(0, -'config.json'.length);
      const name = folder.slice(0, -1) || '.';
      const inside = [...files.keys()]
        .filter((file) => file.startsWith(folder))
        .map((file) => file.slice(folder.length));
      return {
        name,
        path: folder,
        open: async () => {
          const raw = await json(path);
          const has = (file: string) => inside.includes(file);
          return {
            ...{ name, raw, files: inside },
            ...parseGoldenConfig(raw, `${base}${path}`),
            tensors: async (stem) =>
              has(`${stem}.safetensors`)
                ? parseSafetensors(await bytes(`${folder}${stem}.safetensors`), `${folder}${stem}.safetensors`)
                : undefined,
            json: async (stem) => (has(`${stem}.json`) ? json(`${folder}${stem}.json`) : undefined),
          };
        },
      };
    });
  if (folders.length === 0) throw new DataError(`${base}: its MANIFEST.json lists no config.json`);
  return {
    path: base,
    folders,
    files,
    bytes,
    json: async (stem) => (files.has(`${stem}.json`) ? json(`${stem}.json`) : undefined),
  };
}

/** Replays recordings on an engine. @throws as `verify`, DataError. */
export async function verifyUrl(
  engine: Engine,
  { url, only }: VerifyRequest,
  { signal, tell }: { signal: AbortSignal; tell: (result: Calls['verify']['progress']) => void },
): Promise<Calls['verify']['result']> {
  const golden = await openGoldenUrl(url, signal);
  let [cases, failed] = [0, 0];
  let total = 0;
  const onCase = (progress: { readonly total: number }) => {
    total = progress.total;
  };
  for await (const result of verify(engine, golden, { only, signal, onCase })) {
    cases++;
    if (!result.ok) failed++;
    tell({ ...result, done: cases, total });
  }
  return { cases, failed };
}
