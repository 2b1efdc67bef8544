/** What a bundler for browsers makes of a module: the files that are read with the page, without those that are loaded on request. */
import { relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

export interface Bundle {
  readonly bytes: number;
  /** The sum of the files', each by itself as servers send them. */
  readonly gzipped: number;
  readonly text: string;
}

/** Bundles `contents` as a module in `folder`, where its packages are found. */
export async function bundleOf(contents: string, folder: string, { splitting = true } = {}): Promise<Bundle> {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: folder, sourcefile: 'page.js' },
    absWorkingDir: folder,
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    splitting,
    metafile: true,
    outdir: 'out',
    write: false,
  });
  const read = new Set<string>();
  const visit = (name: string): void => {
    if (read.has(name)) return;
    read.add(name);
    for (const { path, kind } of metafile.outputs[name]!.imports) if (kind === 'import-statement') visit(path);
  };
  const entry = Object.entries(metafile.outputs).find(([, { entryPoint }]) => entryPoint?.endsWith('page.js'));
  visit(entry![0]);
  const files = outputFiles.filter(({ path }) => read.has(relative(folder, path)));
  if (files.length !== read.size) throw new Error(`${files.length} files of ${[...read].join(', ')} are there`);
  return {
    bytes: files.reduce((sum, file) => sum + file.contents.length, 0),
    gzipped: files.reduce((sum, file) => sum + gzipSync(file.contents).length, 0),
    text: files.map((file) => file.text).join('\n'),
  };
}
