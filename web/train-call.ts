/** `train` in the worker: a run that hands over checkpoints, and goes on from its last state on a new device where the GPU was lost. */
import type { Engine } from '../engine/engine.ts';
import { ConfigError, DeviceLostError, InterruptedError, LimitError, OutOfMemoryError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { checkpointBytes, parseCheckpoint, type TrainingState, trainedModel } from '../training/checkpoint.ts';
import { parseTrainConfig, type TrainConfig } from '../training/config.ts';
import { datasetOf, type TrainingData } from '../training/data/dataset.ts';
import { checkSameData, type Fingerprint, fingerprintOf } from '../training/data/fingerprint.ts';
import { modelAsTrained } from '../training/model-as-trained.ts';
import { modelForData } from '../training/model-for-data.ts';
import { type NumberFields, numbersOf } from '../training/numbers.ts';
import { changesOnResume } from '../training/resume.ts';
import { createTrainer, type Trainer } from '../training/trainer.ts';
import type { ModelDecoder } from './decoding.ts';
import { givenSource, wholeCheckpoint } from './given.ts';
import { datasetOfIdx } from './idx.ts';
import { datasetOfFiles, datasetOfPictures } from './pictures.ts';
import type { SentData, ShowRequest, Trained, TrainRequest } from './protocol.ts';
import type { Serving } from './serving.ts';
import { checkShow, show } from './show.ts';

/** How often in a row a run goes on after the GPU was lost without a checkpoint in between: more is no accident. */
const MOST_LOSSES = 3;

/** Where a run stands: without a state, before its first checkpoint. */
interface Run {
  readonly model: TrainingState['model'];
  readonly train: TrainConfig;
  readonly data: TrainingData;
  readonly pictures: Fingerprint;
  readonly saveEvery: number;
  /** The numbers that checkpoints carry, if they do. */
  readonly carried: NumberFields | undefined;
  readonly show: ShowRequest | undefined;
  /** Of what is shown. */
  readonly decoder: ModelDecoder | undefined;
  state: TrainingState | undefined;
}

/** Trains as asked. @throws as createTrainer and its run; ConfigError for a resumed run that is to be another. */
export async function train({ args, signal, tell, within }: Serving<'train'>): Promise<Trained> {
  const run = await begin(args, signal);
  for (let losses = 0; ; ) {
    const before = run.state?.step ?? 0;
    try {
      await within((engine) => trainOn(engine, run, { signal, tell }));
      const state = run.state!;
      return { step: state.step, checkpoint: await checkpointBytes(state), model: await trainedModel(state) };
    } catch (error) {
      const step = run.state?.step ?? 0;
      losses = step > before ? 1 : losses + 1;
      if (!(error instanceof DeviceLostError) || losses > MOST_LOSSES) throw error;
      tell({ type: 'recovered', step, message: error.message });
    }
  }
}

async function begin(request: TrainRequest, signal: AbortSignal): Promise<Run> {
  const { saveEvery = 100, resume, show } = request;
  if (!(Number.isInteger(saveEvery) && saveEvery >= 1)) {
    throw new ConfigError(`saveEvery is ${saveEvery}; it must be a positive integer`);
  }
  const began = async (run: Omit<Run, 'pictures' | 'saveEvery' | 'show' | 'decoder'>): Promise<Run> => {
    if (show) checkShow(run.model, show);
    const pictures = await fingerprintOf(run.data);
    const recorded = run.state?.pictures;
    if (recorded && !request.otherData) checkSameData(recorded, pictures, 'give otherData: true');
    return { ...run, pictures, saveEvery, show, decoder: await decoderOf(run.model, show, signal) };
  };
  if (!resume) {
    const { model = 'tiny' } = request;
    const train = parseTrainConfig(request.train ?? {});
    const data = await dataOf(request.data, signal);
    return began({
      ...{ data, carried: carriedOf(request), state: undefined, train },
      model: modelAsTrained(typeof model === 'string' ? modelForData(model, data) : model, train),
    });
  }
  const state = await parseCheckpoint(await wholeCheckpoint(givenSource(resume, 'the checkpoint')));
  const carried = request.data ? carriedOf({ keepData: state.data !== undefined, ...request }) : state.data;
  const data = carried ? await numbersOf(carried) : await dataOf(request.data, signal);
  const train = parseTrainConfig({ ...state.train, ...request.train });
  const model = modelAsTrained(typeof request.model === 'object' ? request.model : state.model, train);
  changesOnResume({ ...state, data: data.name }, { model, train, data: data.name });
  return began({ model, train, data, carried, state });
}

/** What makes pictures of what is shown. @throws as openModelDecoder. */
async function decoderOf(config: ModelConfig, show: ShowRequest | undefined, signal: AbortSignal) {
  if (!show?.decoder) return undefined;
  const { openModelDecoder } = await import('./decoding.ts');
  return openModelDecoder({ config, metadata: new Map() }, show.decoder, signal);
}

/** The numbers that are to be carried. @throws ConfigError for pictures, which checkpoints do not carry. */
function carriedOf({ keepData, data }: TrainRequest): NumberFields | undefined {
  if (!keepData) return undefined;
  if (data?.kind !== 'numbers') {
    throw new ConfigError(`checkpoints carry data of kind 'numbers', not ${JSON.stringify(data?.kind)}`, {
      hint: 'leave keepData out, and give the same data on resume',
    });
  }
  const { kind: _, ...fields } = data;
  return fields;
}

async function dataOf(sent: SentData | undefined, signal: AbortSignal): Promise<TrainingData> {
  switch (sent?.kind) {
    case 'pixels':
      return datasetOf(sent);
    case 'numbers':
      return numbersOf(sent);
    case 'pictures': {
      const data = await datasetOfPictures(sent.pictures, { ...sent.options, signal });
      // They were handed over, so nobody else will.
      for (const { picture } of sent.pictures) if (!(picture instanceof Blob)) picture.close();
      return data;
    }
    case 'files':
      return datasetOfFiles(sent.files, { ...sent.options, signal });
    case 'idx':
      return datasetOfIdx(sent, signal);
    default:
      throw new ConfigError(`data of kind ${JSON.stringify((sent as { kind?: unknown } | undefined)?.kind)}`, {
        hint: "give { kind: 'pixels', 'numbers', 'pictures', 'files' or 'idx', ... }",
      });
  }
}

/** Trains on one engine, from the run's state to its end. */
async function trainOn(
  engine: Engine,
  run: Run,
  { signal, tell }: Pick<Serving<'train'>, 'signal' | 'tell'>,
): Promise<void> {
  const { model, train, data, saveEvery } = run;
  const trainer = await createTrainer(engine, { model, train, data, from: run.state, signal });
  let done = run.state?.step ?? 0;
  let shows = run.show;
  const save = async () => {
    if (run.state?.step !== done) run.state = await stateOf(trainer, run, done);
  };
  const hand = async () => tell({ type: 'checkpoint', step: done, bytes: await checkpointBytes(run.state!) });
  try {
    for await (const event of trainer.run()) {
      done = event.step;
      tell({ type: 'step', ...event });
      if (shows && (done % shows.every === 0 || done === train.steps)) {
        const { decoder } = run;
        try {
          const shown = await show(engine, model, await trainer.average(), shows, { signal, decoder });
          tell({ type: 'shown', step: done, ...shown });
        } catch (error) {
          if (!(error instanceof OutOfMemoryError || error instanceof LimitError)) throw error;
          // The training has its memory, and goes on without what is only looked at.
          shows = undefined;
          tell({ type: 'unshown', step: done, message: error.message });
        }
      }
      if (done % saveEvery !== 0 || done === train.steps) continue;
      await save();
      await hand();
    }
    await save();
  } catch (error) {
    if (error instanceof InterruptedError) {
      await save();
      await hand();
    }
    throw error;
  } finally {
    trainer.dispose();
  }
}

async function stateOf(
  trainer: Trainer,
  { model, train, data, pictures, carried }: Run,
  step: number,
): Promise<TrainingState> {
  const { classNames } = data;
  return {
    ...{ step, model, train, sets: await trainer.snapshot(), pictures },
    ...(classNames ? { classNames } : {}),
    ...(carried ? { data: carried } : {}),
  };
}
