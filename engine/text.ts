/** Text from files, paths and servers, made fit to be shown: nothing in it can move a cursor, start a line or turn text round. */

/**
 * Control characters (C0, DEL, C1), line and paragraph separators, marks that change the direction of text, and halves of
 * surrogate pairs. What joins letters and emoji (U+200C, U+200D) is left alone.
 */
const UNPRINTABLE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Surrogate}/gu;

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(character: string): string {
  const code = character.charCodeAt(0);
  const hex = code.toString(16);
  return SHORT[character] ?? (code < 0x100 ? `\\x${hex.padStart(2, '0')}` : `\\u${hex.padStart(4, '0')}`);
}

/**
 * `text` with every character that a terminal obeys rather than shows written as an escape: `\n`, `\x1b`, `\u202e`. For names
 * and paths in messages, which end up on one line. Backslashes stay as they are, so that paths read as they were written.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escaped);
}

/** The colours that the command itself uses: bold, dim and the eight foreground colours, and back. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: ESC begins a colour code.
const KEPT = /(\u001b\[(?:[0-2]|22|3[0-79]|9[0-7])m|\n)/;

/** `text` as {@link printable} makes it, but with its lines and plain colours: the last thing done to what goes to a terminal. */
export function printableLines(text: string): string {
  // Splitting by a captured group puts what was kept at odd places.
  return text
    .split(KEPT)
    .map((part, i) => (i % 2 === 1 ? part : printable(part)))
    .join('');
}

/** A value as JSON of several lines, in which every character that `printable` escapes is escaped as JSON has it. */
export function printableJson(value: unknown): string {
  const unicode = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  // Line breaks are all between values: those inside of strings are escaped already.
  return JSON.stringify(value, null, 2)
    .split('\n')
    .map((line) => line.replace(UNPRINTABLE, unicode))
    .join('\n');
}
