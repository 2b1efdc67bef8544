/** bench/peers is a package of its own, in JavaScript: what tests use of it, with types. Loading it needs none of its packages. */

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT } from './repository.ts';

export interface Workload {
  readonly kind: 'product' | 'attention' | 'layernorm' | 'block' | 'gradient' | 'train' | 'decoder' | 'stage';
  readonly size: Readonly<Record<string, number>>;
}

export type Inputs = Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Float32Array }>>;
export type Arrays<T> = Readonly<Record<string, T>>;

export interface PeerResult {
  readonly status: 'timed' | 'wrong' | 'cannot' | 'failed';
  readonly version?: string;
  readonly adapter?: string;
  readonly reason?: string;
  readonly error?: number;
  readonly output?: string;
  readonly firstSeconds?: number;
  readonly repeats?: number;
  readonly seconds?: readonly number[];
}

export interface PeersReport {
  readonly adapter: string;
  readonly machine: string;
  readonly workloads: readonly {
    readonly name: string;
    readonly workload: Workload;
    readonly date: string;
    readonly rounds: number;
    readonly results: Readonly<Record<string, PeerResult>>;
  }[];
}

type Answer =
  | { answer: 'prepared'; version: string; adapter: string; firstSeconds: number; outputs: Arrays<Float32Array> }
  | { answer: 'warm'; repeats: number }
  | { answer: 'ran'; seconds: number }
  | { answer: 'cannot' | 'failed'; reason: string };

interface Modules {
  workloads: {
    WORKLOADS: Readonly<Record<string, Workload>>;
    inputsOf(workload: Workload): Inputs;
    weightShapes(size: { width: number; depth: number }): [string, number[]][];
  };
  reference: {
    TOLERANCE: number;
    product(a: Float64Array, b: Float64Array, rows: number, inner: number, columns: number): Float64Array;
    gelu(x: Float64Array): Float64Array;
    layernorm(values: Arrays<Float64Array>, size: { tokens: number; width: number }): Float64Array;
    attention(values: Arrays<Float64Array>, size: { tokens: number; width: number; heads: number }): Float64Array;
    reference(workload: Workload, inputs: Inputs): Arrays<Float64Array>;
    compare(
      workload: Workload,
      inputs: Inputs,
      expected: Arrays<Float64Array>,
      found: Arrays<ArrayLike<number>>,
    ): { error: number; output: string };
  };
  table: {
    quantile(values: readonly number[], q: number): number;
    ratio(base: readonly number[], seconds: readonly number[]): number;
    milliseconds(seconds: number): string;
    cell(results: Readonly<Record<string, PeerResult>>, peer: string): string;
    overview(report: PeersReport, order: readonly string[]): string;
    reasons(report: PeersReport): string[];
    markdown(report: PeersReport, order: readonly string[]): string;
    withWorkload(report: PeersReport, entry: PeersReport['workloads'][number], order: readonly string[]): PeersReport;
  };
  messages: { parseAnswer(message: unknown): Answer };
  process: {
    lastWords(written: string): string;
    startPeer(program?: string): {
      ask(question: object, timeoutSeconds: number): Promise<Answer>;
      end(): Promise<void>;
    };
  };
}

/** A module of bench/peers/. */
export const peersModule = <Name extends keyof Modules>(name: Name): Promise<Modules[Name]> =>
  import(/* @vite-ignore */ pathToFileURL(join(ROOT, 'bench/peers', `${name}.mjs`)).href) as Promise<Modules[Name]>;
