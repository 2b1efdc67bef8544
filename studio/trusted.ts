/** What the page's policy of trusted types lets pass: the address of its worker, and drawings of its own. */
import { createWorker, type OdeltWorker, type TrustedTypes } from '../web/client.ts';

export interface Trusted {
  /** A new worker. */
  startWorker(): OdeltWorker;
  /** The element that an SVG's text describes; of drawings that the library makes, whose texts are escaped. */
  drawing(svg: string): SVGElement;
}

/** To be called once, as a policy's name can be taken once. */
export function createTrusted(): Trusted {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  const address = new URL('module.js', document.baseURI).href;
  const policy = trustedTypes?.createPolicy('odelt-studio', {
    createScriptURL: () => address,
    createHTML: (svg) => svg,
  });
  return {
    startWorker: () =>
      createWorker(new Worker((policy?.createScriptURL(address) ?? address) as string, { type: 'module' })),
    drawing(svg) {
      const text = (policy?.createHTML?.(svg) ?? svg) as string;
      return document.importNode(
        new DOMParser().parseFromString(text, 'image/svg+xml').documentElement,
        true,
      ) as unknown as SVGElement;
    },
  };
}
