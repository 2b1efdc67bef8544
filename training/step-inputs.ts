/** A batch on the GPU: the tensors that pictures and rows are written to, shared by the programs that take batches in turn. */
import type { Engine } from '../engine/engine.ts';
import type { Tensor } from '../engine/tensor.ts';
import type { ModelConfig } from '../model/config.ts';
import { uploadPositions } from '../model/weights/residency.ts';
import { assembleBatch, type Batch, drawStep } from './batch.ts';
import { type Deal, dealDraws } from './deal.ts';
import type { OwnInputs } from './objectives/objective.ts';

export type StepInputs = ReturnType<typeof createInputs>;

/** The tensors that a batch is written to, for every program of a run that takes batches. */
export function createInputs(engine: Engine, config: ModelConfig, deal: Deal) {
  const { lengthRows } = deal.shares;
  const B = deal.train.batch;
  const isPart = B < deal.whole;
  const pixels = [config.imageSize, config.imageSize, config.channels] as const;
  const f32 = (name: string, n: number) => engine.tensor(name, [n]);
  const u32 = (name: string, n: number, data?: Uint32Array) => engine.tensor(name, [n], { dtype: 'u32', data });
  const rows = (name: string, n: number) => ({
    t: f32(`${name}.t`, n),
    step: f32(`${name}.step`, n),
    labels: u32(`${name}.labels`, n),
  });
  return {
    images: engine.tensor('images', [B, ...pixels]),
    noise: engine.tensor('noise', [B, ...pixels]),
    // The loss' own gradient: the share of the whole batch's mean that these rows' mean is.
    one: engine.tensor('one', [1], { data: Float32Array.of(B / deal.whole) }),
    // Of a part: the numbers of its pictures, which their noise follows, and of its rows, which dropout follows.
    pictures: isPart
      ? u32(
          'pictures',
          B,
          Uint32Array.from({ length: B }, (_, i) => deal.pictures[i] ?? 0),
        )
      : null,
    places: isPart && config.dropout > 0 ? u32('places', B) : null,
    positions: uploadPositions(engine, config),
    main: { ...rows('main', B), source: u32('main.source', B), lengths: u32('main.lengths', B) },
    own: createOwn(engine, config, deal),
    length:
      lengthRows === 0
        ? null
        : {
            ...rows('length', lengthRows),
            targets: u32('length.targets', lengthRows),
            lengths: u32('length.lengths', lengthRows),
          },
  };
}

/** Tensors for what the objective adds to a batch, as its first batch has it. */
function createOwn(engine: Engine, config: ModelConfig, deal: Deal): Record<string, Tensor> {
  const { train, shares, whole } = deal;
  const draws = dealDraws(drawStep(config, { ...train, batch: whole }, 0), deal);
  const own: OwnInputs = assembleBatch(config, train, new Uint32Array(train.batch), draws, shares).own;
  return Object.fromEntries(
    Object.entries(own).map(([name, data]) => {
      const dtype = data instanceof Uint32Array ? 'u32' : 'f32';
      return [name, engine.tensor(`time.${name}`, [data.length], { dtype })];
    }),
  );
}

/** What a batch is written from. */
export interface BatchValues {
  /** [B, H, W, C] */
  readonly images: Float32Array;
  /** The same shape; only where no noise is drawn. */
  readonly noise?: Float32Array;
  /** Of the same rows. */
  readonly batch: Batch;
  /** Of a part of a batch: the place of each row, as they are run, in the whole. */
  readonly places?: Uint32Array;
}

/** Writes a batch to its tensors. */
export function writeBatch(engine: Engine, inputs: StepInputs, { images, noise, batch, places }: BatchValues): void {
  engine.write(inputs.images, images);
  if (noise) engine.write(inputs.noise, noise);
  if (inputs.places) engine.write(inputs.places, places!);
  const send = (to: Record<string, Tensor>, from: Record<string, unknown>) => {
    for (const [name, t] of Object.entries(to)) engine.write(t, from[name] as Float32Array);
  };
  send(inputs.main, { ...batch.main });
  send(inputs.own, batch.own);
  if (inputs.length) send(inputs.length, { ...batch.length });
}

/** Frees them. */
export function freeInputs(engine: Engine, { main, own, length, pictures, places, ...single }: StepInputs): void {
  const part = { ...(pictures ? { pictures } : {}), ...(places ? { places } : {}) };
  const groups: Record<string, Tensor>[] = [single, main, own, length ?? {}, part];
  for (const t of groups.flatMap((group) => Object.values(group))) engine.release(t);
}
