/** Three dense layers of one input, as queries, keys and values are, in one product: a third of the dispatches, each with three times the tiles. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { lastDim, type Shape, shapeText, type Tensor } from '../../engine/tensor.ts';
import { matrixRows } from './linear.ts';
import { dispatchProduct } from './matmul.ts';

/** Three tensors of one shape in one piece of memory, equally far apart. */
export interface Spaced {
  /** [3, ...shape], whose storage spans them all. */
  readonly tensor: Tensor;
  /** Elements from the first of one to the first of the next. */
  readonly spacing: number;
}

/** Dense layers [in, out]. */
export interface Projections {
  readonly kernels: Spaced;
  readonly biases: Spaced;
}

/**
 * x W + b for each, with the bits of `linear`. x [..., in], f32 or f16; returns [..., out] each, stored as x. For inference: no gradient
 * passes.
 * @throws UsageError when the sizes differ, or a gradient is wanted.
 */
export function projections(ctx: Context, x: Tensor, { kernels, biases }: Projections): [Tensor, Tensor, Tensor] {
  const [count, K, width] = kernels.tensor.shape as readonly number[] as [number, number, number];
  if (count !== 3 || K !== lastDim(x) || `${biases.tensor.shape}` !== `${[count, width]}`) {
    throw new UsageError(
      `layers of ${shapeText(kernels.tensor)} and ${shapeText(biases.tensor)} cannot take ${shapeText(x)}`,
    );
  }
  if (ctx.tape?.needs(x, kernels.tensor, biases.tensor)) {
    throw new UsageError(`no gradient passes '${kernels.tensor.label}', layers in one product`, {
      hint: 'use `linear` for each',
    });
  }
  const result = () => ctx.empty('projection', [...x.shape.slice(0, -1), width] as unknown as Shape, x.dtype);
  const [first, ...more] = [result(), result(), result()] as const;
  dispatchProduct(ctx, {
    ...{ M: matrixRows(x), N: 3 * width, K, a: x, b: kernels.tensor, c: first, bias: biases.tensor, epilogue: 'bias' },
    parts: { spacing: kernels.spacing, biasSpacing: biases.spacing, more },
  });
  return [first, ...more];
}
