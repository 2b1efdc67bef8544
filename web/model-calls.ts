/** The calls about a model in the worker: the one that was loaded last, put on the GPU again where that was lost. */
import type { Engine } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import { evaluationOf } from '../evaluation/stored.ts';
import { headerLength, LENGTH_BYTES, parseHeader } from '../formats/safetensors-header.ts';
import type { PictureBatch } from '../model/autoencoder/autoencoder.ts';
import { allowedLengths, fullLength } from '../model/config.ts';
import { classNamesOf, describedModel } from '../model/weights/model-file.ts';
import { groupsFor, ResidentModel } from '../model/weights/residency.ts';
import { type ModelSource, memorySource, rangeSource } from '../model/weights/source.ts';
import { openModelUrl } from '../model/weights/source-url.ts';
import type { Inspection, Inspector } from '../sampling/inspect.ts';
import { Sampler } from '../sampling/sampler.ts';
import { isCheckpoint, parseCheckpoint } from '../training/checkpoint.ts';
import { cachingFetch } from './cache.ts';
import type { ModelDecoder } from './decoding.ts';
import { givenSource, wholeCheckpoint } from './given.ts';
import type { Calls, LoadedModel, LoadOptions, SampledProgress } from './protocol.ts';
import type { Serving } from './serving.ts';
import { flowOf } from './show.ts';

/** A model to be loaded, and, of a checkpoint, its run. */
interface Opened {
  readonly model: ModelSource;
  readonly run?: LoadedModel['run'];
}

interface Loaded {
  readonly model: ModelSource;
  readonly options: LoadOptions;
  /** Where it is on the GPU. */
  placed: Placed | null;
  /** What makes pictures of its latents. */
  decoder: ModelDecoder | null;
}

interface Placed {
  readonly engine: Engine;
  readonly resident: ResidentModel;
  readonly sampler: Sampler;
  /** Made when somebody looks inside. */
  inspector: Inspector | null;
}

export function createModelCalls() {
  let loaded: Loaded | null = null;
  const current = (what: string): Loaded => {
    if (!loaded) throw new UsageError(`there is no model to ${what}`, { hint: 'call load first' });
    return loaded;
  };
  const inspectorOn = async (model: Loaded, engine: Engine): Promise<Inspector> => {
    const placed = place(model, engine);
    const { Inspector } = await import('../sampling/inspect.ts');
    placed.inspector ??= new Inspector(engine, placed.sampler);
    return placed.inspector;
  };
  return {
    async load({ args, signal, within }: Serving<'load'>): Promise<Calls['load']['result']> {
      const { source, options } = args;
      const name = typeof source === 'string' ? source : 'the model';
      const { model, run }: Opened =
        typeof source === 'string' ? { model: await openUrl(source, options, signal) } : await openGiven(source);
      const classNames = classNamesOf(model, name);
      const evaluation = evaluationOf(model, name);
      // The model before it makes room first, and is put there again where this one cannot be.
      release(loaded);
      const next: Loaded = { model, options, placed: null, decoder: null };
      await within(async (engine) => void place(next, engine));
      loaded = next;
      return {
        config: model.config,
        ...(classNames ? { classNames } : {}),
        lengths: lengthsOf(model),
        ...(run ? { run } : {}),
        ...(evaluation ? { evaluation } : {}),
      };
    },
    async loadDecoder({ args, signal, within }: Serving<'loadDecoder'>): Promise<Calls['loadDecoder']['result']> {
      const loaded = current('decode for');
      const { openModelDecoder } = await import('./decoding.ts');
      const decoder = await openModelDecoder(loaded.model, args, signal);
      // The decoder before it makes room first, and is put there again where this one does not fit.
      loaded.decoder?.dispose();
      const told = await within((engine) => decoder.place(engine, signal));
      loaded.decoder = decoder;
      return told;
    },
    async sample({ args, signal, tell, within }: Serving<'sample'>): Promise<Calls['sample']['result']> {
      const loaded = current('sample');
      return within(async (engine) => {
        const { sampler } = place(loaded, engine);
        const start = performance.now();
        let last: SampledProgress | undefined;
        const onProgress = (progress: SampledProgress) => {
          last = progress;
          tell(progress);
        };
        const samples = await sampler.sample({ ...args, signal, onProgress });
        const onPicture = ({ done }: { readonly done: number }) => tell({ ...last!, decoded: done });
        const decoded = await loaded.decoder?.decode(engine, samples, { signal, onPicture });
        const milliseconds = performance.now() - start;
        return { ...samples, ...decoded, milliseconds };
      });
    },
    async inspect({ args, signal, within }: Serving<'inspect'>): Promise<Calls['inspect']['result']> {
      const loaded = current('look into');
      return within(async (engine) => {
        const inspection = await (await inspectorOn(loaded, engine)).look({ ...args, signal });
        const decoded = await loaded.decoder?.pictures(engine, latentsIn(inspection), { signal });
        return { ...inspection, ...(decoded ? { decoded } : {}) };
      });
    },
    async breakdown({ args, signal, within }: Serving<'breakdown'>): Promise<Calls['breakdown']['result']> {
      const loaded = current('time');
      const { sharesBy, timeDispatches } = await import('../bench/breakdown.ts');
      return within(async (engine) => {
        const { blocks = fullLength(loaded.model.config), guidance } = args;
        const { program, values } = await (await inspectorOn(loaded, engine)).program(blocks, guidance, signal);
        const { dispatches, ...times } = await timeDispatches(engine, program, { values, signal });
        return { ...times, kernels: sharesBy(dispatches) };
      });
    },
    async flow({ args, signal, within }: Serving<'flow'>): Promise<Calls['flow']['result']> {
      const model = current('trace');
      return within((engine) => flowOf(engine, place(model, engine).resident, args, signal));
    },
  };
}

