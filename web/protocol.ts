/** What pages and the worker say to each other: calls with their arguments, progress, results and errors. Plain data, all of it cloneable. */
import type { ProgramTimes, Share } from '../bench/breakdown.ts';
import type { CaseChoice } from '../bench/cases.ts';
import type { CaseProgress } from '../bench/kernels.bench.ts';
import type { BenchReport } from '../bench/report.ts';
import type { AdapterDescription } from '../engine/device.ts';
import type { Flow, FlowRequest } from '../evaluation/flow.ts';
import type { StoredEvaluation } from '../evaluation/stored.ts';
import type { PictureBatch } from '../model/autoencoder/autoencoder.ts';
import type { ModelConfig } from '../model/config.ts';
import type { Storing } from '../model/weights/residency.ts';
import type { DecoderChoice, DecoderPrecision } from '../sampling/decoding.ts';
import type { Inspection, InspectRequest } from '../sampling/inspect.ts';
import type { SampleProgress, SampleRequest } from '../sampling/request.ts';
import type { Samples } from '../sampling/sampler.ts';
import type { TrainingState } from '../training/checkpoint.ts';
import type { TrainConfig } from '../training/config.ts';
import type { DatasetFields } from '../training/data/dataset.ts';
import type { NumberFields } from '../training/numbers.ts';
import type { TrainEvent } from '../training/trainer.ts';
import type { CaseResult } from '../verify/case.ts';
import type { SentError } from './errors.ts';
import type { FileAt } from './files.ts';
import type { IdxFiles } from './idx.ts';
import type { Bitmap, LabelledPicture, PictureOptions } from './pictures.ts';

/** What is trained on, as it can be sent. Bitmaps are transferred: the page's own are closed by it. */
export type SentData =
  | ({ readonly kind: 'pixels' } & DatasetFields)
  | ({ readonly kind: 'numbers' } & NumberFields)
  | { readonly kind: 'pictures'; readonly pictures: readonly LabelledPicture[]; readonly options?: SentPictureOptions }
  | { readonly kind: 'files'; readonly files: readonly (File | FileAt)[]; readonly options?: SentPictureOptions }
  | ({ readonly kind: 'idx' } & IdxFiles);

/** How sent pictures become a data set. */
export type SentPictureOptions = Omit<PictureOptions, 'signal' | 'onProgress'>;

/** How a model is loaded. */
export interface LoadOptions extends Storing {
  /** Most samples computed at once. Default 16. */
  readonly batch?: number;
  /** Keeps blocks in the browser's Cache API. Default true; of a model in memory nothing is kept. */
  readonly cache?: boolean;
}

/** A model that is loaded. */
export interface LoadedModel {
  readonly config: ModelConfig;
  readonly classNames?: readonly string[];
  /** The numbers of blocks that it can run, ascending, each with the bytes of the file that it needs. */
  readonly lengths: readonly { readonly blocks: number; readonly weightBytes: number }[];
  /** Of a run's checkpoint, whose averaged weights are loaded: where the run stands. */
  readonly run?: Pick<TrainingState, 'step' | 'train' | 'data'>;
  /** The evaluation that the file carries (`odelt convert --evaluation`): what numbers of steps and blocks give, and cost. */
  readonly evaluation?: StoredEvaluation;
}

/** How a decoder is loaded. */
export interface DecoderOptions {
  /** diffusers' config.json, as a file, an address or parsed: it has groups and scale. Default: Stable Diffusion's. */
  readonly config?: string | URL | Blob | Readonly<Record<string, unknown>>;
  /** How its weights are stored. Default: f32, or f16 where only that fits. */
  readonly precision?: DecoderPrecision;
  /**
   * Most bytes of its GPU buffers, weights included: pictures are then worked on in bands of rows, in the same bits. The model's are
   * beside them. Default: no limit; where the device has too little memory, less is tried.
   */
  readonly maxBytes?: number;
  /** Keeps what is read of a URL in the browser's Cache API. Default true. */
  readonly cache?: boolean;
}

