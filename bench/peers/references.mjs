/** References on disk: float64 takes its time for the large workloads, and gives the same numbers every time. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { deserialize, serialize } from 'node:v8';
import { writeAtomically } from '../../dist/formats/files.node.js';
import { reference } from './reference.mjs';

const SOURCES = ['reference.mjs', 'workloads.mjs', 'autoencoder.mjs'].map((name) =>
  readFileSync(new URL(name, import.meta.url)),
);

/** The reference of a workload, kept for the next time; another after any change of how it is computed. */
export async function keptReference(name, workload, inputs) {
  const digest = createHash('sha256').update(Buffer.concat(SOURCES)).digest('hex').slice(0, 12);
  const path = fileURLToPath(new URL(`references/${name}-${digest}.bin`, import.meta.url));
  if (existsSync(path)) return deserialize(readFileSync(path));
  const computed = reference(workload, inputs);
  await writeAtomically(path, [serialize(computed)]);
  return computed;
}
