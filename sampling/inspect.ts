/**
 * Looks inside one sample on its way: at one step, the velocity with every number of blocks that the model can run, and what the tokens
 * of a block attend to. It evaluates what sampling evaluates (sampling/evaluation.ts), so that velocities are the same to the bit.
 */
import { throwIfAborted } from '../engine/abort.ts';
import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import { Arena } from '../engine/memory/arena.ts';
import { Program, record } from '../engine/program.ts';
import type { ScalarValues } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { attentionScale } from '../model/block.ts';
import { allowedLengths, fullLength, type ModelConfig, tokenCount } from '../model/config.ts';
import { linearDiffusion } from '../model/diffusion.ts';
import { modulatedVelocity, rowsPerGroup } from '../model/dit.ts';
import type { ResidentModel } from '../model/weights/residency.ts';
import { usualGuidance } from './classes.ts';
import {
  applyVelocity,
  createInputs,
  evaluatedPoint,
  evaluatedRows,
  rowModulations,
  writeConditions,
  writeTime,
} from './evaluation.ts';
import { Noise } from './noise.ts';
import { checkRequest, isGuided } from './request.ts';
import type { Sampler } from './sampler.ts';
import { scheduleOf } from './schedule.ts';

/** One sample on its way with Euler's method, and where to look. */
export interface InspectRequest {
  /** Class of the sample; null is "no class", and all that an unconditional model takes. */
  readonly label: number | null;
  /** Steps T of the way. */
  readonly steps: number;
  /** Blocks L of the way. Default: the most that the model has. */
  readonly blocks?: number;
  /** As of a sample's request. */
  readonly guidance?: number;
  readonly seed?: number;
  readonly first?: number;
  /** The step to look at, from 0 to T - 1. */
  readonly at: number;
  /** The block whose attention is wanted, from 0; one of those that `blocks` runs. Default: the last of them. */
  readonly block?: number;
  readonly signal?: AbortSignal;
}

/** What the network says with one number of blocks. */
export interface LengthInside {
  readonly blocks: number;
  /** [H, W, C], guided as was asked for. */
  readonly velocity: Float32Array;
  /** `[H, W, C]`: where that velocity leads by the end, x + (1 - t) velocity; the picture that is expected. */
  readonly picture: Float32Array;
}

/** Who attends to whom in one block, of the way's number of blocks, with the sample's label. */
export interface AttentionInside {
  readonly block: number;
  readonly heads: number;
  /** Patches along each side of the picture: token r * side + c is the patch in row r and column c. */
  readonly side: number;
  /** `[heads, tokens, tokens]`: what each token takes of every other; rows sum to 1. */
  readonly weights: Float32Array;
}

/** What was seen. */
export interface Inspection {
  /** Height, width and channels of all pictures here. */
  readonly shape: readonly [number, number, number];
  /** The times between which the step goes. */
  readonly from: number;
  readonly to: number;
  /** `[H, W, C]`: the sample at the step's beginning. */
  readonly x: Float32Array;
  /** With every allowed number of blocks at that same point, ascending. */
  readonly lengths: readonly LengthInside[];
  readonly attention: AttentionInside;
}

/** Weights of attention [heads, tokens, tokens] from queries and keys [tokens, heads * headSize]: softmax of scale q k, in double precision. */
function attentionWeights(
  queries: Float32Array,
  keys: Float32Array,
  { heads, width }: Pick<ModelConfig, 'heads' | 'width'>,
): Float32Array {
  const [tokens, head] = [queries.length / width, width / heads];
  const scale = attentionScale({ heads, width });
  const weights = new Float32Array(heads * tokens * tokens);
  const logits = new Float64Array(tokens);
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < tokens; i++) {
      for (let j = 0; j < tokens; j++) {
        let sum = 0;
        for (let e = h * head; e < (h + 1) * head; e++) sum += queries[i * width + e]! * keys[j * width + e]!;
        logits[j] = scale * sum;
      }
      const top = logits.reduce((most, logit) => Math.max(most, logit));
      let total = 0;
      for (let j = 0; j < tokens; j++) {
        logits[j] = Math.exp(logits[j]! - top);
        total += logits[j]!;
      }
      for (let j = 0; j < tokens; j++) weights[(h * tokens + i) * tokens + j] = logits[j]! / total;
    }
  }
  return weights;
}

