/** `odelt bench kernels` on an adapter: the examples' contracts by the command, its files, and what it is compared with. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BenchReport } from '../../bench/report.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { ROOT } from '../support/repository.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
  // As docs/benchmarks.md says, with the package in its place.
  for (const example of ['square.mjs', 'rmsnorm.ts']) {
    await build({
      entryPoints: [join(ROOT, 'examples', example)],
      outfile: join(cli.folder, example.replace(/\.ts$/, '.mjs')),
      bundle: true,
      format: 'esm',
      platform: 'node',
      loader: { '.wgsl': 'text' },
      alias: {
        'odelt/bench': join(cli.folder, 'bench.js'),
        'odelt/ops': join(cli.folder, 'ops.js'),
        odelt: join(cli.folder, 'node.js'),
      },
      external: ['webgpu', 'sharp', 'koffi'],
    });
  }
});
afterAll(() => cli?.remove());

const kernels = async (...args: string[]): Promise<BenchReport> => {
  const { code, stdout, stderr } = await cli.run('bench', 'kernels', '--rounds', '3', '--json', ...args);
  expect(stderr).not.toContain('rror');
  expect(code).toBe(0);
  return JSON.parse(stdout);
};

describe('bench kernels --contracts', () => {
  it("times examples/square.mjs, writes what it found, and compares with it and with another build's kernels", async () => {
    const args = ['--contracts', 'square.mjs'];
    const report = await kernels(...args, '--save', 'saved', '--html', 'pages/report.html', '--note', 'a <note>');
    expect(report.kernels.map(({ kernel, pass, flops, bytes }) => [kernel, pass, flops, bytes])).toEqual([
      ['square', 'forward', 2 ** 20, 8 * 2 ** 20],
      ['square', 'backward', 2 * 2 ** 20, 12 * 2 ** 20],
    ]);
    expect(report.command).toBe(
      "odelt bench kernels --rounds 3 --json --contracts square.mjs --save saved --html pages/report.html --note 'a <note>'",
    );
    expect(Object.keys(report.versions)).toEqual(['odelt', 'node', 'webgpu']);
    expect(report.versions.webgpu).toMatch(/^\d+\.\d+\.\d+/);
    const { kind } = report.subjects[0]!.adapter;
    const file = join(cli.folder, 'saved', `${kind}.json`);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(report);
    expect(readFileSync(join(cli.folder, 'saved', `${kind}.md`), 'utf8')).toContain(`# Kernels on ${kind}\n`);
    const html = readFileSync(join(cli.folder, 'pages', 'report.html'), 'utf8');
    expect(html).toContain('<p>a &lt;note&gt;</p>');
    expect(html).toContain('<title>square forward: size 1048576;');

    const { against } = await kernels(...args, '--against', `saved/${kind}.json`);
    expect(against).toMatchObject({ base: `saved/${kind}.json`, paired: false });
    expect(against!.comparisons.length + against!.leftOut.length).toBe(2);
    // The other build does not have this contract.
    const nothing = await kernels(...args, '--against', '.');
    expect(nothing.kernels).toEqual([]);
  });

  it('times examples/rmsnorm.ts once it is built, forward alone where it is told to', async () => {
    const report = await kernels('--contracts', 'rmsnorm.mjs', '--forward');
    expect(report.kernels.map(({ kernel, pass }) => `${kernel} ${pass}`)).toEqual(['rmsnorm forward']);
  });
});

it('bench kernels --against a folder measures two builds in turn', async () => {
  expect(existsSync(join(cli.folder, 'bench.js'))).toBe(true);
  const {
    against,
    subjects,
    kernels: results,
  } = await kernels('--filter', 'layernorm', '--shapes', 'small', '--against', '.');
  expect(subjects.map(({ name }) => name)[1]).toBe('.');
  expect(results.map(({ pass }) => pass)).toEqual(['forward', 'backward', 'forward', 'backward']);
  expect(against).toMatchObject({ base: '.', paired: true });
});

it('says which build it is that does not start', async () => {
  // A build without its packages, as after copying dist/ elsewhere.
  const folder = mkdtempSync(join(tmpdir(), 'odelt-alone-'));
  cpSync(cli.folder, folder, { recursive: true });
  const { code, stderr } = await cli.run('bench', 'kernels', '--filter', 'layernorm', '--against', folder);
  rmSync(folder, { recursive: true });
  expect(stderr).toContain(`--against '${folder}': that build finds no adapter: `);
  expect(stderr).not.toContain('internal error');
  expect(code).toBe(2);
});
