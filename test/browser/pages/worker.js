/** What the worker's test does in the page. Reports one object; the test compares it. */
import * as odelt from '/dist/index.js';
import { createWorker } from '/dist/worker.js';

const send = (body) => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
const { model, train, pixels, labels } = await (await fetch('/setup.js')).json();
const data = () => ({
  ...{ kind: 'pixels', name: 'tiny', height: 8, width: 8, channels: 1, classes: 3 },
  ...{ pixels: Uint8Array.from(pixels), labels: Uint8Array.from(labels) },
});
const sha256 = async (bytes) =>
  Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)), (b) => b.toString(16).padStart(2, '0')).join('');
const told = (error) => ({
  name: error.name,
  typed: error instanceof odelt[error.name],
  ...{ code: error.code, message: error.message, hint: error.hint ?? null },
});
const failing = (promise) => promise.then(() => ({ name: 'nothing was thrown' }), told);

const equal = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

async function main() {
  const worker = createWorker();
  const url = '/models/fashion-mnist.safetensors';
  const { config } = await worker.load(url, { batch: 2 });
  const call = worker.sample({ labels: [7, 3], steps: 2, blocks: 4, seed: 5 });
  const progress = [];
  for await (const { done, total } of call) progress.push([done, total]);
  const { values, shape } = await call;
  await worker.load(url, { batch: 2 });
  const again = await worker.sample({ labels: [7, 3], steps: 2, blocks: 4, seed: 5 });
  const errors = {
    label: await failing(worker.sample({ labels: [99], steps: 1, blocks: 4 })),
    missing: await failing(worker.load('/models/nothing.safetensors')),
    bench: await failing(worker.bench({ filter: 'nonsense' })),
    uncloneable: await failing(worker.sample({ labels: [1], steps: 1, blocks: 4, noise: () => 0 })),
  };

  // Ten steps, and ten that were interrupted after the third update.
  const run = worker.train({ model, train, data: data() });
  const steps = [];
  for await (const event of run) steps.push(event.type === 'step' ? event.step : event.type);
  const trained = await run;
  const controller = new AbortController();
  const cut = worker.train({ model, train, data: data(), saveEvery: 2 }, { signal: controller.signal });
  let checkpoint;
  let interrupted;
  try {
    for await (const event of cut) {
      if (event.type === 'step' && event.step === 3) controller.abort();
      if (event.type === 'checkpoint') checkpoint = event;
    }
  } catch (error) {
    interrupted = told(error);
  }
  const resumed = await worker.train({ data: data(), resume: new Blob([checkpoint.bytes]) });
  errors.otherModel = await failing(worker.train({ data: data(), resume: checkpoint.bytes, train: { batch: 4 } }));
  checkpoint.bytes[checkpoint.bytes.length - 1] ^= 1;
  errors.damaged = await failing(worker.train({ data: data(), resume: checkpoint.bytes }));
  await worker.load(trained.model);
  const small = await worker.sample({ labels: [1], steps: 1, blocks: 4, seed: 2 });
  const waiting = failing(worker.bench());
  await worker.dispose();
  errors.disposed = await waiting;

  // A device that is lost in the fourth update: training goes on from the last checkpoint on the next one.
  const lossy = createWorker(lossyWorker());
  const recovery = lossy.train({ model, train, data: data(), saveEvery: 2 });
  const recovered = [];
  for await (const event of recovery) if (event.type === 'recovered') recovered.push([event.step, event.message]);
  const survivor = await recovery;
  await lossy.dispose();

  // One that is lost in the midst of sampling: that call fails, and the next one gets the model on a new device.
  const sampling = createWorker(lossyWorker());
  await sampling.load(survivor.model);
  errors.lost = await failing(sampling.sample({ labels: [1], steps: 8, blocks: 4, seed: 2 }));
  const after = await sampling.sample({ labels: [1], steps: 1, blocks: 4, seed: 2 });
  await sampling.dispose();

  await send({
    ...{ classes: config.classes, progress, shape, values: [...values], steps, errors, interrupted, recovered },
    checkpointAt: checkpoint.step,
    same: [equal(again.values, values), equal(after.values, small.values)],
    digests: await Promise.all([trained, resumed, survivor].map(({ checkpoint: bytes }) => sha256(bytes))),
    ...{ trained: [trained.step, resumed.step, survivor.step], small: [...small.shape] },
    ...(await ownDevice()),
  });
}

const policy = trustedTypes.createPolicy('test', { createScriptURL: () => '/lossy.js' });
function lossyWorker() {
  return new Worker(policy.createScriptURL(''), { type: 'module' });
}

/** Two engines on a device of the page's, which outlives both. */
async function ownDevice() {
  const device = await (await navigator.gpu.requestAdapter()).requestDevice();
  const engines = [await odelt.createEngine({ device }), await odelt.createEngine({ device })];
  const read = async (engine, value) => engine.read(engine.tensor('x', [2], { data: Float32Array.of(value, 2) }));
  const first = await read(engines[0], 7);
  engines[0].dispose();
  const second = await read(engines[1], 8);
  engines[1].dispose();
  const buffer = device.createBuffer({ size: 4, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  device.queue.writeBuffer(buffer, 0, Uint32Array.of(9));
  await buffer.mapAsync(GPUMapMode.READ);
  return { own: [first[0], second[0], new Uint32Array(buffer.getMappedRange())[0]] };
}

main().catch((error) => send({ failed: `${error?.stack ?? error}` }));
