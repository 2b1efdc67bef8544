/**
 * Trains on pictures of your own with the library under Node, into a run folder, then draws what was learnt. Run again, it goes on.
 *   npm run build && node examples/train-node.mjs PICTURES [UPDATES] [FOLDER]      (PICTURES: a sub-folder of pictures per class)
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  checkpointSteps,
  createEngine,
  encodePng,
  fromUnit,
  grid,
  modelForData,
  openDataset,
  openModelSource,
  parseTrainConfig,
  ResidentModel,
  runTraining,
  Sampler,
} from 'odelt/node';

const [pictures, updates = '2000', folder = 'runs/mine'] = process.argv.slice(2);
if (pictures === undefined) {
  console.error('usage: node examples/train-node.mjs PICTURES [UPDATES] [FOLDER]');
  process.exit(2);
}

// Pictures that are not there, or none: in a line, with the remedy.
const fail = ({ name, message, hint }) => {
  console.error(`${name}: ${message}${hint ? `\n  hint: ${hint}` : ''}`);
  process.exit(1);
};
const data = await openDataset(pictures, { size: 28 }).catch(fail); // cropped and scaled to 28 x 28
const config = {
  data: pictures, // a note for the run's config.json
  model: modelForData('tiny', data),
  train: parseTrainConfig({ batch: 32, steps: Number(updates), lr: 1e-3, emaDecay: 0.99 }),
};

const engine = await createEngine();
try {
  const checkpoint = await runTraining(engine, {
    folder,
    config,
    data,
    resume: (await checkpointSteps(join(folder, 'checkpoints'))).length > 0,
    saveEvery: 250,
    environment: { node: process.version },
    onStep: ({ step, losses }) => console.log(`update ${step}: loss ${losses.loss.toFixed(3)}`),
  });

  const { config: model, source, close } = await openModelSource(join(checkpoint, 'ema.safetensors'));
  const labels = Array.from({ length: model.classes }, (_, i) => i);
  const sampler = new Sampler(engine, new ResidentModel(engine, model, source), { batch: labels.length });
  const { values } = await sampler.sample({ labels, steps: 16, guidance: 2, seed: 1 });
  await close();
  const out = join(folder, 'samples.png');
  const drawn = fromUnit(values, model.imageSize, model.imageSize, model.channels);
  writeFileSync(out, encodePng(grid(drawn, { columns: labels.length, scale: 3 })));
  console.log(`wrote ${out}`);
} finally {
  engine.dispose();
}
