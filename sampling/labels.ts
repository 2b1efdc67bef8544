/** Classes by name: what people write for the labels of samples, and what they are shown. */
import { ConfigError } from '../engine/errors.ts';
import { printable } from '../engine/text.ts';

/** Most classes that a message lists. */
const LISTED = 20;

/** "7 (Sneaker)", or "7" where classes have no names. */
export const describeLabel = (label: number, names?: readonly string[]): string =>
  names?.[label] === undefined ? String(label) : `${label} (${printable(names[label])})`;

function allowed(classes: number, names?: readonly string[]): string {
  if (!names) return `0 to ${classes - 1}`;
  const some = Array.from({ length: Math.min(classes, LISTED) }, (_, label) => describeLabel(label, names));
  return some.join(', ') + (classes > LISTED ? `, ... ${describeLabel(classes - 1, names)}` : '');
}

const folded = (text: string) => text.normalize('NFC').toLowerCase();

/** Classes of that name: written exactly so, or else in other letters of upper and lower case. */
function named(text: string, names: readonly string[]): number[] {
  const matching = (same: (name: string) => boolean) => names.flatMap((name, label) => (same(name) ? [label] : []));
  const exact = matching((name) => name === text);
  return exact.length > 0 ? exact : matching((name) => folded(name.trim()) === folded(text));
}

/**
 * Labels from a list such as "7, bag, none": numbers of classes, their names (upper and lower case are alike), and none for no
 * class. A number is always a class's number, even where a class is called so. `option` is what the user calls the list.
 * @throws ConfigError naming the allowed ones
 */
export function parseLabels(
  text: string,
  classes: number,
  names?: readonly string[],
  option = 'labels',
): (number | null)[] {
  return text.split(',').map((raw) => {
    const part = raw.trim();
    if (part === 'none') return null;
    const refuse = (problem: string): never => {
      throw new ConfigError(`${option} has '${part}', ${problem}`, {
        hint: `classes are ${allowed(classes, names)}; none is for no class`,
      });
    };
    if (/^\d+$/.test(part)) return Number(part) < classes ? Number(part) : refuse('which is no class of this model');
    const found = names ? named(part, names) : [];
    if (found.length > 1) refuse(`which may be ${found.map((label) => describeLabel(label, names)).join(' or ')}`);
    return found[0] ?? refuse('which is no class of this model');
  });
}
