import { createWorker } from 'odelt/worker';
import { show } from './show.js';

const worker = createWorker();
await worker.load('/models/fashion-mnist.safetensors');
show(await worker.sample({ labels: [7], steps: 4, blocks: 4 }));
