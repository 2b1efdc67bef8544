/** A worker whose first engine loses its device at the fourth program: each update, and each step of sampling, submits one. */
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
      if (number === 0 && engine.counters.submits === 3) engine.device.destroy();
    };
    return engine;
  },
});
