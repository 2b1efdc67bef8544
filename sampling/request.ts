/** What a caller may ask a sampler for, and the check of every field of it before anything is computed. */
import { ConfigError, LimitError, UsageError } from '../engine/errors.ts';
import { blocksThatRun, checkLength, finestSteps, type ModelConfig } from '../model/config.ts';
import { BLOCKS_HINT, type Blocks, blocksFrom, describeBlocks, LOADING, type Loading, type Refresh } from './blocks.ts';
import { checkClasses, usualGuidance } from './classes.ts';
import { checkShard, type Shard } from './shards.ts';
import { CONTROLLERS, type Controller } from './solvers/controller.ts';
import { ADAPTIVE, type AdaptiveName, FIXED, type FixedName } from './solvers/tableaux.ts';

/** Where a request's starting noise comes from: odelt's own generator, or JAX's as the reference uses it (sampling/jax-draws.ts). */
export const RNGS = ['odelt', 'jax'] as const;
/** One of RNGS. */
export type Rng = (typeof RNGS)[number];

/** How the way from noise to data is computed: with fixed steps, with steps by their error, or by prediction and new noise. */
export const SOLVERS = [
  ...(Object.keys(FIXED) as FixedName[]),
  ...(Object.keys(ADAPTIVE) as AdaptiveName[]),
  'consistency',
] as const;
/** One of `SOLVERS`. */
export type Solver = (typeof SOLVERS)[number];

/** Whether a solver chooses its steps by their error. */
export const isAdaptive = (solver: Solver): solver is AdaptiveName => Object.hasOwn(ADAPTIVE, solver);

/** What adaptive solvers do where a request does not say; the first step and the number of steps are the reference's. */
export const ADAPTIVE_DEFAULTS = { tolerance: 1e-3, controller: 'integral', firstStep: 0.01, maxSteps: 4096 } as const;

/** What to sample, in how many steps and with how many blocks. */
export interface SampleRequest {
  /** Class of each sample; null is "no class", and all that an unconditional model takes. At least one. */
  readonly labels: readonly (number | null)[];
  /** Number of steps T: for shortcut models a power of two up to their finest grid's, as a rule 128. Needed, but for adaptive solvers, which choose their own. */
  readonly steps?: number;
  /** Default 'euler'. A step of euler and consistency evaluates the network once, of midpoint and heun twice, of rk4 four times. */
  readonly solver?: Solver;
  /**
   * Of adaptive solvers: the error of a step that is accepted, absolute and relative to the values, as root mean square over all
   * samples computed together. Default 1e-3.
   */
  readonly tolerance?: number;
  /** How adaptive solvers choose the next step: by the last error ('integral', default), or by the last two ('pi'). */
  readonly controller?: Controller;
  /** Of adaptive solvers: length of the first step, 'auto' for one from the velocity at the start. Default 0.01. */
  readonly firstStep?: number | 'auto';
  /** Most steps of an adaptive solver, accepted and rejected. Default 4096. */
  readonly maxSteps?: number;
  /**
   * Number of blocks L, one of the model's allowed lengths. Default: the largest. Or a list, such as
   * [{ from: 0, blocks: 4 }, { from: 0.5, blocks: 12 }]: an evaluation of the network at time t runs as many as the last of those with
   * from <= t says.
   */
  readonly blocks?: Blocks;
  /**
   * Where `blocks` is a list: 'first' (default) loads all weights that it needs before the first evaluation; 'along' loads those of
   * further blocks before the first evaluation that needs them, while the GPU computes the one before, and keeps them to the end; 'needed'
   * frees them, too, before the first evaluation that does not need them (where they come again, they are read again).
   */
  readonly loadBlocks?: Loading;
  /**
   * Of euler, with one number of `blocks`: every so many steps evaluate more blocks, and the steps between reuse what the further ones gave.
   * An approximation (docs/concepts.md). It keeps [samples, T, D] on the GPU, twice that where guided, and does not stream blocks.
   */
  readonly refresh?: Refresh;
  /**
   * 0: "no class"; 1: the label (default); otherwise v_u + w (v_c - v_u), at twice the work. An unconditional model takes 0 alone, its
   * default.
   */
  readonly guidance?: number;
  /** Guides at times in this interval only, ends included; elsewhere the label's velocity is taken as it is. Default [0, 1]. */
  readonly guidanceInterval?: readonly [number, number];
  /** An integer in [0, 2^32). Default 0. */
  readonly seed?: number;
  /**
   * Where the seed's noise comes from: odelt's generator on the GPU (default), or, for the pictures that the reference makes with the
   * seed, JAX's as it draws batch 0 (sampling/jax-draws.ts), whose row n is sample n.
   */
  readonly rng?: Rng;
  /**
   * Number of the first sample: sample n of a seed is the same picture whatever batch it is drawn in. An integer; the last sample's
   * number is less than 2^32. Default 0.
   */
  readonly first?: number;
  /** Draw one part of these samples only, whole batches: each has the bits that it has where all are drawn. */
  readonly shard?: Shard;
  /** Start from this noise [samples, H, W, C] instead of the seed's; all of it finite. */
  readonly noise?: Float32Array;
  /** For `consistency`: the noise [samples, H, W, C] of each step but the last, instead of the seed's. It takes GPU memory for a batch of it. */
  readonly renoise?: readonly Float32Array[];
  /**
   * Step level that the network is told, from 0 to the model's finest (as a rule 7), instead of log2(steps), of the finest by adaptive solvers and
   * of 0 by consistency. The reference's adaptive solvers tell 0. Allows any number of steps; none for a model that is told no step sizes.
   */
  readonly level?: number;
  /** Of solvers with fixed steps: ends after so many of the T, from 1; the samples are then what is under way there. Default T. */
  readonly stopAfter?: number;
  /** Keeps blocks and their tables on the GPU that this call does not need. */
  readonly keepBlocks?: boolean;
  readonly signal?: AbortSignal;
  /** Told after each evaluation of the network, and after each step of an adaptive solver. */
  readonly onProgress?: (progress: SampleProgress) => void;
}

