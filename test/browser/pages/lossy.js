/**
 * A worker that loses its device at the fourth program of its first training and of its first sampling: each update, and each step of
 * sampling, submits one.
 */
import { createEngine } from '/dist/index.js';
import { serveWorker } from '/dist/worker.js';

const first = new Set(['train', 'sample']);
let current;
/** Programs of the current engine before the call that is to lose it; none where no loss is to come. */
let before = Number.NaN;
addEventListener('message', ({ data }) => {
  before = first.delete(data.call) ? (current?.counters.submits ?? 0) : Number.NaN;
});
serveWorker(globalThis, {
  async createEngine() {
    // One submission a program, whatever it takes.
    const engine = await createEngine({ submissionBudget: Number.POSITIVE_INFINITY });
    const { queue } = engine.device;
    const submit = queue.submit.bind(queue);
    queue.submit = (commands) => {
      submit(commands);
      if (engine.counters.submits - before !== 3) return;
      before = Number.NaN;
      engine.device.destroy();
    };
    current = engine;
    return engine;
  },
});
