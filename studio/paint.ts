/** Pictures on canvases. */
import type { ModelConfig } from '../model/config.ts';
import { fromUnit } from '../pictures/picture.ts';
import type { Sampled } from '../web/protocol.ts';

/** Whether what a model makes is pictures, not latents of some. */
export const isPicture = ({ channels }: Pick<ModelConfig, 'channels'>): boolean => channels === 1 || channels === 3;

/** Paints sample `index` onto a canvas, pixel for pixel. */
export function paint(
  canvas: HTMLCanvasElement,
  { values, shape }: Pick<Sampled, 'values' | 'shape'>,
  index: number,
): void {
  const [, height, width, channels] = shape;
  const length = height * width * channels;
  const { pixels } = fromUnit(values.subarray(index * length, (index + 1) * length), height, width, channels)[0]!;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  Object.assign(canvas, { width, height });
  canvas.getContext('2d')!.putImageData(image, 0, 0);
}
