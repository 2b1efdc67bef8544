/** WGSL sources are imported as text (esbuild's text loader; the same in vitest.config.ts). */
declare module '*.wgsl' {
  const source: string;
  export default source;
}

/** The part of wgsl_reflect that engine/wgsl.ts uses; its ES module ships without types beside it. */
declare module 'wgsl_reflect/wgsl_reflect.module.js' {
  interface ReflectedType {
    name: string;
    size: number;
    format?: { name: string } | null;
    members?: { name: string; offset: number; type: { name: string } }[];
  }
  interface ReflectedResource {
    name: string;
    group: number;
    binding: number;
    access: string;
    type: ReflectedType;
  }
  export class WgslReflect {
    constructor(code: string);
    entry: { compute: { name: string; resources: ReflectedResource[] }[] };
  }
}
