/** Modules that are benchmarked though they are not part of this build: a user's contracts, and another build of odelt. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { NodeDeviceOptions } from '../engine/adapters.node.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import type { Contract } from '../kernels/contract.ts';
import { contractsOf } from './own-contracts.ts';
import type { prepareCase } from './prepare.ts';

const BUNDLE =
  'npx esbuild FILE --bundle --format=esm --platform=node --packages=external --loader:.wgsl=text --outfile=FILE.mjs';

/**
 * The contracts with cases to time that the module at `path` exports. TypeScript, where the runtime imports it (Node 22.18 and newer).
 * @throws ConfigError for a file that is not there, cannot be imported, or exports none.
 */
export async function loadContracts(path: string): Promise<Contract[]> {
  const file = resolve(path);
  if (!existsSync(file)) throw new ConfigError(`there is no module '${path}'`);
  let exports: Record<string, unknown>;
  try {
    exports = await import(pathToFileURL(file).href);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ERR_UNKNOWN_FILE_EXTENSION') {
      throw new ConfigError(`Node ${process.version} cannot import '${path}', or something that it imports`, {
        cause,
        hint: `TypeScript and .wgsl files are built first: ${BUNDLE}`,
      });
    }
    throw new ConfigError(`'${path}' cannot be imported: ${message ?? String(cause)}`, { cause });
  }
  return contractsOf(exports, `'${path}'`);
}

/** Another build of odelt, as far as benchmarks use it. */
export interface OtherBuild {
  readonly prepareCase: typeof prepareCase;
  readonly contracts: readonly Contract[];
  readonly createEngine: (options: NodeDeviceOptions) => Promise<Engine>;
}

/** The build in a folder such as dist/. @throws ConfigError for a folder that holds none, or one from before benchmarks could do so. */
export async function openBuild(folder: string): Promise<OtherBuild> {
  const load = async (name: string): Promise<Partial<OtherBuild>> => {
    const file = resolve(join(folder, name));
    if (!existsSync(file)) {
      throw new ConfigError(`'${folder}' holds no build of odelt: there is no ${name}`, {
        hint: 'give the folder that `node scripts/build.mjs FOLDER` fills, inside a checkout with its packages',
      });
    }
    return import(pathToFileURL(file).href);
  };
  const [bench, node] = [await load('bench.js'), await load('node.js')];
  const { prepareCase, contracts } = bench;
  const { createEngine } = node;
  if (!prepareCase || !contracts || !createEngine) {
    throw new ConfigError(`the build in '${folder}' is too old to be measured beside this one`, {
      hint: 'save its results with its own command, and give the file',
    });
  }
  return { prepareCase, contracts, createEngine };
}
