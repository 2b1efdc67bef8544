/** What a page gives to be read: bytes in memory, or a file, of which only what is read comes into memory. */
import { CheckpointError, LimitError } from '../engine/errors.ts';
import { type ByteSource, blobSource, bytesSource } from '../formats/byte-source.ts';
import { noRoom } from '../formats/safetensors.ts';
import { MAX_READ } from '../formats/safetensors-header.ts';

/** `what`: for messages. Reading throws CheckpointError for a file that the browser cannot read (any more). */
export function givenSource(given: Uint8Array | Blob, what: string): ByteSource {
  if (!(given instanceof Blob)) return bytesSource(given);
  const { size, read } = blobSource(given);
  return {
    size,
    read: (begin, end) =>
      read(begin, end).catch((cause: unknown) => {
        if (!(cause instanceof DOMException)) throw noRoom(what, end - begin, cause);
        throw new CheckpointError(`bytes ${begin} to ${end - 1} of ${what} cannot be read: ${cause.message}`, {
          cause,
          hint: 'choose it again: files that were changed or moved meanwhile cannot be read any more',
        });
      }),
  };
}

/** All of a checkpoint, which is needed at once. @throws LimitError for more than arrays hold; as `givenSource`. */
export async function wholeCheckpoint(source: ByteSource): Promise<Uint8Array> {
  const { size } = source;
  if (size <= MAX_READ) return source.read(0, size);
  throw new LimitError(
    `this checkpoint takes ${size} bytes; ${MAX_READ} is the most that a browser reads at once`,
    { asked: size, available: MAX_READ },
    { hint: 'go on with it under Node, or give the model file of its averaged weights' },
  );
}
