import type { IncomingMessage, ServerResponse } from 'node:http';

/** Answers one request for a file in dist/, examples/ or models/ of `root` (default: the clone), ranges included. */
export function serveFile(request: IncomingMessage, response: ServerResponse, root?: string): Promise<void>;
