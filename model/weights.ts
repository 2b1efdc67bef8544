/** A model's parameters on the GPU: one persistent tensor per group of the layout, and a view per parameter. */
import type { Engine } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import type { MemoryKind } from '../engine/memory.ts';
import type { Tensor } from '../engine/tensor.ts';
import type { ParamLayout, ParamSet } from './params.ts';

export interface Weights {
  readonly layout: ParamLayout;
  /** One flat tensor per group, in the layout's order; what optimisers work on. */
  readonly groups: readonly Tensor[];
  /** The view of one parameter by its Flax name. @throws UsageError for an unknown name. */
  get(name: string): Tensor;
}

/** Allocates tensors for a layout, zero or holding `values`. `groups` limits which are made (others throw when asked for). */
export function createWeights(
  engine: Engine,
  layout: ParamLayout,
  label: string,
  options: { kind?: MemoryKind; values?: ParamSet } = {},
): Weights {
  const groups = layout.groups.map((group, g) =>
    engine.tensor(`${label}/${group.name}`, [group.length], {
      kind: options.kind ?? 'weights',
      data: options.values?.groups[g],
    }),
  );
  const views = new Map<string, Tensor>();
  layout.groups.forEach((group, g) => {
    for (const spec of group.specs) {
      const shape = (spec.shape.length === 4 ? [spec.size / spec.shape[3]!, spec.shape[3]!] : spec.shape) as [
        number,
        ...number[],
      ];
      views.set(spec.name, engine.slice(groups[g]!, spec.offset, spec.name, shape));
    }
  });
  return {
    layout,
    groups,
    get(name) {
      const view = views.get(name);
      if (!view) throw new UsageError(`this model has no parameter '${name}'`);
      return view;
    },
  };
}

export function releaseWeights(engine: Engine, weights: Weights): void {
  for (const group of weights.groups) engine.release(group);
}

/** Reads all parameters back. */
export async function readWeights(engine: Engine, weights: Weights): Promise<ParamSet> {
  return { layout: weights.layout, groups: await engine.readAll(weights.groups) };
}
