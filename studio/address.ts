/** What the address says after its '#': parameters of all tabs, of which each reads and writes those that it knows. */

/** Parameters to set, and null for those to remove. */
export type Changes = Readonly<Record<string, string | null>>;

export const paramsOf = (hash: string): URLSearchParams => new URLSearchParams(hash.replace(/^#/, ''));

/** A hash with changes; what they do not name stays. */
export function changedHash(hash: string, changes: Changes): string {
  const params = paramsOf(hash);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) params.delete(name);
    else params.set(name, value);
  }
  return `#${params}`;
}
