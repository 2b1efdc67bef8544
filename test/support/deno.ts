/** Deno, whose WebGPU is wgpu, as Firefox's is, where it is installed (DENO may name it). */
import { installed } from './installed.ts';

/** The command that runs it, if there is one. */
export const deno: string | undefined = installed(process.env.DENO, 'deno');
