/** What packed weights and activations cost in accuracy: the recorded float32 outputs against networks that store less. */
import type { Engine } from '../../engine/engine.ts';
import { ConfigError } from '../../engine/errors.ts';
import { checkActivations } from '../../model/dit.ts';
import type { GoldenModel } from '../../model/golden.ts';
import type { Storing } from '../../model/model.ts';
import { type Case, type CaseGroup, casesOf, relativeError, TOLERANCES, worst } from './case.ts';
import { recordedOutputs } from './forward.ts';
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
  const networks = new Map<Storing, Network>();
  const load = (way: Storing, strong: boolean): Network => {
    const network = networks.get(way) ?? new Network(engine, golden.config, way);
    networks.set(way, network);
    network.load(golden.seed, strong);
    return network;
  };
  const cases: Case[] = [];
  const stems = ['forward', 'forward_strong'].filter((stem) => golden.files.includes(`${stem}.safetensors`));
  for (const [name, way] of Object.entries(WAYS) as [keyof typeof WAYS, Storing][]) {
    const reason = unfit(golden, way);
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
            errors.push([output, relativeError(await load(way, strong).velocity(rows), tensors.floats(tensor))]);
          }
          return worst(errors);
        };
        return [
          { kind: 'storage', name: `${strong ? 'strong/' : ''}${name}`, tolerance: TOLERANCES.storage[name], run },
        ];
      });
      cases.push(...(await found));
    }
  }
  return { cases, skipped, dispose: () => networks.forEach((network) => void network.dispose()) };
}

/** Why a model cannot be stored so, if it cannot. */
function unfit({ config }: GoldenModel, { activations = 'f32' }: Storing): string | undefined {
  try {
    checkActivations(config, activations);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
}
