/** What a report says of the machine under Node: processors, load, and versions of what took part. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, loadavg } from 'node:os';
import { dirname, join } from 'node:path';
import { shippedVersion } from '../formats/shipped.node.ts';

export interface Machine {
  readonly machine: string;
  readonly load: number;
  readonly versions: Readonly<Record<string, string>>;
}

/** On a CPU adapter whatever else runs takes its cores: the load belongs to the figures. */
export function describeMachine(): Machine {
  const all = cpus();
  return {
    machine: `${all.length} x ${all[0]?.model.trim() ?? 'unknown CPU'}`,
    load: loadavg()[0]!,
    versions: { odelt: shippedVersion(), node: process.version.slice(1), webgpu: dawnVersion() },
  };
}

function dawnVersion(): string {
  try {
    const main = createRequire(import.meta.url).resolve('webgpu');
    return String(JSON.parse(readFileSync(join(dirname(main), 'package.json'), 'utf8')).version);
  } catch {
    return 'unknown';
  }
}
