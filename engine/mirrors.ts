/**
 * Mirrors: copies of tensors in textures, for kernels that bind a tensor as `texture_storage_2d<FORMAT, read>`. lavapipe loads from those
 * without a branch for each lane, so that copying first is worth it where values are read often. Element i of four numbers is texel
 * (i % WIDTH, i / WIDTH), as mirror.wgsl has it; the format says how the numbers are stored.
 */
import { UsageError } from './errors.ts';
import type { CheckedDispatch } from './kernel.ts';
import type { Memory } from './memory/accountant.ts';
import { type DType, placeOf, type Tensor } from './tensor.ts';
import { type MirrorFormat, TEXEL_BYTES } from './wgsl.ts';

/** Texels of a line. */
const WIDTH = 1024;
/**
 * Bytes between lines that are to lie apart. Rows whose distance is a power of two fall into few places of a cache, which is bad where a
 * kernel reads many rows side by side, and harmless where it walks from row to row.
 */
const APART = 128;
/** Texels that every device allows (maxTextureDimension2D lines). */
const MOST_TEXELS = 8192 * WIDTH;

const FORMATS: { readonly [T in DType]?: MirrorFormat } = { f32: 'rgba32float', f16: 'rgba16float', i8: 'rgba8sint' };

/** Whether a mirror in the format that suits its elements holds a tensor. */
export function fitsMirror({ dtype, storage }: Tensor): boolean {
  const format = FORMATS[dtype];
  return format !== undefined && fits(texelsOf(storage.bytes, format));
}

const texelsOf = (bytes: number, format: MirrorFormat): number => bytes / TEXEL_BYTES[format];
const fits = (texels: number): boolean => Number.isInteger(texels) && texels <= MOST_TEXELS;

/** What dispatches need of a texture. */
interface Need {
  readonly format: MirrorFormat;
  readonly apart: boolean;
  readonly lines: number;
}

/** What dispatches need of textures, by their names. */
export type MirrorNeeds = ReadonlyMap<string, Need>;

/** Whole lines of texels of a tensor, and texels that are left. */
function extent({ storage, label }: Tensor, format: MirrorFormat): { lines: number; rest: number } {
  const texels = texelsOf(storage.bytes, format);
  if (!fits(texels)) {
    const whole = `whole texels of ${TEXEL_BYTES[format]} bytes, ${MOST_TEXELS} at most`;
    throw new UsageError(`'${label}' has ${storage.bytes} bytes; a mirror in ${format} holds ${whole}`);
  }
  return { lines: Math.floor(texels / WIDTH), rest: texels % WIDTH };
}

/** What each of these dispatches needs in turn. @throws UsageError for a tensor that has no mirror of the format that its kernel reads */
export function mirrorNeeds(nodes: readonly CheckedDispatch[]): MirrorNeeds {
  const needs = new Map<string, Need>();
  for (const { bindings } of nodes) {
    for (const { mirror, tensor } of bindings) {
      if (!mirror) continue;
      const { lines, rest } = extent(tensor, mirror.format);
      const most = Math.max(needs.get(mirror.name)?.lines ?? 0, lines + Math.sign(rest));
      needs.set(mirror.name, { format: mirror.format, apart: mirror.apart, lines: most });
    }
  }
  return needs;
}

/** The textures of those whose dispatches run one after the other, by name; each as large as any has asked for. */
export class MirrorTextures {
  readonly #memory: Memory;
  readonly #label: string;
  readonly #textures = new Map<string, GPUTexture>();

  constructor(memory: Memory, label: string) {
    this.#memory = memory;
    this.#label = label;
  }

  /** False once the device turned out to have no memory for one: `reserve` then makes it anew. */
  get intact(): boolean {
    return [...this.#textures.values()].every((texture) => this.#memory.isLive(texture));
  }

  /** The texture of a name that `reserve` was given. */
  get(name: string): GPUTexture {
    return this.#textures.get(name)!;
  }

  /** Makes each at least as large as asked; true if one was made. @throws OutOfMemoryError */
  reserve(needs: MirrorNeeds): boolean {
    let made = false;
    for (const [name, { format, apart, lines }] of needs) {
      const have = this.#textures.get(name);
      if (have && have.height >= lines && this.#memory.isLive(have)) continue;
      if (have) this.#memory.destroy(have);
      this.#textures.delete(name);
      const width = WIDTH + (apart ? APART / TEXEL_BYTES[format] : 0);
      const what = { size: [width, lines], format, texelBytes: TEXEL_BYTES[format] } as const;
      this.#textures.set(name, this.#memory.createTexture('mirrors', `${this.#label}/${name}`, what));
      made = true;
    }
    return made;
  }

  /** Frees them all. */
  dispose(): void {
    for (const texture of this.#textures.values()) this.#memory.destroy(texture);
    this.#textures.clear();
  }
}

/** Encodes the copies that a dispatch reads. */
export function encodeMirrors(encoder: GPUCommandEncoder, node: CheckedDispatch, textures: MirrorTextures): void {
  const copied = new Set<string>();
  for (const { mirror, tensor } of node.bindings) {
    if (!mirror || copied.has(mirror.name)) continue;
    copied.add(mirror.name);
    const { lines, rest } = extent(tensor, mirror.format);
    const { buffer, offset } = placeOf(tensor);
    const bytesPerRow = WIDTH * TEXEL_BYTES[mirror.format];
    const texture = textures.get(mirror.name);
    if (lines > 0) encoder.copyBufferToTexture({ buffer, offset, bytesPerRow }, { texture }, [WIDTH, lines]);
    if (rest > 0) {
      const from = { buffer, offset: offset + lines * bytesPerRow };
      encoder.copyBufferToTexture(from, { texture, origin: [0, lines] }, [rest, 1]);
    }
  }
}
