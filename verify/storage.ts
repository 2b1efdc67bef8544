/** What packed weights and activations cost in accuracy: the recorded float32 outputs against networks that store less. */
import type { Engine } from '../engine/engine.ts';
import { unfitForHalves } from '../model/dit.ts';
import type { Storing } from '../model/weights/residency.ts';
import { type Case, type CaseGroup, casesOf, TOLERANCES, worst, worstSample } from './case.ts';
import { recordedOutputs } from './forward.ts';
import type { GoldenModel } from './golden.ts';
import { Network } from './network.ts';

/** Ways to store, by the name of their case. */
export const WAYS = {
  f16_weights: { precision: 'f16' },
  int8_weights: { precision: 'int8' },
  f16_activations: { activations: 'f16' },
  f16_weights_f16_activations: { precision: 'f16', activations: 'f16' },
  int8_weights_f16_activations: { precision: 'int8', activations: 'f16' },
} as const satisfies Record<string, Storing>;

/** One case per way and file of recorded outputs: the largest error of all its outputs. */
export async function storageCases(engine: Engine, golden: GoldenModel): Promise<CaseGroup> {
  const skipped: string[] = [];
  // One at a time: cases of one way follow each other, and a large model five times over may not fit.
  let current: { way: Storing; network: Network } | undefined;
  const load = (way: Storing, strong: boolean): Network => {
    if (current?.way !== way) {
      current?.network.dispose();
      current = { way, network: new Network(engine, golden.config, way) };
    }
    current.network.load(golden.seed, strong);
    return current.network;
  };
  const cases: Case[] = [];
  const stems = ['forward', 'forward_strong'].filter((stem) => golden.files.includes(`${stem}.safetensors`));
  for (const [name, way] of Object.entries(WAYS) as [keyof typeof WAYS, Storing][]) {
    const reason = way.activations === 'f16' && unfitForHalves(golden.config);
    if (reason) {
      if (stems.length > 0) skipped.push(`storage/${name}: ${reason}`);
      continue;
    }
    for (const stem of stems) {
      const found = casesOf('storage', `${stem}.safetensors`, async () => {
        const tensors = (await golden.tensors(stem))!;
        const outputs = recordedOutputs(golden, tensors);
        if (outputs.length === 0) return [];
        const strong = stem === 'forward_strong';
        const run = async () => {
          const errors: [string, number][] = [];
          for (const { name: output, tensor, rows } of outputs) {
            const velocity = await load(way, strong).velocity(rows);
            const { error, detail } = worstSample(velocity, tensors.floats(tensor), rows.t.length);
            errors.push([`${detail} of ${output}`, error]);
          }
          return worst(errors);
        };
        return [
          {
            kind: 'storage',
            name: `${strong ? 'strong/' : ''}${name}`,
            tolerance: TOLERANCES.storage[strong ? 'strong' : 'plain'][name],
            run,
          },
        ];
      });
      cases.push(...(await found));
    }
  }
  return { cases, skipped, dispose: () => current?.network.dispose() };
}
