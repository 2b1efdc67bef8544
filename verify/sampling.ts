/** Recorded samples against the public sampler: fixed-step Euler from the recorded noise. */
import type { Engine } from '../engine/engine.ts';
import { DataError } from '../engine/errors.ts';
import type { Tensors } from '../formats/safetensors.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import { memorySource } from '../model/weights/source.ts';
import { Sampler } from '../sampling/sampler.ts';
import { type Case, type CaseGroup, casesOf, TOLERANCES, worstSample } from './case.ts';
import { formulaParams } from './formula-params.ts';
import type { GoldenModel } from './golden.ts';
import { requireJson, samplingSchema } from './schemas.ts';

/** What a recording's folder says of its step level, noise and labels. */
const FOLDERS: Record<string, { level: (steps: number) => number; inputs: string }> = {
  euler: { level: (steps) => Math.trunc(Math.log2(steps)), inputs: '' },
  plots: { level: (steps) => Math.fround(Math.log2(steps)), inputs: 'plots/' },
  livereflow: { level: () => 0, inputs: '' },
};
const NAME = /^(euler|plots|livereflow)\/(?:conventional|l(\d+))_t(\d+)_cfg([\d.]+)$/;

export async function samplingCases(engine: Engine, golden: GoldenModel): Promise<CaseGroup> {
  const skipped: string[] = [];
  const opened = new Map<boolean, { sampler: Sampler; model: ResidentModel }>();
  const file = 'sampling.safetensors';
  const cases = golden.files.includes(file)
    ? await casesOf('sampling', file, async () => {
        const f = (await golden.tensors('sampling'))!;
        const { formula_seeds } = await requireJson(golden, 'sampling', samplingSchema);
        const open = (wired: boolean, batch: number) => {
          const known = opened.get(wired);
          if (known) return known.sampler;
          const config = wired ? golden.config : { ...golden.config, lengths: null };
          const model = new ResidentModel(
            engine,
            config,
            memorySource(formulaParams(config, formula_seeds.params_ema)),
          );
          const sampler = new Sampler(engine, model, { batch });
          opened.set(wired, { sampler, model });
          return sampler;
        };
        return find(golden, f, open, skipped);
      })
    : [];
  const dispose = () => {
    for (const { sampler, model } of opened.values()) {
      sampler.dispose();
      model.dispose();
    }
  };
  return { cases, skipped, dispose };
}

function find(
  golden: GoldenModel,
  f: Tensors,
  open: (wired: boolean, batch: number) => Sampler,
  skipped: string[],
): Case[] {
  const others = new Set<string>();
  const found = f.names().flatMap((tensor): (Case & { steps: number })[] => {
    const match = NAME.exec(tensor);
    if (!match) {
      if (!/(^|\/)(x_0|labels|labels_uncond)$/.test(tensor))
        others.add(tensor.replace(/\/[^/]*(\/x_1|\/accepted_times)?$/, '/*'));
      return [];
    }
    const { level, inputs } = FOLDERS[match[1]!]!;
    // l0 is the reference's name for the conventional network.
    const blocks = Number(match[2] ?? 0);
    const steps = Number(match[3]);
    const run = async () => {
      const { depth, classes } = golden.config;
      const labels = Array.from(f.integers(`${inputs}labels`), (y) => (y === classes ? null : y));
      if (steps < 1) throw new DataError(`${tensor}: ${steps} steps`);
      const { values } = await open(blocks > 0, labels.length).sample({
        labels,
        steps,
        blocks: blocks || depth,
        guidance: Number(match[4]),
        noise: f.floats(`${inputs}x_0`),
        level: level(steps),
        keepBlocks: true,
      });
      return worstSample(values, f.floats(tensor), labels.length);
    };
    return [{ kind: 'sampling', name: tensor, tolerance: TOLERANCES.sampling, steps, run }];
  });
  if (others.size > 0) {
    skipped.push(`sampling: ${[...others].join(', ')} (other samplers than Euler's: adaptive solvers, consistency)`);
  }
  return found;
}
