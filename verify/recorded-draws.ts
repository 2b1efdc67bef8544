/** What the reference drew for the targets of a batch, as draws of ours: every objective has its own names and shapes in recordings. */
import { DataError } from '../engine/errors.ts';
import type { Tensors } from '../formats/safetensors.ts';
import type { ModelConfig } from '../model/config.ts';
import { drawStep } from '../training/batch.ts';
import { batchShares, type TrainConfig } from '../training/config.ts';
import { roundedTimes } from '../training/objectives/fm.ts';
import type { TargetDraws } from '../training/objectives/objective.ts';

/** Draws of targets, and the noise x0 [batch, H, W, C] (rows that nothing is made of are zero). */
export interface RecordedDraws {
  readonly targets: TargetDraws;
  readonly noise: Float32Array;
}

/** The draws in the tensors `at(...)` of a file for update `update`, from 0. @throws DataError for another number of values. */
export function recordedDraws(
  config: ModelConfig,
  train: TrainConfig,
  f: Tensors,
  at: (tensor: string) => string,
  update: number,
): RecordedDraws {
  const { batch, finest, objective } = train;
  const { timePairs, timeRows, flowRows } = batchShares(train, config);
  const draw = <T extends ArrayLike<number>>(values: T, name: string, count: number): T => {
    if (values.length === count) return values;
    throw new DataError(`${at(name)} has ${values.length} values; the recorded flags ask for ${count}`);
  };
  const floats = (name: string, count: number) => draw(f.floats(at(name)), name, count);
  const integers = (name: string, count: number) => draw(f.integers(at(name)), name, count);
  const onGrid = (name: string, count: number, sections: number) =>
    Float32Array.from(integers(name, count), (i) => i / sections);
  const pixels = config.imageSize ** 2 * config.channels;
  const noise = new Float32Array(batch * pixels);
  if (objective === 'shortcut' || objective === 'splitmeanflow') {
    noise.set(floats('draw_x0_flow', flowRows * pixels));
    const targets = {
      levels: integers('draw_dt_base_bootstrap', timePairs),
      timeT: floats('draw_t_bootstrap', timePairs),
      flowT: floats('draw_t_flow', flowRows),
      dropped: integers('draw_label_dropout', flowRows),
    };
    return { targets, noise };
  }
  noise.set(floats('draw_x0', batch * pixels));
  // Levels follow from the number of the update.
  const { levels } = drawStep(config, train, update * train.accumulate);
  const none = { levels, timeT: [], flowT: [], dropped: [] };
  switch (objective) {
    case 'naive': {
      const flowT = onGrid('draw_t_int', batch, finest);
      return { targets: { ...none, flowT, dropped: integers('draw_label_dropout', batch) }, noise };
    }
    case 'fm':
    case 'icfm':
    case 'rfm': {
      const u = floats('draw_u', batch);
      const flowT = train.timeSampling === 'continuous' ? u : roundedTimes(u, finest);
      return { targets: { ...none, flowT, dropped: integers('draw_label_dropout', batch) }, noise };
    }
    case 'livereflow': {
      const timeT = onGrid('draw_t_int_reflow', timeRows, finest);
      const flowT = onGrid('draw_t_int', batch, finest).subarray(0, flowRows);
      const dropped = integers('draw_label_dropout', batch).subarray(0, flowRows);
      return { targets: { levels, timeT, flowT, dropped }, noise };
    }
    default:
      return { targets: { ...none, timeT: onGrid('draw_t_int', batch, 2 ** levels[0]!) }, noise };
  }
}
