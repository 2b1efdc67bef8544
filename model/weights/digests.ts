/**
 * Digests of a model file's groups: written into its metadata, compared when a group is read. They tell a group that is damaged
 * or of another version of the file, which the file's header, read before, cannot.
 */
import { CheckpointError, UnsupportedError } from '../../engine/errors.ts';
import { concatenated, hasSha256, sha256 } from '../../formats/bytes.ts';
import type { ParamLayout } from '../params.ts';

/** Key of the digests in a file's metadata: a JSON object from the group's name to its SHA-256 in hexadecimal. */
export const DIGESTS_KEY = 'odelt.sha256';

/** Neighbours in one buffer as one array, others copied together. */
function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const [first] = parts;
  let end = first?.byteOffset ?? 0;
  const oneRange = parts.every((part) => {
    const follows = part.buffer === first!.buffer && part.byteOffset === end;
    end = part.byteOffset + part.length;
    return follows;
  });
  if (first && oneRange && first.buffer instanceof ArrayBuffer) {
    return new Uint8Array(first.buffer, first.byteOffset, end - first.byteOffset);
  }
  return concatenated(parts);
}

/**
 * SHA-256 of a group: of its tensors' bytes as the file has them, in the layout's order. The runtime's own implementation
 * computes it, off the main thread. @throws UnsupportedError where there is none.
 */
export async function groupDigest(tensors: readonly Uint8Array[]): Promise<string> {
  if (!hasSha256()) {
    throw new UnsupportedError('weights cannot be checked: this page has no crypto.subtle', {
      hint: 'serve it over https, or open it from localhost; WebGPU needs that, too',
    });
  }
  return sha256(joined(tensors));
}

/**
 * The digests that a file's metadata hold, by the layout's groups; undefined for a group without. Files of other origin have
 * none at all. @throws CheckpointError for an entry that is none.
 */
export function storedDigests(
  metadata: ReadonlyMap<string, string>,
  layout: ParamLayout,
  file: string,
): (string | undefined)[] {
  const text = metadata.get(DIGESTS_KEY);
  if (text === undefined) return layout.groups.map(() => undefined);
  let byName: Map<string, unknown>;
  try {
    byName = new Map(Object.entries(JSON.parse(text) as Record<string, unknown>));
  } catch (cause) {
    throw new CheckpointError(`${file}: its metadata '${DIGESTS_KEY}' are no JSON object`, { cause });
  }
  return layout.groups.map(({ name }) => {
    const digest = byName.get(name);
    if (digest === undefined || (typeof digest === 'string' && /^[0-9a-f]{64}$/.test(digest))) return digest;
    throw new CheckpointError(`${file}: the digest of group ${name} in its metadata '${DIGESTS_KEY}' is no SHA-256`);
  });
}

/** A group that is not what its digest says. */
export class DamagedGroup extends CheckpointError {}

/** @throws DamagedGroup where the group's bytes are not those that the file was written with. */
export async function checkDigest(
  tensors: readonly Uint8Array[],
  stored: string | undefined,
  group: string,
  file: string,
): Promise<void> {
  if (stored === undefined) return;
  const found = await groupDigest(tensors);
  if (found === stored) return;
  throw new DamagedGroup(`${file}: group ${group} is damaged: its SHA-256 is ${found}, the file states ${stored}`, {
    hint: 'open the model again if the file was replaced meanwhile; else fetch or write it again',
  });
}
