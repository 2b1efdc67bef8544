/** Bytes that are read by place, wherever they are: a file on disk (files.node.ts), a page's Blob, memory. */

/** Something that holds bytes. A file that is open (`RegularFile`) is one. */
export interface ByteSource {
  /** In bytes. */
  readonly size: number;
  /** Bytes [begin, end), both within the size. */
  read(begin: number, end: number): Promise<Uint8Array>;
}

/** Bytes that are in memory. */
export const bytesSource = (bytes: Uint8Array): ByteSource => ({
  size: bytes.length,
  read: async (begin, end) => bytes.subarray(begin, end),
});

/** A file that was chosen in a page, or another Blob, of which only what is read comes into memory. */
export const blobSource = (blob: Blob): ByteSource => ({
  size: blob.size,
  read: async (begin, end) => new Uint8Array(await blob.slice(begin, end).arrayBuffer()),
});