/** An autoencoder's file, and how its decoder is loaded. */
export interface DecoderSource {
  /** A URL, or bytes. */
  readonly source: string | Uint8Array | Blob;
  readonly options?: DecoderOptions;
}

/** A decoder that is loaded, and how it works. */
export interface LoadedDecoder extends Pick<DecoderChoice, 'precision' | 'bands' | 'rows' | 'why'> {
  /** Side and channels of the pictures that the model's samples become. */
  readonly shown: Pick<ModelConfig, 'imageSize' | 'channels'>;
  /** Most bytes of its GPU buffers, weights included. */
  readonly peakBytes: number;
  /** What is to be said where the model learned from latents of another autoencoder. */
  readonly warning?: string;
}

/** Samples, and what they took. */
export interface Sampled extends Samples {
  /** From the call's turn to its end: with compiling and reading, where this request is the first of its kind. */
  readonly milliseconds: number;
  /** Where they are pictures of latents: how long of that time decoding took, and what is to be said of latents that are of another scale. */
  readonly decoded?: { readonly milliseconds: number; readonly warning?: string };
}

/** What was seen inside a sample. */
export interface Inspected extends Inspection {
  /** Where the decoder of latents is loaded: `x` and then the picture of each of `lengths`, decoded [1 + lengths, H, W, channels]. */
  readonly decoded?: PictureBatch;
}

/** How far sampling is; `decoded`: how many of its latents are pictures already. */
export type SampledProgress = SampleProgress & { readonly decoded?: number };

/** What is trained, how and on what. */
export interface TrainRequest {
  /** A preset's name, whose sizes follow the data, or a whole model. Left out where `resume` has it. */
  readonly model?: string | ModelConfig;
  /** Options; others keep their defaults or, on resume, what the run began with. */
  readonly train?: Partial<TrainConfig>;
  /** Left out where `resume` carries them. */
  readonly data?: SentData;
  /** A checkpoint's bytes: the run goes on from there. */
  readonly resume?: Uint8Array | Blob;
  /** On resume: goes on although the data are not those that the run began with, which is refused otherwise. Default false. */
  readonly otherData?: boolean;
  /** Updates between checkpoints. Default 100. */
  readonly saveEvery?: number;
  /** Whether checkpoints carry the data, which must be of kind 'numbers'. Default false; a resumed run does as it did. */
  readonly keepData?: boolean;
  /** What is drawn by the averaged weights meanwhile. Default: nothing. */
  readonly show?: ShowRequest;
}

/** What a run shows while it trains. Changes nothing of the training. */
export interface ShowRequest {
  /** Updates between drawings; there is one after the last update, too. */
  readonly every: number;
  /** As for `sample`. */
  readonly samples?: readonly Calls['sample']['args'][];
  /** As for `flow`. */
  readonly flow?: FlowRequest;
  /** As for `loadDecoder`: makes pictures of samples that are latents. It is on the GPU while there is drawing. */
  readonly decoder?: DecoderSource;
}

/** What was drawn, in the order in which it was asked for. */
export interface Shown {
  readonly samples: readonly Samples[];
  readonly flow: readonly Flow[];
}

/** What a run tells of. */
export type TrainProgress =
  | ({ readonly type: 'step' } & TrainEvent)
  /** Bytes of a checkpoint: after every `saveEvery` updates, and before an interrupted run ends. */
  | { readonly type: 'checkpoint'; readonly step: number; readonly bytes: Uint8Array<ArrayBuffer> }
  /** What `show` asks for, after so many updates. */
  | ({ readonly type: 'shown'; readonly step: number } & Shown)
  /** There is no memory for what was to be shown; the training goes on, and no more is shown. */
  | { readonly type: 'unshown'; readonly step: number; readonly message: string }
  /** The GPU was lost, and training goes on from this step on a new device. */
  | { readonly type: 'recovered'; readonly step: number; readonly message: string };

