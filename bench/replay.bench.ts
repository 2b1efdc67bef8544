/** What replaying a recorded program costs the host, and how tightly its memory is planned, on a whole network. */
import type { Engine } from '../engine/engine.ts';
import { Program, record } from '../engine/program.ts';
import { type ModelConfig, preset } from '../model/config.ts';
import { groupsOf, velocity } from '../model/dit.ts';
import { initParams } from '../model/params.ts';
import { uploadModel } from '../model/weights/residency.ts';
import { quantile } from './harness.ts';

/** What replaying a network costs the host. */
export interface ReplayResult {
  readonly model: string;
  readonly blocks: number;
  readonly batch: number;
  /** Of one evaluation of the network. */
  readonly dispatches: number;
  /** Host microseconds per dispatch of program.run(), which encodes and submits without waiting. */
  readonly microseconds: { readonly median: number; readonly q1: number; readonly q3: number };
  /** Bytes of activations as planned, and the most bytes alive at once: no plan can do with less. */
  readonly plannedBytes: number;
  readonly lowerBound: number;
  readonly bindGroupsPerReplay: number;
  readonly buffersPerReplay: number;
}

/** Measures `runs` replays of the tiny preset's network with all its blocks. */
export async function benchReplay(
  engine: Engine,
  options: { batch?: number; runs?: number } = {},
): Promise<ReplayResult> {
  const { batch = 1, runs = 25 } = options;
  const config: ModelConfig = preset('tiny');
  const { imageSize, channels, depth } = config;
  const model = uploadModel(engine, config, initParams(config, 1));
  const zeros = (label: string) => engine.tensor(label, [batch]);
  const inputs = {
    x: engine.tensor('x', [batch, imageSize, imageSize, channels]),
    t: zeros('t'),
    step: zeros('step'),
    labels: engine.tensor('labels', [batch], { dtype: 'u32' }),
  };
  const lengths = engine.tensor('lengths', [batch], { dtype: 'u32', data: new Uint32Array(batch).fill(depth) });
  const { recording } = record(engine, 'velocity', (ctx, keep) => {
    keep(velocity(ctx, model, inputs, { lengths, rows: groupsOf(config).map(() => batch) }));
  });
  const program = await Program.compile(engine, recording);
  program.run();
  await engine.idle();
  const groups = engine.counters.bindGroups;
  const { created } = engine.memory.report();
  const samples: number[] = [];
  for (let i = 0; i < runs; i++) {
    const started = performance.now();
    program.run();
    samples.push(((performance.now() - started) * 1000) / program.dispatches);
    // Not timed, but waited for, so that the queue's length does not enter.
    await engine.idle();
  }
  const sorted = samples.sort((a, b) => a - b);
  const result: ReplayResult = {
    model: 'tiny',
    blocks: depth,
    batch,
    dispatches: program.dispatches,
    microseconds: { median: quantile(sorted, 0.5), q1: quantile(sorted, 0.25), q3: quantile(sorted, 0.75) },
    plannedBytes: program.plan.bytes,
    lowerBound: program.plan.lowerBound,
    bindGroupsPerReplay: (engine.counters.bindGroups - groups) / runs,
    buffersPerReplay: (engine.memory.report().created - created) / runs,
  };
  program.dispose();
  model.weights.release();
  for (const t of [...Object.values(inputs), lengths, model.positions]) engine.release(t);
  return result;
}
