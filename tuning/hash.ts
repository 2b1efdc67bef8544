/** FNV-1a of a text in 32 bits, as eight digits: to tell texts apart that nobody made alike on purpose. `seed` makes others of it. */
export function hash32(text: string, seed = 0): string {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}
