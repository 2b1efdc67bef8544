/** The module that runs in the worker (`odelt/worker/module`): answers the page's calls with an engine of its own. */
import { type Scope, serveWorker } from './serve.ts';

// To TypeScript the global scope is a page's, which sends messages otherwise.
serveWorker(globalThis as unknown as Scope);
