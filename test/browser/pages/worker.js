/** What the worker's test does in the page. Reports one object; the test compares it. */
import * as odelt from '/dist/index.js';
import { createWorker } from '/dist/worker.js';

const send = (body) => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
const { model, train, pixels, labels, latents } = await (await fetch('/setup.js')).json();
const classNames = ['ant', 'bee', 'cat'];
const data = () => ({
  ...{ kind: 'pixels', name: 'tiny', height: 8, width: 8, channels: 1, classes: 3, classNames },
  ...{ pixels: Uint8Array.from(pixels), labels: Uint8Array.from(labels) },
});
/** The same pictures as PNG files, every other one with its place beside it; a file that is none, and one beside the classes. */
async function files() {
  const pictures = await Promise.all(
    labels.map(async (label, i) => {
      const blob = await canvas(i).convertToBlob({ type: 'image/png' });
      const path = `tiny/${classNames[label]}/${String(i).padStart(2, '0')}.png`;
      return i % 2 === 0 ? new File([blob], path) : { file: blob, path };
    }),
  );
  const others = [new File(['text'], 'tiny/ant/notes.txt'), new File(['text'], 'tiny/notes.txt')];
  return { kind: 'files', files: [...others, ...pictures.reverse()], options: { size: 8, channels: 1 } };
}
/** And as bitmaps, every other one, and blobs. */
async function bitmaps() {
  const pictures = await Promise.all(
    labels.map(async (label, i) => ({
      picture: i % 2 === 0 ? canvas(i).transferToImageBitmap() : await canvas(i).convertToBlob({ type: 'image/png' }),
      label,
    })),
  );
  return { kind: 'pictures', pictures, options: { size: 8, channels: 1, classNames } };
}
function canvas(i) {
  const made = new OffscreenCanvas(8, 8);
  const rgba = pixels.slice(i * 64, (i + 1) * 64).flatMap((value) => [value, value, value, 255]);
  made.getContext('2d').putImageData(new ImageData(Uint8ClampedArray.from(rgba), 8, 8), 0, 0);
  return made;
}
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
  const verifying = worker.verify({ url: '/models/golden', only: '/random/' });
  const verified = [];
  for await (const { ok, kind } of verifying) verified.push(`${kind} ${ok}`);
  const { cases, failed } = await verifying;
  const errors = {
    label: await failing(worker.sample({ labels: [99], steps: 1, blocks: 4 })),
    missing: await failing(worker.load('/models/nothing.safetensors')),
    bench: await failing(worker.bench({ filter: 'nonsense' })),
    uncloneable: await failing(worker.sample({ labels: [1], steps: 1, blocks: 4, noise: () => 0 })),
  };

  // A model of latents, a decoder that is none, and its own, as files that were chosen.
  const file = (name) => new File([Uint8Array.from(atob(latents[name]), (c) => c.charCodeAt(0))], `${name}.safetensors`);
  await worker.load(file('model'));
  errors.decoder = await failing(worker.loadDecoder(file('model')));
  errors.channels = await failing(worker.loadDecoder(file('other')));
  const { shown } = await worker.loadDecoder(file('autoencoder'));
  const { values: decoded, decoded: took } = await worker.sample(latents.request);

  // A device that is lost in the fourth update: training goes on from the last checkpoint on the next one.
  const lossy = createWorker(new Worker(policy.createScriptURL(''), { type: 'module' }));
  const run = lossy.train({ model, train, data: data(), saveEvery: 2 });
  const events = [];
  for await (const { type, step } of run) events.push(type === 'step' ? step : `${type} ${step}`);
  const trained = await run;

  // A run that is aborted after the third update and resumed, on the same pictures in other shapes.
  const controller = new AbortController();
  const handed = await bitmaps();
  const cut = lossy.train({ model, train, data: handed, saveEvery: 2 }, { signal: controller.signal });
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
  const resumed = await lossy.train({ data: await files(), resume: new Blob([checkpoint.bytes]) });
  errors.otherModel = await failing(lossy.train({ data: data(), resume: checkpoint.bytes, train: { batch: 4 } }));
  checkpoint.bytes[checkpoint.bytes.length - 1] ^= 1;
  errors.damaged = await failing(lossy.train({ data: data(), resume: checkpoint.bytes }));

  // A device that is lost in the midst of sampling: that call fails, and the next one gets the model on a new device.
  await lossy.load(trained.model);
  errors.lost = await failing(lossy.sample({ labels: [1], steps: 8, blocks: 4, seed: 2 }));
  const after = await lossy.sample({ labels: [1], steps: 1, blocks: 4, seed: 2 });
  await lossy.dispose();
  await worker.load(trained.model);
  const small = await worker.sample({ labels: [1], steps: 1, blocks: 4, seed: 2 });
  const waiting = failing(worker.bench());
  await worker.dispose();
  errors.disposed = await waiting;

  await send({
    ...{ classes: config.classes, progress, shape, values: [...values], events, errors, interrupted },
    ...{ verified, cases, failed, shown, decoded: [...decoded], took },
    checkpointAt: checkpoint.step,
    closed: handed.pictures[0].picture.width === 0,
    same: [equal(again.values, values), equal(after.values, small.values)],
    digests: await Promise.all([trained, resumed].map(({ checkpoint: bytes }) => sha256(bytes))),
    ...{ trained: [trained.step, resumed.step], small: [...small.shape] },
    ...(await ownDevice()),
  });
}

const policy = trustedTypes.createPolicy('test', { createScriptURL: () => '/lossy.js' });

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
