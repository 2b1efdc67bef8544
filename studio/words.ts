/** Numbers and errors in plain words. */
import { DeviceLostError, OdeltError, UnsupportedError } from '../engine/errors.ts';
import type { Opened } from './shared-model.ts';

/** Three digits: 8.41, 84.1, 841. */
const three = (n: number): string => (n >= 99.95 ? `${Math.round(n)}` : n.toPrecision(3));

export const time = (ms: number): string => (ms < 999.5 ? `${three(ms)} ms` : `${three(ms / 1000)} s`);

export const bytes = (n: number): string =>
  n < 999_500 ? `${three(n / 1e3)} kB` : n < 999.5e6 ? `${three(n / 1e6)} MB` : `${three(n / 1e9)} GB`;

export const count = (n: number, one: string): string => `${n} ${one}${n === 1 ? '' : 's'}`;

/** What is open, in a line or two. */
export function modelText({ model, fileName, decoder }: Pick<Opened, 'model' | 'fileName' | 'decoder'>): string {
  const { imageSize, channels, depth, classes, unconditional } = model.config;
  const name = fileName ?? 'The shipped model, Fashion-MNIST';
  const square = (side: number) => `${side} \u00d7 ${side}`;
  const what = decoder
    ? `${square(decoder.shown.imageSize)} pixels, which ${decoder.fileName} makes of ${square(imageSize)} latents of ${channels} channels`
    : `${square(imageSize)} pixels`;
  const note = decoder?.warning ? ` Note: ${decoder.warning}.` : '';
  return `${name}: ${what}, ${count(depth, 'block')}, ${unconditional ? 'no' : classes} classes.${note}`;
}

/** What the page can see of why there may be no WebGPU. */
export interface Surroundings {
  readonly isSecureContext: boolean;
  readonly hasWebGPU: boolean;
}

/** What happened and what can be done about it, as lines for people. */
export function troubleText(error: unknown, { isSecureContext, hasWebGPU }: Surroundings): string {
  if (error instanceof DeviceLostError) {
    return 'The GPU was lost: its driver was restarted, or another program took all of it.\nTry again to get it back.';
  }
  if (error instanceof UnsupportedError) {
    if (!isSecureContext)
      return 'Browsers give WebGPU to secure pages only.\nOpen this page at http://127.0.0.1 or over https.';
    if (!hasWebGPU) {
      return 'This browser has no WebGPU, which does all the work here.\nUse a current Chrome, Edge, Safari or Firefox, or switch WebGPU on in its settings.';
    }
    if (/no adapter/.test(error.message)) {
      return 'This browser has WebGPU, but found no GPU that it may use.\nSwitch on hardware acceleration, update the graphics driver, or use another browser.';
    }
  }
  const message = error instanceof Error ? error.message : String(error);
  const hint = error instanceof OdeltError && error.hint ? `\n${error.hint}` : '';
  return `${message}${hint}`;
}
