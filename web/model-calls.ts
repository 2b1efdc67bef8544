/** `load` and `sample` in the worker: the model that was loaded last, put on the GPU again where that was lost. */
import type { Engine } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import { parseSafetensors } from '../formats/safetensors.ts';
import { allowedLengths } from '../model/config.ts';
import { classNamesOf, describedModel } from '../model/weights/model-file.ts';
import { groupsFor, ResidentModel } from '../model/weights/residency.ts';
import { type ModelSource, rangeSource } from '../model/weights/source.ts';
import { openModelUrl } from '../model/weights/source-url.ts';
import { Sampler } from '../sampling/sampler.ts';
import { cachingFetch } from './cache.ts';
import type { Calls, LoadOptions } from './protocol.ts';
import type { Serving } from './serving.ts';

interface Loaded {
  readonly model: ModelSource;
  readonly options: LoadOptions;
  /** Where it is on the GPU. */
  placed: { readonly engine: Engine; readonly resident: ResidentModel; readonly sampler: Sampler } | null;
}

export function createModelCalls() {
  let loaded: Loaded | null = null;
  return {
    async load({ args, signal, within }: Serving<'load'>): Promise<Calls['load']['result']> {
      const { source, options } = args;
      const name = typeof source === 'string' ? source : 'the model';
      const model = typeof source === 'string' ? await openUrl(source, options, signal) : await openBytes(source);
      const classNames = classNamesOf(model, name);
      // The model before it makes room first.
      release(loaded);
      const next: Loaded = { model, options, placed: null };
      loaded = next;
      await within(async (engine) => void place(next, engine));
      return { config: model.config, ...(classNames ? { classNames } : {}), lengths: lengthsOf(model) };
    },
    async sample({ args, signal, tell, within }: Serving<'sample'>): Promise<Calls['sample']['result']> {
      const current = loaded;
      if (!current) throw new UsageError('there is no model to sample', { hint: 'call load first' });
      return within(async (engine) => {
        const sampler = place(current, engine);
        const start = performance.now();
        const samples = await sampler.sample({ ...args, signal, onProgress: tell });
        const milliseconds = performance.now() - start;
        return { ...samples, milliseconds };
      });
    },
  };
}

/** What each number of blocks reads of the file. */
const lengthsOf = ({ config, source }: ModelSource): Calls['load']['result']['lengths'] =>
  allowedLengths(config).map((blocks) => ({
    blocks,
    weightBytes: groupsFor(config, blocks).reduce((sum, group) => sum + source.bytesOf(group), 0),
  }));

/** The sampler of a model on this engine, made anew where the one there was is of another engine, which has been lost. */
function place(loaded: Loaded, engine: Engine): Sampler {
  if (loaded.placed?.engine !== engine) {
    const { model, options } = loaded;
    const { batch, precision, activations } = options;
    const resident = new ResidentModel(engine, model.config, model.source, { precision, activations });
    loaded.placed = { engine, resident, sampler: new Sampler(engine, resident, { batch }) };
  }
  return loaded.placed.sampler;
}

function release(loaded: Loaded | null): void {
  loaded?.placed?.sampler.dispose();
  loaded?.placed?.resident.dispose();
}

const openUrl = (url: string, { cache = true }: LoadOptions, signal: AbortSignal): Promise<ModelSource> =>
  openModelUrl(url, { signal, ...(cache ? { fetch: cachingFetch() } : {}) });

/** A model file in memory. */
async function openBytes(given: Uint8Array | Blob): Promise<ModelSource> {
  const bytes = given instanceof Blob ? new Uint8Array(await given.arrayBuffer()) : given;
  const { header } = parseSafetensors(bytes, 'the model');
  const config = describedModel(header, 'the model');
  const source = rangeSource(header, config, async (begin, end) => bytes.subarray(begin, end), 'the model');
  return { config, metadata: header.metadata, source, close: async () => {} };
}
