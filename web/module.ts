/** The module that runs in the worker (`odelt/worker/module`): answers the page's calls with an engine of its own. */
import { serveWorker } from './serve.ts';

serveWorker(globalThis);
