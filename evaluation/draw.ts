/** Draws the samples of cells, a batch at a time, and keeps of them what figures are made of: features, votes, time and bytes. */
import type { Engine } from '../engine/engine.ts';
import type { Decoder } from '../model/autoencoder/decoder.ts';
import type { ModelConfig } from '../model/config.ts';
import { groupsFor, ResidentModel } from '../model/weights/residency.ts';
import type { GroupSource } from '../model/weights/source.ts';
import { usualLabels } from '../sampling/classes.ts';
import { Sampler } from '../sampling/sampler.ts';
import { classAgreement, type Reference } from './agreement.ts';
import type { Features } from './features.ts';
import { requestOf } from './grid.ts';
import type { CellKey, Provenance } from './results.ts';

/** Samples [from, to) of a seed. */
export type Range = readonly [from: number, to: number];

/** What was drawn of a cell. Sums are over its samples, so that those of parts add up. */
export interface Drawn {
  readonly key: CellKey;
  /** [samples * width] */
  readonly features: Float32Array;
  /** Samples that their neighbours, or the network that makes the features, take for the class asked for; null where none was asked for, or nobody judges. */
  readonly agreed: number | null;
  /** Without compiling and loading. */
  readonly seconds: number;
  /** Most bytes of GPU buffers at a time. */
  readonly peakBytes: number;
  /** Bytes of the weights that these blocks need, as the source holds them. */
  readonly bytesRead: number;
  /** For each sample, evaluations of the network and accepted and rejected steps of the batch that it was in. */
  readonly evaluations: number;
  readonly accepted: number;
  readonly rejected: number;
}

/** How cells are drawn. */
export interface Drawing {
  readonly config: ModelConfig;
  readonly source: GroupSource;
  /** Of a model of latents: makes the pictures that are judged. Its time counts as sampling. */
  readonly decoder?: Decoder;
  readonly features: Features;
  /** What class agreement is judged by, if anything, where the features do not know the classes themselves. */
  readonly judges: Reference | null;
  readonly provenance: Pick<Provenance, 'seed' | 'batch' | 'samples'>;
  /** Default: all samples. */
  readonly range?: Range;
  readonly signal?: AbortSignal;
  /** Told before a cell and after each evaluation of the network: samples of the cell that are done. */
  readonly onSamples?: (key: CellKey, samples: number) => void;
}

/** Draws cells one after another; `onDrawn` is waited for after each. @throws what sampling throws */
export async function drawCells(
  engine: Engine,
  { config, source, decoder, features, judges, provenance, range, signal, onSamples }: Drawing,
  cells: readonly CellKey[],
  onDrawn: (drawn: Drawn) => void | Promise<void>,
): Promise<void> {
  const { seed, samples } = provenance;
  const [from, to] = range ?? [0, samples];
  const model = new ResidentModel(engine, config, source);
  const batch = Math.min(provenance.batch, samples);
  const judged = judges !== null || features.classesOf !== undefined;
  const sampler = new Sampler(engine, model, { batch });
  // The first and the last batch: between them they have every number of samples, and of classes, that occurs.
  const sizes = [...new Set([Math.min(batch, to - from), (to - from) % batch || batch])];
  try {
    for (const key of cells) {
      const request = { ...requestOf(key), seed, signal };
      // The first use of a number of blocks compiles, and a change of it loads weights: neither is sampling time. Which programs run depends
      // on steps, and on how many classes occur, but not on how many samples are of each.
      for (const rows of sizes) {
        const labels = usualLabels(config, Math.min(rows, config.unconditional ? 1 : config.classes));
        const warm = await sampler.sample({ ...request, labels });
        await decoder?.decode(warm);
      }
      engine.memory.resetPeak();
      const all = new Float32Array((to - from) * features.width);
      const sums = { agreed: 0, seconds: 0, evaluations: 0, accepted: 0, rejected: 0 };
      // Batches are the same however the samples are divided: an adaptive solver's steps depend on who is computed together.
      for (let first = from; first < to; first += batch) {
        const rows = Math.min(batch, to - first);
        const labels = usualLabels(config, rows, first);
        onSamples?.(key, first - from);
        const started = performance.now();
        const samples = await sampler.sample({
          ...{ ...request, labels, first },
          onProgress: ({ done, total, t }) =>
            onSamples?.(key, first - from + Math.floor(rows * (total === null ? t : done / total))),
        });
        const { solves, evaluations } = samples;
        const { values } = (await decoder?.decode(samples)) ?? samples;
        sums.seconds += (performance.now() - started) / 1000;
        const found = await features.of(values);
        all.set(found, (first - from) * features.width);
        if (judged && key.guidance !== 0) {
          const asked = labels.map((label) => label ?? config.classes);
          const votes = features.classesOf?.(found) ?? classAgreement(judges!, values, asked).votes;
          sums.agreed += asked.filter((label, i) => label === votes[i]).length;
        }
        const share = rows / solves.length;
        sums.evaluations += share * evaluations;
        for (const { accepted, rejected } of solves) {
          sums.accepted += share * accepted.length;
          sums.rejected += share * rejected;
        }
      }
      const groups = groupsFor(config, key.refresh?.blocks ?? key.blocks);
      await onDrawn({
        ...{ key, features: all, ...sums },
        agreed: judged && key.guidance !== 0 ? sums.agreed : null,
        peakBytes: engine.memory.report().peak,
        bytesRead: groups.reduce((sum, group) => sum + source.bytesOf(group), 0),
      });
    }
  } finally {
    sampler.dispose();
    model.dispose();
  }
}
