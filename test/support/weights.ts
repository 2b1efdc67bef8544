/** A small model as a file in memory, and a server on this machine that hands it out, with every trick a test asks for. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect } from 'vitest';
import { parseSafetensors, serializeSafetensors, type TensorToWrite } from '../../formats/safetensors.ts';
import { parseModelConfig } from '../../model/config.ts';
import { groupIndices, paramsFrom } from '../../model/params.ts';
import { modelMetadata, modelTensors } from '../../model/weights/model-file.ts';
import { type GroupValues, toFloats } from '../../model/weights/quantize.ts';
import type { GroupSource } from '../../model/weights/source.ts';
import { formulaParams } from '../../verify/formula-params.ts';

export const config = parseModelConfig({
  ...{ imageSize: 28, channels: 1, patch: 4, width: 32, heads: 4, depth: 12, classes: 10 },
  lengths: { min: 4, group: 4 },
});
export const params = formulaParams(config, 5);
export const metadata = modelMetadata(config, { 'odelt.step': '7' });
export const whole = serializeSafetensors(modelTensors(params), metadata);
export const groupCount = params.layout.groups.length;
const groups = groupIndices(config);
const { patches, condition, modulation, headModulation } = groups;
export const { block, head } = groups;
/** Groups that the first four blocks need, in the order of the file, and those of the other eight. */
const blocks = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => [modulation(from + i), block(from + i)]).flat();
export const ofFour = [patches, condition, ...blocks(0, 4), headModulation, head];
export const ofTheRest = blocks(4, 12);

export type Weights = Extract<TensorToWrite, { values: Float32Array }>;
export const tensorsAs = (dtype: Weights['dtype']) => modelTensors(params).map((t) => ({ ...t, dtype }) as Weights);

/** Where a group's tensors lie in a file. */
export function rangeOf(bytes: Uint8Array, group: number): [number, number] {
  const infos = params.layout.groups[group]!.specs.map((s) => parseSafetensors(bytes).header.tensors.get(s.name)!);
  return [Math.min(...infos.map((i) => i.begin)), Math.max(...infos.map((i) => i.end))];
}

export async function expectEqualGroups(source: GroupSource, bytes: Uint8Array): Promise<void> {
  const expected = paramsFrom(params.layout, parseSafetensors(bytes)).groups;
  for (const [group, values] of expected.entries()) expectBits(await source.read(group), values);
}

/** Bit for bit the same, halves as the floats that they are. (toEqual would be slow.) */
export function expectBits(found: GroupValues, expected: GroupValues | undefined): void {
  const bytesOf = (values: GroupValues) => {
    const floats = toFloats(values);
    return Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength);
  };
  expect(bytesOf(found).equals(bytesOf(expected!))).toBe(true);
}

/** What a test makes the server do with the request numbered `index` from 0. True: it has answered. */
export type Trick = (request: IncomingMessage, response: ServerResponse, index: number) => boolean | undefined;

export interface Served {
  readonly url: string;
  /** Range fields of the requests, in order. */
  readonly asked: (string | undefined)[];
  /** Bytes of bodies sent, those of tricks not counted. */
  sent: number;
}

const open: { close(): void }[] = [];
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

/** Serves bytes on a free port of this machine; `ranges: false` always sends everything. */
export async function serve(bytes: Uint8Array, options: { ranges?: boolean; trick?: Trick } = {}): Promise<Served> {
  const served = { url: '', asked: [] as (string | undefined)[], sent: 0 };
  const server = createServer((request, response) => {
    const index = served.asked.push(request.headers.range) - 1;
    if (options.trick?.(request, response, index)) return;
    const part = options.ranges === false ? bytes : partOf(bytes, request, response);
    served.sent += part.length;
    response.setHeader('content-length', part.length);
    response.end(part);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push({
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  });
  served.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.safetensors`;
  return served;
}

/** Sets status and Content-Range for the bytes that the request asks for, and gives them. */
export function partOf(bytes: Uint8Array, request: IncomingMessage, response: ServerResponse): Uint8Array {
  const [begin, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range!)!.slice(1).map(Number) as [number, number];
  const end = Math.min(last + 1, bytes.length);
  response.statusCode = begin < bytes.length ? 206 : 416;
  response.setHeader('content-range', `bytes ${begin}-${end - 1}/${bytes.length}`);
  return bytes.subarray(begin, end);
}

export const quick = { retryDelay: 1 };
export const FIRST = 'bytes=0-65535';
export const asRange = ([begin, end]: [number, number]) => `bytes=${begin}-${end - 1}`;
