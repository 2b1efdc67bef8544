/**
 * Who of the other processes is still there. MPI itself waits for a dead process for ever, so every rank keeps a connection to rank 0,
 * whose end, or silence, means that of the process at the other end; rank 0 tells the others which one it was.
 */

import { timingSafeEqual } from 'node:crypto';
import { createServer, type Server, type Socket, connect as tcpConnect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { ClusterError } from '../engine/errors.ts';

/** Milliseconds between signs of life. */
const BEAT = 2000;
/**
 * Own beats without one of the other side's after which that counts as gone: counted rather than timed, so that a process that was itself
 * held up does not take the others for dead.
 */
const MOST_MISSED = 12;
const SILENT = `its process has said nothing for ${(MOST_MISSED * BEAT) / 1000} s`;
/** Longest line that is taken from a connection. */
const MOST_LINE = 4096;
/** Milliseconds that all ranks have to connect. */
const MEETING = 30_000;

/** What a rank says, one JSON document a line. */
type Message =
  | { readonly hello: number; readonly token: string }
  | { readonly welcome: true }
  | { readonly alive: true }
  | { readonly bye: true }
  | { readonly failed: number; readonly why: string };

/** Why a rank is gone. */
export interface Loss {
  readonly rank: number;
  readonly why: string;
}

export interface Watch {
  /** The first process that was found to be gone. */
  readonly lost: Loss | null;
  /** Tells the others that this rank fails, and returns when that has left the process. */
  fail(why: string): Promise<void>;
  /** Ends in order: from now on the end of a connection means nothing. */
  leave(): void;
}

/** Where rank 0 listens, for the others; made before they connect. */
export interface Meeting {
  readonly addresses: readonly string[];
  readonly port: number;
  /** Who knows it belongs to the run. */
  readonly token: string;
}

const write = (socket: Socket, message: Message): void => {
  if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
};

/** Calls `on` for each message; counts the beats since something was heard. Lines that are no messages, or too long, end the connection. */
function listen(socket: Socket, on: (message: Message) => void): { missed: number } {
  const heard = { missed: 0 };
  socket.setNoDelay(true).setEncoding('utf8');
  socket.on('error', () => {}); // its close follows
  let pending = '';
  socket.on('data', (text: string) => {
    heard.missed = 0;
    const lines = (pending + text).split('\n');
    pending = lines.pop()!;
    if (pending.length > MOST_LINE || !lines.every((line) => take(line, on))) socket.destroy();
  });
  return heard;
}

function take(line: string, on: (message: Message) => void): boolean {
  let message: Message | null;
  try {
    message = JSON.parse(line) as Message | null;
  } catch {
    return false;
  }
  if (typeof message !== 'object' || message === null) return false;
  on(message);
  return true;
}

/** Rank 0's side: `open` before the others know where to connect, `ready` when all have. */
export class Host implements Watch {
  readonly #server: Server;
  readonly #token: string;
  readonly #size: number;
  readonly #peers = new Map<number, Socket>();
  #lost: Loss | null = null;
  #leaving = false;
  readonly #timers: NodeJS.Timeout[] = [];
  #arrived: () => void = () => {};

  private constructor(server: Server, token: string, size: number) {
    this.#server = server;
    this.#token = token;
    this.#size = size;
  }

  /** Listens on this machine alone, or on all of its addresses. */
  static async open(size: number, token: string, { local }: { local: boolean }): Promise<[Host, Meeting]> {
    const server = createServer();
    const host = new Host(server, token, size);
    server.on('connection', (socket) => host.#meet(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen({ port: 0, host: local ? '127.0.0.1' : '0.0.0.0' }, resolve);
    }).catch((cause: unknown) => {
      throw new ClusterError('rank 0 cannot listen for the other processes', { cause });
    });
    server.unref();
    const { port } = server.address() as { port: number };
    const addresses = local ? ['127.0.0.1'] : ownAddresses();
    return [host, { addresses, port, token }];
  }

  get lost(): Loss | null {
    return this.#lost;
  }

  /** Returns when all ranks have connected. @throws ClusterError naming those that have not. */
  async ready(): Promise<void> {
    const all = new Promise<void>((resolve) => {
      this.#arrived = () => {
        if (this.#peers.size === this.#size - 1) resolve();
      };
      this.#arrived();
    });
    await inTime(all, () => {
      const missing = Array.from({ length: this.#size - 1 }, (_, i) => i + 1).filter((r) => !this.#peers.has(r));
      return `rank ${missing.join(', ')} did not connect to rank 0`;
    });
  }

  #meet(socket: Socket): void {
    let rank: number | null = null;
    const heard = listen(socket, (message) => {
      if (rank === null) {
        if (!('hello' in message) || !sameText(String(message.token), this.#token)) {
          socket.destroy();
          return;
        }
        rank = message.hello;
        this.#peers.set(rank, socket);
        write(socket, { welcome: true });
        this.#arrived();
      } else if ('failed' in message) this.#lose(rank, String(message.why));
      else if ('bye' in message) this.#peers.delete(rank);
    });
    const beat = setInterval(() => {
      write(socket, { alive: true });
      if (++heard.missed > MOST_MISSED && rank !== null) this.#lose(rank, SILENT);
    }, BEAT).unref();
    this.#timers.push(beat);
    socket.unref().on('close', () => {
      clearInterval(beat);
      if (rank !== null && this.#peers.get(rank) === socket) this.#lose(rank, 'its process has ended');
    });
  }

  #lose(rank: number, why: string): void {
    if (this.#lost || this.#leaving) return;
    this.#lost = { rank, why };
    for (const [other, socket] of this.#peers) if (other !== rank) write(socket, { failed: rank, why });
  }

  async fail(why: string): Promise<void> {
    if (this.#leaving || this.#lost) return;
    this.#lost = { rank: 0, why };
    for (const socket of this.#peers.values()) write(socket, { failed: 0, why });
    await Promise.all([...this.#peers.values()].map(sent));
  }

  leave(): void {
    this.#leaving = true;
    for (const timer of this.#timers) clearInterval(timer);
    for (const socket of this.#peers.values()) write(socket, { bye: true });
    this.#server.close();
  }
}

/** Connects another rank to rank 0, at the first of its addresses that answers. @throws ClusterError. */
export async function joinHost(rank: number, { addresses, port, token }: Meeting): Promise<Watch> {
  const tries: unknown[] = [];
  for (const address of addresses) {
    const socket = tcpConnect({ host: address, port, timeout: 5000 });
    const opened = new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject);
      socket.once('timeout', () => reject(new Error(`${address} does not answer`)));
    });
    try {
      await opened;
    } catch (cause) {
      socket.destroy();
      tries.push(cause);
      continue;
    }
    socket.setTimeout(0);
    return watchHost(rank, socket, token);
  }
  throw new ClusterError(`rank ${rank} cannot reach rank 0 at ${addresses.join(', ')}, port ${port}`, {
    cause: new AggregateError(tries),
    hint: 'let the machines of a run reach each other by TCP',
  });
}

async function watchHost(rank: number, socket: Socket, token: string): Promise<Watch> {
  let lost: Loss | null = null;
  let leaving = false;
  const lose = (of: number, why: string) => {
    if (!leaving) lost ??= { rank: of, why };
  };
  let welcome: () => void = () => {};
  const welcomed = new Promise<void>((resolve) => {
    welcome = resolve;
  });
  const heard = listen(socket, (message) => {
    if ('failed' in message) lose(message.failed, String(message.why));
    else if ('bye' in message) leaving = true;
    else if ('welcome' in message) welcome();
  });
  const beat = setInterval(() => {
    write(socket, { alive: true });
    if (++heard.missed > MOST_MISSED) lose(0, SILENT);
  }, BEAT).unref();
  socket.unref().on('close', () => {
    clearInterval(beat);
    lose(0, 'its process has ended');
    welcome();
  });
  write(socket, { hello: rank, token });
  await inTime(welcomed, () => `rank 0 did not answer rank ${rank}`);
  return {
    get lost() {
      return lost;
    },
    async fail(why) {
      if (lost || leaving) return;
      lost = { rank, why };
      write(socket, { failed: rank, why });
      await sent(socket);
    },
    leave() {
      leaving = true;
      clearInterval(beat);
      write(socket, { bye: true });
    },
  };
}

/** @throws ClusterError where it takes longer than ranks have to meet; the process lives as long. */
async function inTime(pending: Promise<void>, what: () => string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((_, reject) => {
    timer = setTimeout(() => {
      const hint = 'let the machines of a run reach each other by TCP';
      reject(new ClusterError(`${what()} within ${MEETING / 1000} s`, { hint }));
    }, MEETING);
  });
  try {
    await Promise.race([pending, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Returns when what was written has left, or never will; a second at most. */
const sent = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    if (!socket.writable) done();
    else socket.write('', done);
  });

function ownAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return all.filter(({ family, internal }) => family === 'IPv4' && !internal).map(({ address }) => address);
}

function sameText(a: string, b: string): boolean {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  return x.length === y.length && timingSafeEqual(x, y);
}
