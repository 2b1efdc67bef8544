/** A run of `odelt sample`, once the model is open: settles how, draws, decodes, writes and says what it took. */
import type { Engine } from '../engine/engine.ts';
import type { Bought } from '../evaluation/afford.ts';
import type { ModelConfig } from '../model/config.ts';
import { classNamesOf } from '../model/weights/model-file.ts';
import { groupsFor, ResidentModel } from '../model/weights/residency.ts';
import { type ModelSource, prefetching, reporting } from '../model/weights/source.ts';
import { type Blocks, blocksAt, describeBlocks, mostBlocks } from '../sampling/blocks.ts';
import { chooseSettings, describeSettings, type Settings, type Wanted } from '../sampling/budget.ts';
import type { DecoderChoice } from '../sampling/decoding.ts';
import { isAdaptive, type SampleProgress, type SampleRequest } from '../sampling/request.ts';
import { partFiles } from '../sampling/sample-parts.node.ts';
import { Sampler, type Samples } from '../sampling/sampler.ts';
import { checkShown } from './models.node.ts';
import { bytes, log, ProgressLine, printJson } from './output.node.ts';
import { openBudget } from './sample-budget.ts';
import { type Decoded, describeDecoded, openDecoding } from './sample-decode.ts';
import { isArray, picturesText, writePart, writeSamples } from './sample-output.ts';
import { columnsFor, describeSolver, labelsText, requestOf, type SampleFlags } from './sample-request.ts';
import { limitMemory, openSession, tuneSession } from './session.node.ts';

/** A model's file, open. */
type OpenFile = ModelSource & { readonly path: string };

const SHOWN_HINT =
  'give the autoencoder that they come from, or its decoder: --decode FILE; or --out FILE.npy for the latents themselves';

/** What is drawn, and how. */
interface Settled {
  readonly request: SampleRequest;
  readonly settings: Settings;
  readonly bought?: Bought;
  readonly choice?: DecoderChoice;
}

