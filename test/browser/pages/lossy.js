/** A worker whose first engine loses its device in the midst of training: each update submits one program. */
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
