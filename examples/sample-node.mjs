/**
 * Draws pictures with the library under Node, twice from the same noise: with many steps and blocks, and with few.
 *   npm run build && node examples/sample-node.mjs [MODEL.safetensors] [OUT.png]
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  allowedLengths,
  contactSheet,
  createEngine,
  encodePng,
  fromUnit,
  openModelSource,
  ResidentModel,
  Sampler,
  shippedModel,
} from 'odelt/node';

const [file = shippedModel(), out = 'out/example.png'] = process.argv.slice(2);
const { config, source, close } = await openModelSource(file); // blocks are read when they are to run
const lengths = allowedLengths(config);
const settings = [
  { steps: 16, blocks: Math.max(...lengths) },
  { steps: 4, blocks: Math.min(...lengths) },
];

const engine = await createEngine(); // a GPU if there is one, else a software adapter
try {
  const model = new ResidentModel(engine, config, source);
  const labels = Array.from({ length: config.classes }, (_, i) => i);
  const sampler = new Sampler(engine, model, { batch: labels.length });
  const rows = [];
  for (const { steps, blocks } of settings) {
    const { values } = await sampler.sample({ labels, steps, blocks, seed: 1 });
    rows.push(fromUnit(values, config.imageSize, config.imageSize, config.channels));
    console.log(`T=${steps} L=${blocks}: ${engine.memory.report().live} bytes of GPU buffers`);
  }
  const sheet = contactSheet({
    rowLabels: settings.map(({ steps, blocks }) => `T=${steps} L=${blocks}`),
    columnLabels: [''],
    cell: (r) => rows[r],
    grid: { columns: labels.length, scale: 2 },
  });
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(out, encodePng(sheet));
  console.log(`wrote ${out}`);
} finally {
  engine.dispose();
  await close();
}