/** A run that has ended. */
export interface Trained {
  readonly step: number;
  /** To go on from, with more steps. */
  readonly checkpoint: Uint8Array<ArrayBuffer>;
  /** The averaged weights as a model file: `load` takes it. */
  readonly model: Uint8Array<ArrayBuffer>;
}

/** Which evaluation of the network is timed. */
export interface BreakdownRequest {
  /** Number of blocks. Default: the most. */
  readonly blocks?: number;
  readonly guidance?: number;
}

/** Where the time of one evaluation goes. */
export interface Breakdown extends Omit<ProgramTimes, 'dispatches'> {
  /** By kernel, the largest first. */
  readonly kernels: readonly Share[];
}

/** Which kernels are timed, and with which of their cases. */
export interface BenchRequest extends CaseChoice {
  /** Only kernels whose name contains this. */
  readonly filter?: string;
  /** Only kernels of these names. */
  readonly kernels?: readonly string[];
  readonly rounds?: number;
  /** Most rounds, where `rounds` does not say how many. */
  readonly mostRounds?: number;
}

/** A kernel's case that is about to be timed, or what comes before, and how many of all cases are done. */
export interface BenchProgress extends CaseProgress {
  readonly text: string;
}

/** A case that has been replayed, and how many of all are done. */
export interface VerifyProgress extends CaseResult {
  readonly done: number;
  readonly total: number;
}

/** Which recordings are replayed. */
export interface VerifyRequest {
  /** Folder of recordings, with a MANIFEST.json. */
  readonly url: string;
  /** Only cases whose "model/kind/name" contains this. */
  readonly only?: string;
}

/** Arguments, progress and result of every call. */
export interface Calls {
  load: {
    args: { readonly source: string | Uint8Array | Blob; readonly options: LoadOptions };
    progress: never;
    result: LoadedModel;
  };
  loadDecoder: {
    args: DecoderSource;
    progress: never;
    result: LoadedDecoder;
  };
  sample: {
    args: Omit<SampleRequest, 'signal' | 'onProgress'>;
    progress: SampledProgress;
    result: Sampled;
  };
  inspect: { args: Omit<InspectRequest, 'signal'>; progress: never; result: Inspected };
  breakdown: { args: BreakdownRequest; progress: never; result: Breakdown };
  flow: { args: FlowRequest; progress: never; result: readonly Flow[] };
  train: { args: TrainRequest; progress: TrainProgress; result: Trained };
  verify: {
    args: VerifyRequest;
    progress: VerifyProgress;
    result: { readonly cases: number; readonly failed: number };
  };
  bench: { args: BenchRequest; progress: BenchProgress; result: BenchReport };
  adapter: { args: undefined; progress: never; result: AdapterDescription };
  dispose: { args: undefined; progress: never; result: undefined };
}

/** The name of a call. */
export type CallName = keyof Calls;

/** From the page. */
export type Question =
  | { readonly id: number; readonly call: CallName; readonly args: unknown }
  | { readonly id: number; readonly abort: true };

/** From the worker. */
export type Answer =
  | { readonly id: number; readonly progress: unknown }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: SentError };

/** What a message hands over instead of copying it, by what programs without the browser's types know of it. */
export type Handed = ArrayBuffer | Bitmap;

/** Buffers and bitmaps inside plain data that can be handed over, each once. */
export function transferables(value: unknown, found = new Set<Handed>()): Handed[] {
  if (ArrayBuffer.isView(value)) {
    // A view of part of a buffer would take the rest with it.
    const { buffer, byteLength } = value;
    if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) found.add(buffer);
  } else if (value instanceof ArrayBuffer) found.add(value);
  else if (typeof ImageBitmap !== 'undefined' && value instanceof ImageBitmap) found.add(value);
  else if (Array.isArray(value) || (value && Object.getPrototypeOf(value) === Object.prototype)) {
    for (const part of Object.values(value)) transferables(part, found);
  }
  return [...found];
}