/** Draws what the flags ask for of a model, and writes it. @throws ConfigError, LimitError, OutputError, InterruptedError */
export async function sampleFrom(file: OpenFile, flags: SampleFlags, signal: AbortSignal): Promise<void> {
  const { config } = file;
  const decoding = await openDecoding(flags, file);
  const pictures = decoding?.shown ?? config;
  // Numbers may be of latents, which `odelt decode` takes.
  if (!isArray(flags.out)) checkShown({ ...config, ...pictures }, file.path, SHOWN_HINT);
  const classNames = classNamesOf(file, file.path);
  const budget = flags.budget && openBudget(flags.budget, flags, file);
  const flagged = budget ? { ...flags, ...budget.cheapest } : flags;
  const { request: asked, wanted } = requestOf(flagged, config, pictures, classNames);
  const { refresh } = asked;
  const deepest = (blocks: Blocks) => refresh?.blocks ?? mostBlocks(blocks);
  // Timing a budget reads some weights that sampling needs again; a part says whose samples it has.
  const keep = budget !== undefined || (flags.shard !== undefined && wanted.residentBlocks === undefined);
  const source = prefetching(file.source, { keep });
  const readAhead = ({ blocks, residentBlocks }: Settings) => {
    // What passes through few buffers is not to pile up in the host's memory.
    if (residentBlocks !== undefined) return;
    const first = refresh?.blocks ?? blocksAt(blocks, 0);
    source.prefetch([...groupsFor(config, first), ...groupsFor(config, deepest(blocks))], { signal }); // each once
  };
  const line = new ProgressLine();
  const given = flags.maxMemory === undefined ? givenSettings(wanted) : undefined;
  if (given) readAhead(given); // from here on weights arrive while the device is acquired and shaders are compiled
  const session = await openSession(flags.adapter, flags);
  const { engine, adapter } = session;
  await tuneSession(session, flags.tuning);

  /** Settings where flags leave them open: by a budget, or by the memory that there may be; and the decoder's. */
  async function settle(): Promise<Settled> {
    const how = { request: asked, line, signal };
    if (budget && given) return budget.buy({ engine, config, source, settings: given, ...how });
    if (given) return { request: asked, settings: given, choice: await decoding?.chooseAlone(engine, how) };
    limitMemory(engine, flags.maxMemory!);
    if (!decoding) return { request: asked, settings: await chosenSettings(engine, config, wanted, how) };
    const { decoder, sampling } = await decoding.chooseBoth(engine, wanted, how);
    log(sampling.why);
    return { request: asked, settings: sampling.settings, choice: decoder };
  }
  const { request, settings, bought, choice } = await settle();
  if (settings !== given) readAhead(settings);
  if (choice) log(choice.why);
  log(
    `${file.path} on ${adapter.adapter.name}: ${picturesText(request)}, ${describeSolver(request)}, L=${describeBlocks(settings.blocks)}${refresh ? `, L=${refresh.blocks} every ${refresh.every} steps` : ''}`,
  );
  log(`labels: ${labelsText(request.labels, classNames)}`);

  const shown = reporting(source, groupsFor(config, deepest(settings.blocks)), (progress) => line.reading(progress));
  const model = new ResidentModel(engine, config, shown, settings);
  const sampler = new Sampler(engine, model, {
    ...settings,
    onCompile: ({ compiled, pipelines }) => line.update(`compiling ${compiled}/${pipelines} pipelines`),
  });
  const { seed, rng, shard } = flags;
  const started = performance.now();
  let samples = await sampler
    .sample({
      ...{ ...request, blocks: settings.blocks, seed, rng, signal },
      onProgress: (progress) => line.update(describeProgress(progress)),
    })
    .finally(() => line.end());
  const seconds = (performance.now() - started) / 1000;
  let decoded: Decoded | undefined;
  if (decoding && choice) {
    sampler.dispose();
    model.dispose();
    ({ samples, said: decoded } = await decoding.decode(engine, samples, choice, { line, signal }));
  }
  const sheet = { columns: columnsFor(request.labels.length, request.labels), scale: flags.scale };
  const { peak: peakBytes } = engine.memory.report();
  let { out } = flags;
  if (shard) {
    const how = { ...request, ...settings, seed, rng, decoded: decoded?.autoencoder, shard: undefined };
    const part = { out, shard, samples, count: request.labels.length, sheet, how };
    out = await writePart(session, source, part, signal);
  } else await writeSamples(out, samples.values, samples.shape, sheet);
  engine.dispose();

  const taken = { ...stepsTaken(samples), evaluations: samples.evaluations };
  if (!flags.json) {
    if (isAdaptive(request.solver!)) log(describeTaken(samples));
    if (decoded) log(describeDecoded(decoded));
    log(`wrote ${out} in ${seconds.toFixed(1)} s; peak ${bytes(peakBytes)} of GPU buffers`);
    if (shard) log(`with the other parts: odelt sample merge ${partFiles(flags.out, { ...shard, index: '*' }).record}`);
    return;
  }
  printJson({
    out,
    ...request,
    ...(shard && { range: samples.range }),
    classNames,
    ...settings,
    ...(bought && { budget: { ...flags.budget, ...bought } }),
    ...(decoded && { decoded }),
    ...{ seed, rng, weights: file.path, seconds, peakBytes, ...taken },
  });
}

/** Settings where the flags leave nothing open. */
const givenSettings = ({ blocks, precision = 'f32', ...wanted }: Wanted): Settings | undefined =>
  blocks === 'auto' ? undefined : { ...wanted, blocks, precision };

/** Steps of all batches together. */
const stepsTaken = ({ solves }: Samples) => ({
  accepted: solves.reduce((sum, { accepted }) => sum + accepted.length, 0),
  rejected: solves.reduce((sum, { rejected }) => sum + rejected, 0),
});

function describeTaken(samples: Samples): string {
  const { accepted, rejected } = stepsTaken(samples);
  const each = samples.solves.length > 1 ? ` of ${samples.solves.length} batches` : '';
  return `${accepted} steps accepted, ${rejected} rejected${each}: ${samples.evaluations} evaluations`;
}

function describeProgress({ done, total, t, rejected }: SampleProgress): string {
  return total === null ? `t=${t.toFixed(3)} after ${done} evaluations, ${rejected} rejected` : `step ${done}/${total}`;
}

/** The settings that fit the engine's memory limit, and a line that says why. */
async function chosenSettings(
  engine: Engine,
  config: ModelConfig,
  wanted: Wanted,
  { request, line, signal }: { request: SampleRequest; line: ProgressLine; signal: AbortSignal },
): Promise<Settings> {
  const began = performance.now();
  const onTry = (tried: Settings) => {
    if (performance.now() - began > 2000) line.update(`trying ${describeSettings(tried)}`);
  };
  const { limit } = engine.memory;
  const { settings, why } = await chooseSettings(engine, config, wanted, request, limit, { signal, onTry }).finally(
    () => line.end(),
  );
  log(why);
  return settings;
}
