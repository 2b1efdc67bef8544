/** The JavaScript of docs/concepts.md runs from top to bottom, and prints what its comments say. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runModule } from '../support/examples.ts';
import { fencedBlocks } from '../support/fenced.ts';
import { scratch, textOf } from '../support/repository.ts';

it('docs/concepts.md: the pieces of JavaScript are one program, which prints what they say', async () => {
  const blocks = fencedBlocks(textOf('docs/concepts.md')).filter(({ language }) => language === 'js');
  const pieces = blocks.map(({ code }) => code);
  const said = pieces.flatMap((code) =>
    Array.from(code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm), ([, text]) => text),
  );
  expect(pieces.length).toBeGreaterThan(8);
  expect(said.length).toBe(pieces.join('').split('console.log').length - 1);
  const folder = scratch();
  try {
    const file = join(folder, 'concepts.mjs');
    writeFileSync(file, `${pieces.join('')}\nengine.dispose();\nawait close();\n`);
    const printed = await runModule(file, join(folder, 'bundled.mjs'));
    expect(printed.trimEnd().split('\n')).toEqual(said);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
