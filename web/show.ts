/** What a run shows of its averaged weights while it trains: samples, and how its flow moves points. */
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import { checkFlow, type Flow, type FlowRequest, flowRows, traceFlow } from '../evaluation/flow.ts';
import { createVelocities } from '../evaluation/velocities.ts';
import { fullLength, type ModelConfig } from '../model/config.ts';
import type { ParamSet } from '../model/params.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import { memorySource } from '../model/weights/source.ts';
import { checkRequest } from '../sampling/request.ts';
import { Sampler, type Samples } from '../sampling/sampler.ts';
import type { ModelDecoder } from './decoding.ts';
import type { Shown, ShowRequest } from './protocol.ts';

/** @throws ConfigError and what a sampler throws for requests that the model cannot fulfil. */
export function checkShow(config: ModelConfig, { every, samples = [], flow }: ShowRequest): void {
  if (!(Number.isInteger(every) && every >= 1)) {
    throw new ConfigError(`show.every is ${every}; it must be a positive integer`);
  }
  for (const request of samples) checkRequest(request, config);
  if (flow) checkFlow(config, flow);
}

/** How `show` goes on. */
interface Showing {
  readonly signal: AbortSignal;
  /** What makes pictures of latents. */
  readonly decoder: ModelDecoder | undefined;
}

/** Draws what is to be shown of these weights; the GPU is as before afterwards. @throws as Sampler.sample, ModelDecoder.decode, traceFlow. */
export async function show(
  engine: Engine,
  config: ModelConfig,
  params: ParamSet,
  { samples = [], flow }: ShowRequest,
  { signal, decoder }: Showing,
): Promise<Shown> {
  const model = new ResidentModel(engine, config, memorySource(params));
  try {
    const drawn = await sampled(engine, model, samples, signal);
    return {
      samples: decoder ? await decoded(engine, decoder, drawn, signal) : drawn,
      flow: flow ? await flowOf(engine, model, flow, signal) : [],
    };
  } finally {
    model.dispose();
  }
}

async function decoded(
  engine: Engine,
  decoder: ModelDecoder,
  drawn: readonly Samples[],
  signal: AbortSignal,
): Promise<Samples[]> {
  try {
    const pictures: Samples[] = [];
    for (const samples of drawn) pictures.push({ ...samples, ...(await decoder.decode(engine, samples, { signal })) });
    return pictures;
  } finally {
    decoder.dispose();
  }
}

async function sampled(
  engine: Engine,
  model: ResidentModel,
  requests: NonNullable<ShowRequest['samples']>,
  signal: AbortSignal,
): Promise<Samples[]> {
  if (requests.length === 0) return [];
  const sampler = new Sampler(engine, model, { batch: Math.max(...requests.map(({ labels }) => labels.length)) });
  try {
    const drawn: Samples[] = [];
    for (const request of requests) drawn.push(await sampler.sample({ ...request, keepBlocks: true, signal }));
    return drawn;
  } finally {
    sampler.dispose();
  }
}

/** The flow of a model, which is brought onto the GPU whole. @throws as traceFlow. */
export async function flowOf(
  engine: Engine,
  model: ResidentModel,
  request: FlowRequest,
  signal: AbortSignal,
): Promise<Flow[]> {
  checkFlow(model.config, request);
  await model.require(model.groupsFor(fullLength(model.config)), { keep: true, signal });
  const velocities = createVelocities(engine, model, flowRows(model.config, request));
  try {
    return await traceFlow(velocities, model.config, request, signal);
  } finally {
    velocities.dispose();
  }
}
