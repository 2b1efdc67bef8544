/** The ES module of wgsl_reflect ships without types beside it. */
declare module 'wgsl_reflect/wgsl_reflect.module.js' {
  export { WgslReflect } from 'wgsl_reflect';
}
