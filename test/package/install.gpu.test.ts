/**
 * The packed package in the hands of a stranger: TypeScript accepts programs for Node, for browsers and with a kernel of one's own, in both
 * ways of resolving modules and with declarations checked; those for Node run.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fencedBlocks } from '../support/fenced.ts';
import { borrow, install, manifestIn, pack } from '../support/package.ts';
import { ROOT, run } from '../support/repository.ts';

const text = (file: string) => readFileSync(join(ROOT, file), 'utf8');

/** The first program in JavaScript below a heading of the README. */
function readmeProgram(heading: string): string {
  const found = new RegExp(`\\n## ${heading}\\n.*?\`\`\`js\\n(.*?)\`\`\``, 's').exec(text('README.md'));
  expect(found, `a program under "${heading}" in README.md`).not.toBeNull();
  return found![1]!;
}

/** What a page may use: a GPUDevice of its own, training and agreement from memory, a worker. */
const PAGE = `
${readmeProgram('In browsers')}
import {
  classAgreement, createTrainer, datasetOf, parseTrainConfig, prepareReference, preset, PRECISIONS, ACTIVATIONS, type TrainEvent,
} from 'odelt';

import { createWorker, type OdeltWorker } from 'odelt/worker';

// @ts-expect-error What needs Node is in odelt/node only.
import { runTraining } from 'odelt';

const adapter = await navigator.gpu.requestAdapter();
const own = await createEngine({ device: await adapter!.requestDevice() });
const limit: number = own.device.limits.maxBufferSize;
const data = datasetOf({
  name: 'two', height: 28, width: 28, channels: 1, classes: 10,
  pixels: new Uint8Array(2 * 784), labels: new Uint8Array(2),
});
const trainer = await createTrainer(own, { model: preset('tiny'), train: parseTrainConfig({ steps: 1, batch: 8 }), data });
const events: TrainEvent[] = [];
for await (const event of trainer.run()) events.push(event);
const share: number = classAgreement(prepareReference(data), values, [7], { neighbours: 1 }).share;
const worker: OdeltWorker = createWorker();
const run = worker.train({ data: { kind: 'pictures', pictures: [{ picture: await createImageBitmap(new Blob()), label: 0 }] } });
for await (const event of run) if (event.type === 'step') events.push(event);
const kept: Uint8Array = (await run).model;
document.title = [limit, kept.length, share, PRECISIONS.length, ACTIVATIONS.length].join();
`;

/** A worker of Node's own that serves a client over a port: both ends fit without the browser's types. */
const PORTS = `
import { MessageChannel } from 'node:worker_threads';
import { createWorker, type Scope, serveWorker } from 'odelt/worker';
import { createEngine } from 'odelt/node';

const { port1, port2 } = new MessageChannel();
const scope: Scope = {
  postMessage: (message, transfer) => port2.postMessage(message, transfer.filter((part) => part instanceof ArrayBuffer)),
  addEventListener: (_, listener) => void port2.on('message', (data) => listener({ data })),
};
serveWorker(scope, { createEngine });
const worker = createWorker({
  postMessage: (message, transfer) => port1.postMessage(message, transfer.filter((part) => part instanceof ArrayBuffer)),
  addEventListener: (type, listener) => void port1.addEventListener(type, listener as (event: Event) => void),
  start: () => port1.start(),
});
const { features } = await worker.adapter();
console.log(features.length > 0);
await worker.dispose();
port1.close();
`;

