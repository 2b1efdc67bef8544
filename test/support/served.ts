/** The worker's two sides over a message channel, on engines of this process. */
import { onTestFinished } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { createWorker, type OdeltWorker, type WorkerPort } from '../../web/client.ts';
import { serveWorker } from '../../web/serve.ts';
import { testEngine } from './engine.ts';

/** A worker behind a channel; `losesAt`: how many submissions each of its devices, but the last, outlives. */
export function served({ losesAt = Number.POSITIVE_INFINITY, losses = 0 } = {}): {
  worker: OdeltWorker;
  made: Engine[];
} {
  const { port1, port2 } = new MessageChannel();
  const made: Engine[] = [];
  serveWorker(port2 as never, {
    async createEngine() {
      const engine = await testEngine();
      engine.submissionBudget = Number.POSITIVE_INFINITY;
      const loses = made.push(engine) <= losses;
      const { queue } = engine.device;
      const submit = queue.submit.bind(queue);
      queue.submit = (commands) => {
        submit(commands);
        if (loses && engine.counters.submits === losesAt) engine.device.destroy();
      };
      return engine;
    },
  });
  const worker = createWorker(port1 as unknown as WorkerPort);
  onTestFinished(async () => {
    await worker.dispose();
    port1.close();
  });
  return { worker, made };
}
