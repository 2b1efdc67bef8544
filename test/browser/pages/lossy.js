/** A worker whose first two engines lose their devices: one in the midst of training, the next while it samples. */
import { createEngine } from '/dist/index.js';
import { serveWorker } from '/dist/worker.js';

let made = 0;
serveWorker(globalThis, {
  async createEngine() {
    const engine = await createEngine();
    const { queue } = engine.device;
    const submit = queue.submit.bind(queue);
    const number = made++;
    queue.submit = (commands) => {
      submit(commands);
      // Updates submit a program each; sampling comes after those of the second engine.
      if (number === 0 && engine.counters.submits === 3) engine.device.destroy();
      if (number === 1 && engine.memory.report().byKind.weights > 1_000_000) engine.device.destroy();
    };
    return engine;
  },
});