/** One evaluation as a program, with what can be read after it has run. */
interface Evaluated {
  readonly program: Program;
  readonly velocity: Tensor;
  readonly inside: ReadonlyMap<string, Tensor>;
}

/** Looks inside samples of one model; to be disposed. Looks wait for each other, and for samples that are under way. */
export class Inspector {
  readonly #engine: Engine;
  readonly #model: ResidentModel;
  readonly #sampler: Sampler;
  readonly #arena: Arena;
  readonly #inputs: ReturnType<typeof createInputs>;
  readonly #noise: Noise;
  readonly #evaluated = new Map<string, Evaluated>();

  /** `sampler`: the one that goes the way to the step. */
  constructor(engine: Engine, sampler: Sampler) {
    this.#engine = engine;
    this.#model = sampler.model;
    this.#sampler = sampler;
    this.#arena = new Arena(engine, 'inspection');
    this.#inputs = createInputs(engine, sampler.model, 1);
    this.#noise = new Noise(engine, this.#arena, this.#inputs);
  }

  /**
   * Goes to the step, and looks.
   * @throws as Sampler.sample; ConfigError for a step or a block that there is not, and where features are stored in f16.
   */
  async look(request: InspectRequest): Promise<Inspection> {
    const { config } = this.#model;
    const { label, steps, guidance = usualGuidance(config), seed = 0, first = 0, at, signal } = request;
    const { blocks = fullLength(config) } = request;
    const way = { labels: [label], steps, blocks, guidance, seed, first };
    checkRequest(way, config);
    if (!Number.isInteger(at) || at < 0 || at >= steps)
      throw new ConfigError(`there is no step ${at}`, { hint: `of ${steps} steps they are 0 to ${steps - 1}` });
    const running = this.#model.blocksFor(blocks);
    const { block = running - 1 } = request;
    if (!Number.isInteger(block) || block < 0 || block >= running)
      throw new ConfigError(`block ${block} does not run with ${blocks} blocks`, { hint: `0 to ${running - 1} do` });
    if (this.#model.activations !== 'f32')
      throw new ConfigError('features in f16 cannot be looked at', { hint: 'use activations in f32' });

    const schedule = scheduleOf(way, config);
    const { from, to } = schedule.steps[at]!;
    const inside = [`block${block}/attention/queries`, `block${block}/attention/keys`];
    const lengths: LengthInside[] = [];
    let weights: Float32Array = new Float32Array();
    const walked = at > 0 ? await this.#sampler.sample({ ...way, stopAfter: at, keepBlocks: true, signal }) : undefined;
    const x = await this.#model.alone(async () => {
      const point = await this.#start(way, walked?.values);
      await this.#model.require(this.#model.groupsFor(fullLength(config)), { keep: true, signal });
      for (const length of allowedLengths(config)) {
        throwIfAborted(signal, 'looking inside was interrupted');
        const wanted = length === blocks ? inside : [];
        const { velocity, seen } = await this.#evaluate(
          length,
          { label, guidance, t: from, level: schedule.level },
          wanted,
          signal,
        );
        lengths.push({ blocks: length, velocity, picture: velocity.map((v, i) => point[i]! + (1 - from) * v) });
        if (wanted.length > 0) weights = attentionWeights(seen[0]!, seen[1]!, config);
      }
      return point;
    }, signal);
    const { imageSize, patch, channels, heads } = config;
    const attention = { block, heads, side: imageSize / patch, weights };
    return { shape: [imageSize, imageSize, channels], from, to, x, lengths, attention };
  }

  /** The program of one evaluation with so many blocks, the same that sampling dispatches but for its end, and what to run it with. */
  async program(
    blocks: number,
    guidance = usualGuidance(this.#model.config),
    signal?: AbortSignal,
  ): Promise<{ program: Program; values: ScalarValues }> {
    await this.#model.require(this.#model.groupsFor(blocks), { keep: true, signal });
    const { program } = await this.#compiled(blocks, isGuided(guidance), [], signal);
    return { program, values: { rows: 1, guidance } };
  }

  /** Frees programs, activations and inputs; the sampler and its model stay. */
  dispose(): void {
    for (const { program } of this.#evaluated.values()) program.dispose();
    this.#noise.dispose();
    this.#arena.dispose();
    for (const t of Object.values(this.#inputs)) this.#engine.release(t);
  }

  /** Where the step begins, which is in x then: a sample that has come so far, or noise. */
  async #start({ seed, first }: { seed: number; first: number }, sample?: Float32Array): Promise<Float32Array> {
    const { x } = this.#inputs;
    if (sample) this.#engine.write(x, sample);
    else await this.#noise.start({ rows: 1, seed, first }, undefined);
    return sample ?? this.#engine.read(x);
  }

  /** The velocity at the point in x, and the last row of what `wanted` scopes gave: the row with the label, where there are two. */
  async #evaluate(
    blocks: number,
    { label, guidance, t, level }: { label: number | null; guidance: number; t: number; level: number },
    wanted: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<{ velocity: Float32Array; seen: Float32Array[] }> {
    const { config } = this.#model;
    const guided = isGuided(guidance);
    const { program, velocity, inside } = await this.#compiled(blocks, guided, wanted, signal);
    const { classes, predicts, timeScale = 1 } = config;
    const own = guidance === 0 ? classes : (label ?? classes);
    writeConditions(this.#engine, this.#inputs, { asked: guided ? [classes, own] : [own], rows: 1, blocks, level });
    writeTime(this.#engine, this.#inputs, t, predicts === 'noise' ? linearDiffusion(timeScale)(t) : null);
    program.run({ rows: 1, guidance });
    const [v, ...seen] = await program.read(velocity, ...wanted.map((path) => inside.get(path)!));
    const size = tokenCount(config) * config.width;
    return { velocity: v!, seen: seen.map((rows) => rows.subarray(rows.length - size)) };
  }

  async #compiled(
    blocks: number,
    guided: boolean,
    wanted: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<Evaluated> {
    const key = [blocks, guided, ...wanted].join();
    const known = this.#evaluated.get(key);
    if (known) return known;
    const { config } = this.#model;
    const { all } = evaluatedRows(1, guided);
    const inside = new Map<string, Tensor>();
    const { recording, result: velocity } = record(this.#engine, `inspect L=${blocks}`, (ctx, keep) => {
      ctx.observer = (path, result) => {
        if (!wanted.includes(path)) return;
        keep(result);
        inside.set(path, result);
      };
      const rows = rowsPerGroup(config, [blocks]).filter((n) => n > 0);
      const v = modulatedVelocity(
        ctx,
        this.#model,
        evaluatedPoint(ctx, this.#inputs, 1, guided),
        rowModulations(ctx, this.#model, this.#inputs, all, null),
        config.lengths ? rows.map(() => all) : undefined,
      );
      let found: Tensor | undefined;
      const store = (_: Context, applied: Tensor) => {
        keep(applied);
        found = applied;
      };
      applyVelocity(ctx, this.#inputs, v, 1, guided, { store });
      return found!;
    });
    const program = await Program.compile(this.#engine, recording, { arena: this.#arena, signal });
    const made = { program, velocity, inside };
    this.#evaluated.set(key, made);
    return made;
  }
}