/** examples/rmsnorm.ts, its contract checked. Without a bundler WGSL is a string. */
const RMSNORM = `
import { createEngine } from 'odelt';
import { checkCase } from 'odelt/bench';
import { add } from 'odelt/ops';
${text('examples/rmsnorm.ts').replace("import source from './rmsnorm.wgsl';", `const source = ${JSON.stringify(text('examples/rmsnorm.wgsl'))};`)}
const engine = await createEngine();
for (const k of rmsnormContract.cases) {
  const { forward, backward } = await checkCase(engine, rmsnormContract, k);
  console.log('rmsnorm', forward < 2e-5, backward < 2e-5);
}
// Inputs have their names, and some cases may lack some.
const sum = {
  name: 'sum',
  cases: [{ size: 5, twice: false }, { size: 5, twice: true }],
  reduction: () => 2,
};
const sumContract = contract({
  ...sum,
  inputs: ({ size, twice }) => ({ x: { shape: [size] }, ...(twice ? { more: { shape: [size] as const } } : {}) }),
  run: (ctx, { x, more }) => ({ y: add(ctx, x, more ?? x) }),
  reference: ({ x, more }) => ({ y: x.map((v, i) => v + (more ?? x)[i]!) }),
  differentiable: ['x'],
});
for (const k of sumContract.cases) console.log('sum', (await checkCase(engine, sumContract, k)).forward < 1e-6);
contract({
  ...sum,
  inputs: ({ size }) => ({ x: { shape: [size] } }),
  // @ts-expect-error There is no such input.
  run: (ctx, { x, more }) => ({ y: add(ctx, x, more) }),
  reference: ({ x }) => ({ y: x }),
  // @ts-expect-error Nor is this one.
  differentiable: ['more'],
});
engine.dispose();
`;

/** What pieces of the documents have from the text around them. */
const GIVEN = `
declare const worker: import('odelt/worker').OdeltWorker;
declare const bytes: Uint8Array<ArrayBuffer>;
declare const latents: Float32Array;
declare const Deno: { writeFile(path: string, bytes: Uint8Array): Promise<void> };
interface Element { readonly files: FileList }
`;

/** The examples, and the code of the documents: piece by piece, but where a page's pieces are one program; by the files' names. */
function shownCode(): Map<string, string> {
  const shown = new Map<string, string>();
  for (const name of readdirSync(join(ROOT, 'examples')).filter((file) => file.endsWith('.mjs'))) {
    const code = text(`examples/${name}`).replace(/'\.\/(\w+)\.mjs'/, "'./$1.js'");
    if (code.includes("from 'odelt")) shown.set(name.replace('.mjs', '.ts'), code);
  }
  for (const page of readdirSync(join(ROOT, 'docs'))) {
    // Pieces of the examples.
    if (!page.endsWith('.md') || page === 'write-a-kernel.md') continue;
    const pieces = fencedBlocks(text(`docs/${page}`)).filter(({ language }) => ['js', 'ts'].includes(language));
    const codes = pieces.map(({ code }) => code);
    for (const [i, code] of (page === 'concepts.md' ? [codes.join('')] : codes).entries())
      shown.set(`${page}-${i}.ts`, `${code}\nexport {};\n`);
  }
  return shown;
}

const RESOLUTIONS = {
  bundler: { module: 'esnext', moduleResolution: 'bundler', noEmit: true },
  nodenext: { module: 'nodenext', moduleResolution: 'nodenext', outDir: 'out' }, // the programs that run
} as const;

const SETTINGS = {
  'Node without the DOM': {
    types: ['node'],
    lib: ['es2023'],
    files: ['node.ts', 'saxpy.ts', 'rmsnorm.ts', 'ports.ts'],
  },
  'Node with the DOM': { types: ['node'], files: ['node.ts'] },
  'a browser, without types of Node': {
    types: [],
    lib: ['es2023', 'dom'],
    files: ['page.ts', 'saxpy.ts', 'rmsnorm.ts'],
  },
} as const;

