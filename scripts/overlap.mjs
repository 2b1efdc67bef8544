/**
 * What it gains that gradients are summed while the backward pass goes on: the same updates with sums during it and after it, in turn,
 * medians over rounds; and what the sums themselves take. Needs `npm run build`, Open MPI and koffi.
 *   mpirun -n 2 --bind-to none node scripts/overlap.mjs [ROUNDS [WIDTH [BATCH [MB/S]]]]      default 21 256 4
 * MB/S: each sum also waits as long as a link of so many megabytes a second would take, as ranks of one machine have none; the
 * processor is idle meanwhile, as it is while a network works.
 */
import { setTimeout } from 'node:timers/promises';
import { joinCluster } from '../dist/cluster/cluster.node.js';
import { launchOf } from '../dist/cluster/launch.node.js';
import { createNodeEngine } from '../dist/engine/engine.node.js';
import { parseModelConfig } from '../dist/model/config.js';
import { initParams } from '../dist/model/params.js';
import { assembleBatch, drawStep } from '../dist/training/batch.js';
import { parseTrainConfig } from '../dist/training/config.js';
import { dealDraws, dealRows } from '../dist/training/deal.js';
import { createState } from '../dist/training/state.js';
import { TrainStep } from '../dist/training/step.js';

const [rounds = 21, width = 256, batch = 4, link = 0] = process.argv.slice(2).map(Number);
const cluster = await joinCluster(launchOf());
const {
  engine,
  node: { adapter },
} = await createNodeEngine();
const sizes = { imageSize: 28, channels: 1, patch: 7, width, heads: 4, depth: 6, classes: 10, lengths: null };
const model = parseModelConfig({ ...sizes, ignoreDt: true });
const train = parseTrainConfig({ batch, objective: 'naive', steps: 1000, lengthEvery: 0 });
const deal = dealRows(train, model, cluster);
let summing = 0;
const communicator = {
  ...cluster,
  async allReduce(values) {
    const began = performance.now();
    await cluster.allReduce(values);
    if (link > 0) await setTimeout(values.byteLength / link / 1000);
    summing += performance.now() - began;
  },
};
const state = createState(engine, { params: initParams(model, 1) });
const images = Float32Array.from({ length: deal.train.batch * 784 }, (_, i) => Math.sin(i + cluster.rank));
const steps = {};
for (const overlap of [true, false]) {
  steps[overlap] = await TrainStep.create(engine, model, train, state, { deal, communicator, overlap });
}
const times = { during: [], after: [], sums: [] };
for (let round = -2; round < rounds; round++) {
  const draws = dealDraws(drawStep(model, train, round + 2), deal);
  const request = {
    images,
    batch: assembleBatch(model, deal.train, new Uint32Array(deal.train.batch), draws, deal.shares),
    index: round + 2,
    lr: 1e-4,
  };
  // Which comes first changes from round to round.
  for (const overlap of round % 2 === 0 ? [true, false] : [false, true]) {
    await cluster.barrier();
    summing = 0;
    const began = performance.now();
    await steps[overlap].run(request);
    await cluster.barrier();
    if (round < 0) continue;
    times[overlap ? 'during' : 'after'].push(performance.now() - began);
    if (!overlap) times.sums.push(summing);
  }
}
const gains = times.after.map((after, i) => after - times.during[i]);
const at = (values, share) => values.toSorted((a, b) => a - b)[Math.round(share * (values.length - 1))];
if (cluster.rank === 0) {
  const { buckets, bytes } = steps.true.exchange;
  console.log(
    `${adapter.name}, ${cluster.size} ranks, ${buckets} buckets, ${(bytes / 1e6).toFixed(1)} MB; ms, median (quartiles)`,
  );
  for (const [name, values] of Object.entries({ ...times, 'after - during': gains })) {
    console.log(`${name}: ${[0.5, 0.25, 0.75].map((share) => at(values, share).toFixed(1)).join(' ')}`);
  }
  console.log(`hidden: ${((100 * at(gains, 0.5)) / at(times.sums, 0.5)).toFixed(0)} % of the sums`);
}
engine.dispose();
await cluster.leave();
