/** `odelt studio`: serves the page that was built into dist/studio, with the shipped model, until Ctrl-C. */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { shippedData, shippedGolden, shippedModel } from '../formats/shipped.node.ts';
import { log, print } from './output.node.ts';
import { number } from './session.node.ts';
import { serveFiles } from './static.node.ts';

const PORT = 8017;

/** The shipped pictures, as they lie in their folder. */
const PICTURES = ['t10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'];

/** The page's files, the model, the recordings and the pictures to train on, by the paths of their URLs. */
function studioFiles(): Map<string, string> {
  const folder = fileURLToPath(new URL('../studio/', import.meta.url));
  const files = new Map(readdirSync(folder).map((name) => [`/${name}`, `${folder}${name}`]));
  files.set('/', `${folder}index.html`);
  const golden = shippedGolden();
  for (const entry of readdirSync(golden, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) files.set(`/golden/${relative(golden, path).replaceAll(sep, '/')}`, path);
  }
  for (const name of PICTURES) files.set(`/data/fashion-mnist/${name}`, join(shippedData(), name));
  return files.set('/models/fashion-mnist.safetensors', shippedModel());
}

/** Shows an address in the user's browser; where that fails, the address has been printed. */
function openInBrowser(url: string): void {
  const { platform } = process;
  const [program, ...args] =
    platform === 'darwin' ? ['open'] : platform === 'win32' ? ['cmd', '/c', 'start', ''] : ['xdg-open'];
  spawn(program!, [...args, url], { stdio: 'ignore', detached: true })
    .on('error', () => log('no browser could be opened; open the address yourself'))
    .unref();
}

export function addStudio(command: Command): void {
  command
    .option(
      '--port <n>',
      'of 127.0.0.1; 0 is any that is free',
      number('--port', { min: 0, max: 65535, integer: true }),
      PORT,
    )
    .option('--no-open', 'only print the address (as where the output is no terminal)')
    .addHelpText(
      'after',
      '\nServes one page on this machine only, until Ctrl-C. The browser does the work, with its own WebGPU.',
    )
    .action(async ({ port, open }: { port: number; open: boolean }) => {
      const url = await serveFiles(studioFiles(), port);
      print(url);
      log('Ctrl-C ends it');
      if (open && process.stdout.isTTY) openInBrowser(url);
      await new Promise(() => {}); // until a signal (cli/ends.node.ts)
    });
}