/** The sample under way and what is expected of it, as one batch. */
function latentsIn({ x, lengths, shape }: Inspection): PictureBatch {
  const all = [x, ...lengths.map(({ picture }) => picture)];
  const values = new Float32Array(all.length * x.length);
  all.forEach((each, i) => void values.set(each, i * x.length));
  return { values, shape: [all.length, ...shape] };
}

/** What each number of blocks reads of the file. */
const lengthsOf = ({ config, source }: ModelSource): Calls['load']['result']['lengths'] =>
  allowedLengths(config).map((blocks) => ({
    blocks,
    weightBytes: groupsFor(config, blocks).reduce((sum, group) => sum + source.bytesOf(group), 0),
  }));

/** A model on this engine, put there anew where the one there was is of another engine, which has been lost. */
function place(loaded: Loaded, engine: Engine): Placed {
  if (loaded.placed?.engine !== engine) {
    const { model, options } = loaded;
    const { batch, precision, activations } = options;
    const resident = new ResidentModel(engine, model.config, model.source, { precision, activations });
    try {
      loaded.placed = { engine, resident, sampler: new Sampler(engine, resident, { batch }), inspector: null };
    } catch (error) {
      resident.dispose();
      throw error;
    }
  }
  return loaded.placed;
}

/** Frees what a model has on the GPU. */
function release(loaded: Loaded | null): void {
  if (!loaded) return;
  const { placed, decoder } = loaded;
  loaded.placed = null;
  decoder?.dispose();
  placed?.inspector?.dispose();
  placed?.sampler.dispose();
  placed?.resident.dispose();
}

const openUrl = (url: string, { cache = true }: LoadOptions, signal: AbortSignal): Promise<ModelSource> =>
  openModelUrl(url, { signal, ...(cache ? { fetch: cachingFetch() } : {}) });

/** A model file, of which groups are read when they are asked for, or a run's checkpoint, of which the average is the model. */
export async function openGiven(given: Uint8Array | Blob): Promise<Opened> {
  const bytes = givenSource(given, 'the model');
  const { size } = bytes;
  const length = headerLength(await bytes.read(0, Math.min(LENGTH_BYTES, size)), size, 'the model');
  const header = parseHeader(await bytes.read(LENGTH_BYTES, LENGTH_BYTES + length), size, 'the model');
  const close = async () => {};
  if (isCheckpoint(header.metadata)) {
    const { model: config, sets, step, train, data } = await parseCheckpoint(await wholeCheckpoint(bytes));
    const source = { ...memorySource(sets.ema), bytesRead: size };
    return { model: { config, metadata: header.metadata, source, close }, run: { step, train, data } };
  }
  const config = describedModel(header, 'the model');
  const source = rangeSource(header, config, (begin, end) => bytes.read(begin, end), 'the model');
  return { model: { config, metadata: header.metadata, source, close } };
}
