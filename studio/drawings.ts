/** Drawings of the library as elements, made of their texts under a policy of trusted types that lets nothing else pass. */

/** The part of the Trusted Types API that is used here. */
interface TrustedTypes {
  createPolicy(name: string, rules: { createHTML(text: string): string }): { createHTML(text: string): object };
}

/**
 * To be called once, as a policy's name can be taken once; what it gives makes the element that an SVG's text describes, where the
 * library made the text: what is foreign in it is escaped there.
 */
export function drawingMaker(): (svg: string) => SVGElement {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  const policy = trustedTypes?.createPolicy('odelt-drawings', { createHTML: (svg) => svg });
  return (svg) => {
    const text = (policy?.createHTML(svg) ?? svg) as string;
    const { documentElement } = new DOMParser().parseFromString(text, 'image/svg+xml');
    return document.importNode(documentElement, true) as unknown as SVGElement;
  };
}
