/**
 * The WebGPU interfaces that odelt's declarations name. They merge with those of TypeScript's DOM library (from 6.0) or of
 * @webgpu/types, whichever a project has, and stand for them, empty, where it has neither (Node without the DOM).
 */
interface GPU {}
interface GPUAdapter {}
interface GPUAdapterInfo {}
interface GPUBindGroup {}
interface GPUBindGroupLayout {}
interface GPUBuffer {}
interface GPUCommandEncoder {}
interface GPUComputePassDescriptor {}
interface GPUComputePipeline {}
interface GPUDevice {}
interface GPUError {}
interface GPUTexture {}