/** How far a request is. */
export interface SampleProgress {
  /** Network evaluations of batches done, and in all: null where an adaptive solver decides as it goes. */
  readonly done: number;
  readonly total: number | null;
  /** Time that the batch under way has reached, of 1. */
  readonly t: number;
  /** Steps of the batch under way. Only adaptive solvers reject any. */
  readonly accepted: number;
  readonly rejected: number;
}

/** What of a request decides its memory. */
export type Requested = Pick<
  SampleRequest,
  'labels' | 'steps' | 'solver' | 'guidance' | 'guidanceInterval' | 'loadBlocks' | 'refresh'
>;

/** Steps of models that know no step sizes: beyond these, t moves by less than float32 tells apart near 1. */
const MOST_STEPS = 2 ** 16;
/** Numbers of samples and seeds are 32-bit words on the GPU. */
const WORDS = 2 ** 32;
/** Most bytes of one request's samples in the host's memory. */
const MOST_BYTES = 2 ** 31;

/** @throws ConfigError unless T suits the model (a power of two up to its finest where it knows step sizes); LimitError beyond 65,536. */
function checkSteps(steps: number | undefined, config: Pick<ModelConfig, 'ignoreDt' | 'finest'>): void {
  if (steps === undefined || !Number.isInteger(steps) || steps < 1)
    throw new ConfigError(`the number of steps is ${steps}; it must be a positive integer`);
  const finest = finestSteps(config);
  if (!config.ignoreDt && (steps > finest || !Number.isInteger(Math.log2(steps)))) {
    const coarser = Array.from({ length: Math.log2(finest) }, (_, level) => 2 ** level);
    const sizes =
      finest > 4 ? `1, 1/2, ..., 1/${finest}` : [...coarser, finest].map((T) => (T > 1 ? `1/${T}` : T)).join(', ');
    throw new ConfigError(`this model was trained for step sizes ${sizes}; ${steps} steps are none of them`, {
      hint: `use ${coarser.join(', ')} or ${finest} steps`,
    });
  }
  if (steps <= MOST_STEPS) return;
  throw new LimitError(`${steps} steps are more than ${MOST_STEPS}`, { asked: steps, available: MOST_STEPS });
}

