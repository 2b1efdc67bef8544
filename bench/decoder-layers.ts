/** What each layer of a decoder of latents takes of one picture, and all of them together, from the results of the shapes `decoder`. */
import { type DecoderUse, decoderLayers } from './decoder-cases.ts';
import type { KernelResult } from './kernels.bench.ts';

/** A decoder's layers on one subject. */
export interface DecoderTotal {
  readonly decoder: DecoderUse['decoder'];
  readonly subject: string;
  /** The most costly first. */
  readonly layers: readonly { readonly result: KernelResult; readonly times: number; readonly seconds: number }[];
  /** How many layers these are, of how many that the decoder has. */
  readonly timed: number;
  readonly all: number;
  /** Of one picture, all layers that were timed: seconds, 10^9 operations a second, and the share of the ceilings, each layer by its own. */
  readonly seconds: number;
  readonly gflops: number;
  readonly roofline: number;
}

/** The decoders that a run has timed layers of; none where it has timed other shapes. */
export function decoderTotals(kernels: readonly KernelResult[]): DecoderTotal[] {
  const found = new Map<string, DecoderTotal['layers'][number][]>();
  for (const result of kernels) {
    // Files saved by earlier builds have no `layer`.
    if (!result.layer || result.pass !== 'forward') continue;
    const { decoder, times } = result.layer;
    const key = JSON.stringify([decoder, result.subject]);
    found.set(key, [...(found.get(key) ?? []), { result, times, seconds: times * result.timing.median }]);
  }
  return [...found.values()].map((layers) => {
    const [{ result }] = layers as [DecoderTotal['layers'][number]];
    const { decoder } = result.layer!;
    const sum = (of: (layer: DecoderTotal['layers'][number]) => number) =>
      layers.reduce((s, layer) => s + of(layer), 0);
    const seconds = sum((layer) => layer.seconds);
    return {
      ...{ decoder, subject: result.subject, seconds },
      layers: layers.sort((a, b) => b.seconds - a.seconds),
      timed: sum(({ times }) => times),
      all: decoderLayers(decoder),
      gflops: sum(({ result: { flops }, times }) => times * (flops ?? 0)) / seconds / 1e9,
      roofline: sum((layer) => layer.seconds * (layer.result.roofline ?? 0)) / seconds,
    };
  });
}
