/** WGSL as it is shipped: without comments, blank lines and indentation. Lines of directives (`//#if`, engine/wgsl.ts) stay. */

/** @param {string} source Without block comments that hold directives. */
export function withoutComments(source) {
  const bare = source.replace(/\/\/(?!#)[^\n]*|\/\*[\s\S]*?\*\//g, (comment) => (comment.startsWith('//') ? '' : ' '));
  return bare
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .join('\n');
}