/** @throws UsageError for what is no number; ConfigError for a level that the model does not know. */
function checkLevel(level: number | undefined, config: Pick<ModelConfig, 'ignoreDt' | 'finest'>): void {
  if (level === undefined) return;
  if (!Number.isFinite(level)) throw new UsageError(`level is ${shown(level)}, not a finite number`);
  if (config.ignoreDt)
    throw new ConfigError(`level is ${level}; this model is told no step sizes`, { hint: 'leave the level out' });
  const steps = finestSteps(config);
  const finest = Math.log2(steps);
  if (level >= 0 && level <= finest) return;
  throw new ConfigError(`level is ${level}; this model was trained for levels 0 to ${finest}`, {
    hint: `the level is log2 of a number of steps: 0 for one, ${finest} for ${steps}`,
  });
}

/** Whether a guidance weight (default 1) needs the velocity both with and without the label. */
export const isGuided = (guidance = 1): boolean => guidance !== 0 && guidance !== 1;

/** A value as a message shows it: short, and whatever it is. */
function shown(value: unknown): string {
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return 'an array';
  if (typeof value === 'string') return `'${value.slice(0, 40)}'`;
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

/** @throws UsageError unless `value` is an object, as `what` must be. */
export function checkObject(what: string, value: unknown): void {
  if (typeof value !== 'object' || value === null) throw new UsageError(`${what} is ${shown(value)}, not an object`);
}

/** @throws ConfigError unless `value`, if there is one, is among the known ones. `name` is what the caller calls it. */
export function checkOneOf(name: string, value: string | undefined, known: readonly string[]): void {
  if (value !== undefined && !known.includes(value)) {
    throw new ConfigError(`${name} is '${value}'; it must be one of ${known.join(', ')}`);
  }
}

function checkLabels(labels: readonly (number | null)[], config: ModelConfig, shard: Shard | undefined): void {
  if (!Array.isArray(labels)) {
    throw new UsageError(`labels is ${shown(labels)}, not an array`, {
      hint: 'give the class of each sample, or null for no class: { labels: [0, 1, null], steps: 16 }',
    });
  }
  if (labels.length === 0) throw new UsageError('labels is empty: there is nothing to sample');
  const drawn = Math.ceil(labels.length / (shard?.of ?? 1));
  const asked = drawn * config.imageSize ** 2 * config.channels * 4;
  if (asked > MOST_BYTES) {
    throw new LimitError(
      `${drawn} samples take ${asked} bytes; ${MOST_BYTES} are the most of one request`,
      { asked, available: MOST_BYTES },
      { hint: 'draw them in parts, with `shard`' },
    );
  }
  for (let i = 0; i < labels.length; i++) {
    const label: unknown = labels[i];
    if (label === null || (Number.isInteger(label) && (label as number) >= 0 && (label as number) < config.classes))
      continue;
    throw new ConfigError(`there is no class ${shown(label)} (label ${i})`, {
      hint: `classes are 0 to ${config.classes - 1}; null is no class`,
    });
  }
}

/** An integer in [0, 2^32), the last of `count` of them included. */
function checkWord(name: string, value: number, count = 1): void {
  if (!Number.isInteger(value) || value < 0 || value + count > WORDS) {
    const most = count === 1 ? 'below 2^32' : `of which ${count} are below 2^32`;
    throw new UsageError(`${name} is ${shown(value)}; it must be an integer from 0 on, ${most}`);
  }
}

function checkNoise(name: string, noise: Float32Array, samples: number, { imageSize, channels }: ModelConfig): void {
  // By its name, as it may come from another realm.
  if (!ArrayBuffer.isView(noise) || noise[Symbol.toStringTag] !== 'Float32Array')
    throw new UsageError(`${name} is ${shown(noise)}, not a Float32Array`);
  const size = samples * imageSize ** 2 * channels;
  if (noise.length !== size) {
    throw new UsageError(`${name} has ${noise.length} elements; ${samples} samples need ${size}`);
  }
  const bad = noise.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) throw new UsageError(`${name} is not finite: element ${bad} is ${noise[bad]}`);
}

