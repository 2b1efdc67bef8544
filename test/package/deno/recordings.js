/** Replays recordings in a worker: `deno run -A recordings.js URL ONLY`. */
import { createWorker } from 'odelt/worker';

const [url, only] = Deno.args;
const worker = createWorker();
const { cases, failed } = await worker.verify({ url, only });
await worker.dispose();
console.log(JSON.stringify({ cases, failed }));
