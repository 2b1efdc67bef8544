/** What pages take of the built package, bundled for browsers: only what they import, and no more than the README says. */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundleOf } from '../support/bundle.ts';
import { fencedBlocks } from '../support/fenced.ts';
import { buildInto, ROOT, textOf } from '../support/repository.ts';

const [program] = fencedBlocks(textOf('README.md')).filter(
  ({ language, heading }) => language === 'js' && heading === 'In browsers',
);

describe('a page', () => {
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'odelt-bundles-'));
    const installed = join(folder, 'node_modules/odelt');
    mkdirSync(installed, { recursive: true });
    cpSync(join(ROOT, 'package.json'), join(installed, 'package.json'));
    await buildInto(join(installed, 'dist'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('that imports one function gets one function', async () => {
    // As one file: esbuild's splitting puts what an index file names beside what is loaded later.
    const contents = "import { ceilDiv } from 'odelt'; console.log(ceilDiv(7, 2));";
    const one = await bundleOf(contents, folder, { splitting: false });
    expect(one.bytes).toBeLessThan(2000);
  });

  it('that samples gets no more than the README says, and nothing that only others need', async () => {
    const sampling = await bundleOf(program!.code, folder);
    expect(sampling.bytes).toBeLessThan((await bundleOf("export * from 'odelt';", folder)).bytes);
    // Not training's kernels, derivatives and tape, timestamps, solvers of several stages, streaming, or a parser of WGSL beside the browser's.
    // Nor what kernels are checked by.
    const names = [
      'differentiable:',
      'backward_kv',
      'knows no derivative',
      'dropout rate',
      'timestampWrites',
      'adamw',
      'solver/stages',
      'stream/x',
      'WgslReflect',
      'none of its variants',
      'subgroup_matrix',
      'fn gelu(',
      'sampling was interrupted',
    ];
    const present = names.filter((name) => sampling.text.includes(name));
    expect(present).toEqual(['fn gelu(', 'sampling was interrupted']);
    expect(sampling.gzipped).toBeLessThan(62_000);
    const said = Number(/sampling: (\d+) kB gzipped/.exec(textOf('README.md'))![1]);
    expect(Math.abs(sampling.gzipped / 1e3 - said)).toBeLessThan(3);
  });

  it('with a worker gets the calls to it only, as much as its documentation says', async () => {
    const page = await bundleOf("import { createWorker } from 'odelt/worker'; createWorker();", folder);
    const said = Number(/page's part is (\d+) kB gzipped/.exec(textOf('docs/browsers.md'))![1]);
    expect(Math.abs(page.gzipped / 1e3 - said)).toBeLessThan(0.6);
  });

  it('gets WGSL without comments', async () => {
    const { text } = await bundleOf("export { Sampler } from 'odelt';", folder);
    expect(text.includes('//#if')).toBe(true);
    expect(text.match(/^ *\/\/\/? .*$/m)).toBeNull();
  });
});
