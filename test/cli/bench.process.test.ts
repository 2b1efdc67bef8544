/** `odelt bench kernels` refuses, before it asks for an adapter, what it could not use. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCli, type Cli } from '../support/cli.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
  const write = (name: string, text: string) => writeFileSync(join(cli.folder, name), text);
  mkdirSync(join(cli.folder, 'empty'));
  mkdirSync(join(cli.folder, 'old'));
  write('old/bench.js', 'export const contracts = [];');
  write('old/node.js', 'export const createEngine = () => {};');
  write('old.json', '{"date": "2026-01-01", "kernels": []}');
  write('none.mjs', 'export const answer = 42;');
  write('thrown.mjs', 'throw new Error("no luck");');
  write('typed.ts', 'export const answer: number = 42;');
  write('shader.mjs', "import './kernel.wgsl';");
  write('kernel.wgsl', '');
});
afterAll(() => cli?.remove());

const bundle = 'TypeScript and .wgsl files are built first: npx esbuild FILE --bundle';

describe('bench kernels', () => {
  it.each([
    [
      ['--against', 'nowhere'],
      "--against 'nowhere' is no adapter, and there is no such file or folder",
      'give auto, gpu,',
    ],
    [['--against', 'old.json'], "'old.json' is no saved benchmark of kernels: format: ", 'with this version'],
    [['--against', 'none.mjs'], "'none.mjs' is no saved benchmark of kernels: it is no JSON", ''],
    [['--against', 'empty'], "'empty' holds no build of odelt: there is no bench.js", 'node scripts/build.mjs FOLDER'],
    [['--against', 'old'], "the build in 'old' is too old to be measured beside this one", 'and give the file'],
    [['--contracts', 'nowhere.mjs'], "there is no module 'nowhere.mjs'", ''],
    [['--contracts', 'none.mjs'], "'none.mjs' exports no contract; it exports answer", "contract() of 'odelt/bench'"],
    [['--contracts', 'thrown.mjs'], "'thrown.mjs' cannot be imported: no luck", ''],
    [
      ['--contracts', 'shader.mjs'],
      `Node ${process.version} cannot import 'shader.mjs', or something that it imports`,
      bundle,
    ],
    [['--shapes', 'b,huge'], "there are no shapes 'huge'", 'shapes: small, s, b, l, xl'],
    [['--batches', '1,x'], "--batches is 'x'; it must be an integer at least 1 and at most 4096", ''],
    [['--rounds', '2'], "--rounds is '2'; it must be an integer at least 3", ''],
    [['--html', ''], '--html is empty', ''],
  ])('%j ends with 2 and says why', async (args, message, hint) => {
    // No adapter has this name: a run that got as far as asking for one would say so instead.
    const { code, stderr } = await cli.run('bench', 'kernels', '--adapter', 'none', ...args);
    expect(stderr).toContain(message);
    expect(stderr).toContain(hint);
    expect(code).toBe(2);
  });

  it('does not begin when the HTML cannot be written', async () => {
    const { code, stderr } = await cli.run('bench', 'kernels', '--adapter', 'none', '--html', 'empty');
    expect(stderr).toContain("OutputError: --html 'empty' cannot be written: it is a folder");
    expect(code).toBe(1);
  });

  it('imports TypeScript where the runtime does, else says how to build it', async () => {
    const { code, stderr } = await cli.run('bench', 'kernels', '--adapter', 'none', '--contracts', 'typed.ts');
    expect(code).toBe(2);
    const [major, minor] = process.versions.node.split('.').map(Number) as [number, number];
    const strips = major > 23 || (major === 23 && minor >= 6) || (major === 22 && minor >= 18);
    expect(stderr).toContain(strips ? "'typed.ts' exports no contract; it exports answer" : bundle);
  });
});