function checkRenoise({ renoise, solver, steps, labels }: SampleRequest, config: ModelConfig): void {
  if (solver !== 'consistency') throw new UsageError(`renoise is for the solver consistency, not ${solver ?? 'euler'}`);
  if (!Array.isArray(renoise)) throw new UsageError(`renoise is ${shown(renoise)}, not an array`);
  if (renoise.length !== steps! - 1)
    throw new UsageError(`renoise has ${renoise.length} elements; ${steps} steps need ${steps! - 1}`);
  for (const [i, noise] of renoise.entries()) checkNoise(`renoise[${i}]`, noise, labels.length, config);
}

/** @throws ConfigError for an option of another kind of solver, or a value that makes no sense; UsageError for a level that is no number. */
export function checkSolver(
  request: Omit<SampleRequest, 'labels'>,
  { ignoreDt, finest }: Pick<ModelConfig, 'ignoreDt' | 'finest'>,
): void {
  const { solver = 'euler', steps, tolerance, controller, firstStep, maxSteps } = request;
  checkOneOf('the solver', solver, SOLVERS);
  checkLevel(request.level, { ignoreDt, finest });
  const own = { tolerance, controller, firstStep, maxSteps };
  if (!isAdaptive(solver)) {
    const given = Object.entries(own).find(([, value]) => value !== undefined)?.[0];
    if (given) {
      throw new ConfigError(`${given} is for adaptive solvers; ${solver} takes fixed steps`, {
        hint: `leave it out, or use ${Object.keys(ADAPTIVE).join(' or ')}`,
      });
    }
    const { stopAfter } = request;
    // Consistency models are told no step size.
    checkSteps(steps, { ignoreDt: ignoreDt || request.level !== undefined || solver === 'consistency', finest });
    if (stopAfter !== undefined && !(Number.isInteger(stopAfter) && stopAfter >= 1 && stopAfter <= steps!))
      throw new ConfigError(`stopAfter is ${shown(stopAfter)}; of ${steps} steps it must be one from 1 to ${steps}`);
    return;
  }
  if (request.stopAfter !== undefined)
    throw new ConfigError(`stopAfter is for fixed steps; ${solver} chooses its own`, { hint: 'leave it out' });
  if (steps !== undefined) {
    throw new ConfigError(`${solver} chooses its own steps; ${shown(steps)} were asked for`, {
      hint: 'say how exact it is to be with a tolerance, or use a solver with fixed steps',
    });
  }
  const positive = (name: string, value: number | undefined) => {
    if (value !== undefined && !(value > 0 && value <= 1))
      throw new ConfigError(`${name} is ${shown(value)}; it must be above 0 and at most 1`);
  };
  positive('tolerance', tolerance);
  checkOneOf('the controller', controller, CONTROLLERS);
  if (firstStep !== 'auto') positive('firstStep', firstStep);
  if (maxSteps !== undefined && !(Number.isInteger(maxSteps) && maxSteps >= 1))
    throw new ConfigError(`maxSteps is ${shown(maxSteps)}; it must be a positive integer`);
}

/** What is wrong with a time in a list of blocks, after the one before, if there is one. */
function wrongTime(from: unknown, before: number | undefined): string | undefined {
  if (before === undefined) return from === 0 ? undefined : `the first is from ${shown(from)}, not from 0`;
  if (!(typeof from === 'number' && from > before)) return `${shown(from)} is not later than ${before}`;
  return from < 1 ? undefined : `${from} is not below 1`;
}

/** @throws UsageError for what is neither a number nor a list; ConfigError for lengths or times that are not allowed. */
export function checkBlocks(blocks: Blocks, config: ModelConfig): void {
  const hint = BLOCKS_HINT;
  if (typeof blocks !== 'number' && !Array.isArray(blocks))
    throw new UsageError(`blocks is ${shown(blocks)}, neither a number nor a list`, { hint });
  const list = blocksFrom(blocks);
  if (list.length === 0) throw new ConfigError('blocks is an empty list', { hint });
  for (const [i, part] of list.entries()) checkObject(`blocks[${i}]`, part);
  for (const [i, part] of list.entries()) {
    const problem = wrongTime(part.from, list[i - 1]?.from);
    if (problem) throw new ConfigError(`blocks is ${describeBlocks(blocks)}: ${problem}`, { hint });
    checkLength(config, part.blocks);
  }
}

