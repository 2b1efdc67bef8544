import type { IncomingMessage, ServerResponse } from 'node:http';

/** Answers one request for a file under `root` (default: the clone), ranges included. */
export function serveFile(request: IncomingMessage, response: ServerResponse, root?: string): Promise<void>;
