/** Reading back more than fits one buffer of the device. */
import { expect, it } from 'vitest';
import { Readback } from '../../engine/readback.ts';
import { testEngine } from '../support/engine.ts';

it('what fits no one buffer comes through several, whole and as it is at one time', async () => {
  const engine = await testEngine();
  const { device, memory } = engine;
  const sizes = [100, 3, 156, 256, 1, 0, 40];
  const tensors = sizes.map((size, i) => {
    const data = Float32Array.from({ length: size }, (_, j) => 1000 * i + j);
    return engine.tensor(`t${i}`, [size], { data });
  });
  // A device whose buffers hold 1,024 bytes.
  const limited = {
    limits: { maxBufferSize: 1024 },
    queue: device.queue,
    createCommandEncoder: (descriptor: GPUCommandEncoderDescriptor) => device.createCommandEncoder(descriptor),
  } as unknown as GPUDevice;
  const readback = new Readback(limited, memory);
  const before = memory.report();
  const stretches = tensors.map(({ storage: { place } }, i) => ({ ...place!, bytes: 4 * sizes[i]! }));
  let waits = 0;
  const wait = <T>(pending: Promise<T>): Promise<T> => {
    waits++;
    return pending;
  };
  for (let again = 0; again < 2; again++) {
    const pending = readback.read(stretches, wait, true);
    engine.write(tensors[6]!, new Float32Array(40));
    const read = (await pending).map((bytes) => [...new Float32Array(bytes)]);
    const last = again === 0 ? Array.from({ length: 40 }, (_, j) => 6000 + j) : new Array<number>(40).fill(0);
    expect(read.slice(0, 6)).toEqual(
      sizes.slice(0, 6).map((size, i) => Array.from({ length: size }, (_, j) => 1000 * i + j)),
    );
    expect(read[6]).toEqual(last);
  }
  expect(waits).toBe(2);
  // 400 + 16, 624 | 1,024 | 16 + 160 bytes; kept, and freed on demand.
  const { created, byKind } = memory.report();
  expect(created - before.created).toBe(4);
  expect(byKind.staging).toBe(416 + 624 + 1024 + 256);
  await readback.read(stretches.slice(1), wait, false);
  expect(memory.report().byKind.staging).toBe(416 + 624 + 1024 + 256);
  readback.release();
  expect(memory.report().live).toBe(before.live);
  engine.dispose();
});