/** @throws UsageError for what is no such object; ConfigError for another solver, for blocks or steps that make no sense. */
export function checkRefresh({ refresh, solver = 'euler', blocks }: SampleRequest, config: ModelConfig): void {
  if (refresh === undefined) return;
  checkObject('refresh', refresh);
  if (solver !== 'euler') {
    throw new ConfigError(`refresh is for the solver euler, not ${solver}`, {
      hint: 'what is kept is that of the step before, and other solvers evaluate within a step',
    });
  }
  if (!Number.isInteger(refresh.every) || refresh.every < 1)
    throw new ConfigError(`refresh is to be every ${shown(refresh.every)} steps; it must be a positive integer`);
  checkLength(config, refresh.blocks);
  const hint = 'give one smaller number of blocks for the steps between';
  if (blocks === undefined)
    throw new ConfigError('refresh needs blocks, the number of those in the steps between', { hint });
  if (typeof blocks !== 'number')
    throw new ConfigError(`refresh goes with one number of blocks, not with ${describeBlocks(blocks)}`, { hint });
  if (blocksThatRun(config, blocks) >= blocksThatRun(config, refresh.blocks)) {
    throw new ConfigError(`refresh with ${refresh.blocks} blocks runs no more than the ${blocks} of other steps`, {
      hint,
    });
  }
}

/** @throws ConfigError for a weight that is not finite, or an interval that is none or has nothing to limit. */
export function checkGuidance(guidance: number, interval: readonly [number, number] | undefined): void {
  if (!Number.isFinite(guidance)) throw new ConfigError(`guidance is ${shown(guidance)}; it must be a finite number`);
  if (interval === undefined) return;
  if (!Array.isArray(interval)) throw new UsageError(`guidanceInterval is ${shown(interval)}, not an array`);
  const [low, high] = interval as readonly unknown[];
  if (interval.length !== 2 || !(Number(low) >= 0 && Number(low) < Number(high) && Number(high) <= 1)) {
    throw new ConfigError(
      `the guidance interval is ${interval.map(shown).join(' to ')}; it must be two times in order, from 0 to 1`,
    );
  }
  if (!isGuided(guidance)) {
    throw new ConfigError(`a guidance interval limits nothing at guidance ${guidance}`, {
      hint: 'give a weight other than 0 and 1, or no interval',
    });
  }
}

/**
 * Checks every field of a request.
 * @throws UsageError for what is missing or of the wrong type; ConfigError for steps, blocks, labels or guidance that make no sense
 * for the model; LimitError for more than fits.
 */
export function checkRequest(request: SampleRequest, config: ModelConfig): void {
  checkObject('the request', request);
  const { labels, guidance = usualGuidance(config), seed = 0, first = 0 } = request;
  if (request.shard !== undefined) checkShard(request.shard);
  checkLabels(labels, config, request.shard);
  checkClasses(config, request);
  checkSolver(request, config);
  if (request.blocks !== undefined) checkBlocks(request.blocks, config);
  checkOneOf('loadBlocks', request.loadBlocks, LOADING);
  checkRefresh(request, config);
  checkGuidance(guidance, request.guidanceInterval);
  checkWord('seed', seed);
  checkOneOf('rng', request.rng, RNGS);
  if (request.rng === 'jax' && request.solver === 'consistency' && request.renoise === undefined) {
    throw new ConfigError("rng 'jax' gives the first noise only, and the solver consistency adds noise between steps", {
      hint: 'give renoise, or leave rng out',
    });
  }
  checkWord('first', first, labels.length);
  if (request.noise !== undefined) checkNoise('noise', request.noise, labels.length, config);
  if (request.renoise !== undefined) checkRenoise(request, config);
  if (request.onProgress !== undefined && typeof request.onProgress !== 'function') {
    throw new UsageError(`onProgress is ${shown(request.onProgress)}, not a function`);
  }
}
