/**
 * odelt in a web worker: loading, sampling, training, verifying and timing off the page's thread, with typed calls and errors.
 * The module that runs there is `odelt/worker/module`; `serveWorker` is for a worker module of one's own.
 * @module odelt/worker
 */
export type { DispatchTime, ProgramTimes, Share } from './bench/breakdown.ts';
export type { Flow, FlowRequest } from './evaluation/flow.ts';
export type { StoredCell, StoredEvaluation } from './evaluation/stored.ts';
export type { CaseResult, Kind } from './verify/case.ts';
export { type Call, type CallOptions, createWorker, type OdeltWorker, type WorkerPort } from './web/client.ts';
export type { SentError } from './web/errors.ts';
export type { FileAt } from './web/files.ts';
export type { IdxFiles } from './web/idx.ts';
export type {
  Answer,
  BenchProgress,
  BenchRequest,
  Breakdown,
  BreakdownRequest,
  CallName,
  Calls,
  DecoderOptions,
  DecoderSource,
  Handed,
  Inspected,
  LoadedDecoder,
  LoadedModel,
  LoadOptions,
  Question,
  Sampled,
  SampledProgress,
  SentData,
  SentPictureOptions,
  Shown,
  ShowRequest,
  Trained,
  TrainProgress,
  TrainRequest,
  VerifyProgress,
  VerifyRequest,
} from './web/protocol.ts';
export { type Scope, type ServeOptions, serveWorker } from './web/serve.ts';