describe('the installed package', () => {
  let scratch: string;
  let project: string;
  let installed: string;
  let tarball: string;

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'odelt-package-'));
    project = join(scratch, 'project');
    tarball = await pack(scratch);
    installed = await install(tarball, project);
    borrow(project, ['@types/node']);
    writeFileSync(join(project, 'node.ts'), readmeProgram('In Node'));
    writeFileSync(join(project, 'page.ts'), PAGE);
    writeFileSync(join(project, 'ports.ts'), PORTS);
    writeFileSync(join(project, 'saxpy.ts'), text('examples/first-kernel.mjs'));
    writeFileSync(join(project, 'rmsnorm.ts'), RMSNORM);
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  it('holds what its README links to, and no source', () => {
    const readme = readFileSync(join(installed, 'README.md'), 'utf8');
    const links = [...readme.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, path]) => path!);
    expect(links.length).toBeGreaterThan(3);
    const missing = links.filter((path) => !statSync(join(installed, path), { throwIfNoEntry: false }));
    expect(missing).toEqual([]);
    expect(statSync(join(installed, 'index.ts'), { throwIfNoEntry: false })).toBeUndefined();
    const [, download, disk] = /package takes (\d+) MB to download and (\d+) MB on disk/.exec(readme)!.map(Number);
    expect(Math.abs(statSync(tarball).size / 1e6 - download!)).toBeLessThan(1);
    const files = readdirSync(installed, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const bytes = files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
    expect(Math.abs(bytes / 1e6 - disk!)).toBeLessThan(1);
  });

  /** What the compiler says of a configuration in the project. */
  async function typeErrors(config: string, content: object): Promise<string> {
    writeFileSync(join(project, config), JSON.stringify(content));
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const { stdout } = await run(process.execPath, [tsc, '-p', config], { cwd: project }).catch((error) => error);
    return stdout;
  }

  for (const [resolution, resolving] of Object.entries(RESOLUTIONS)) {
    for (const [where, { files, ...options }] of Object.entries(SETTINGS)) {
      it(`type-checks for ${where}, moduleResolution ${resolution}`, async () => {
        const config = `tsconfig.${resolution}.${where.replace(/\W+/g, '-')}.json`;
        const compilerOptions = {
          strict: true,
          noUncheckedIndexedAccess: true,
          skipLibCheck: false,
          target: 'es2022',
          ...resolving,
          ...options,
        };
        expect(await typeErrors(config, { compilerOptions, files })).toBe('');
      });
    }
  }

  it('type-checks what documents and examples show, which is JavaScript', async () => {
    const shown = shownCode();
    expect(shown.size).toBeGreaterThan(12);
    mkdirSync(join(project, 'shown'));
    for (const [name, code] of shown) writeFileSync(join(project, 'shown', name), code);
    writeFileSync(join(project, 'shown/given.d.ts'), GIVEN);
    const compilerOptions = {
      ...{ strict: false, skipLibCheck: true, target: 'es2022', types: ['node'] },
      ...{ module: 'esnext', moduleResolution: 'bundler', noEmit: true },
    };
    expect(await typeErrors('shown/tsconfig.json', { compilerOptions, include: ['*.ts'] })).toBe('');
  });

  describe('under Node', () => {
    const node = async (file: string) => (await run(process.execPath, [file], { cwd: project })).stdout;
    // What a machine without any Vulkan driver installs beside odelt.
    beforeAll(() => borrow(project, ['@sparticuz/chromium']));

    it("runs the README's program", async () => {
      await node('out/node.js');
      const png = readFileSync(join(project, 'garments.png'));
      expect([...png.subarray(1, 4)]).toEqual([...Buffer.from('PNG')]);
      expect(png.readUInt32BE(16)).toBeGreaterThanOrEqual(10 * 28 * 3);
    });

    it('runs kernels of its own, and checks one against its contract', async () => {
      expect(await node('out/saxpy.js')).toBe('y[3] = 333\n');
      expect(await node('out/rmsnorm.js')).toBe(`${'rmsnorm true true\n'.repeat(3)}sum true\nsum true\n`);
    });

    it('serves calls over a port', async () => {
      expect(await node('out/ports.js')).toBe('true\n');
    });

    it('has its command and its model, which the command finds', async () => {
      const cli = join(installed, manifestIn(installed).bin.odelt!);
      expect(await run(process.execPath, [cli, '--version'])).toMatchObject({
        stdout: `${manifestIn(ROOT).version}\n`,
        stderr: '',
      });
      const code = "console.log(import.meta.resolve('odelt/models/fashion-mnist.safetensors'))";
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code], { cwd: project });
      expect(statSync(fileURLToPath(stdout.trim())).size).toBeGreaterThan(1e6);
      const out = join(project, 'bag.png');
      await run(process.execPath, [cli, 'sample', '--labels', '8', '--steps', '1', '--out', out], { cwd: project });
      expect(statSync(out).size).toBeGreaterThan(100);
    });
  });
});
