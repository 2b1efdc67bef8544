/**
 * WGSL as it is shipped: without comments, blank lines and blanks that part nothing. Lines stay lines, as compilers' messages point at
 * them, and lines of directives (`//#if`, engine/wgsl.ts) stay as they are.
 */

/** @param {string} source Without block comments that hold directives. */
export function bareWgsl(source) {
  const bare = source.replace(/\/\/(?!#)[^\n]*|\/\*[\s\S]*?\*\//g, (comment) => (comment.startsWith('//') ? '' : ' '));
  return bare
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => (/^\/\/#|^(enable|requires|override)\b/.test(line) ? line : withoutBlanks(line)))
    .join('\n');
}

/** Blanks beside these part nothing; between two operators they may (`a - -b`). */
const withoutBlanks = (line) =>
  line.replace(/(?<![-+*/<>=&|!]) *([-+*/<>=&|!]+|[(){}[\],;:?%^]) *(?![-+*/<>=&|!~])/g, '$1');
