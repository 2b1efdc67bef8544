/** What lets a variant of the product read a picture through a convolution's taps. Apart from the variants: only training asks for it. */
import { defineKernel, type Kernel } from '../../engine/kernel.ts';
import taps from '../conv/taps.wgsl';
import patches from './matmul.patches.wgsl';

const known = new WeakMap<Kernel, Kernel>();

/** A variant's kernel for products with `patches`. */
export function readingPatches(kernel: Kernel): Kernel {
  const found = known.get(kernel) ?? defineKernel(kernel.name, kernel.source, patches, taps);
  known.set(kernel, found);
  return found;
}
