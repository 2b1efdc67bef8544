/** Deno, whose WebGPU is wgpu, as Firefox's is, where it is installed (DENO may name it). */
import { execFileSync } from 'node:child_process';

/** The command that runs it, if there is one. */
export const deno: string | undefined = [process.env.DENO, 'deno'].find((name) => {
  try {
    return name !== undefined && execFileSync(name, ['--version'], { encoding: 'utf8', stdio: 'pipe' }).length > 0;
  } catch {
    return false;
  }
});
