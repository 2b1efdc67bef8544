import { fromUnit } from 'odelt';

/** Paints the first of the samples. */
export function show({ values, shape: [, height, width, channels] }) {
  const [{ pixels }] = fromUnit(values, height, width, channels);
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  document.querySelector('canvas').getContext('2d').putImageData(image, 0, 0);
  document.dispatchEvent(new CustomEvent('sampled', { detail: values }));
}
