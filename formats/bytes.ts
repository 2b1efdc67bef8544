/** Bytes in pieces put together, and their SHA-256. */

/** The pieces one after another, in an array of their own. */
export function concatenated(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Whether the runtime computes SHA-256; pages do in secure contexts only. */
export const hasSha256 = (): boolean => globalThis.crypto?.subtle !== undefined;

/** SHA-256 in hexadecimal, computed by the runtime off the main thread. Needs `hasSha256`. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
