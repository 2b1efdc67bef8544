/** Several processes under Open MPI's mpirun, where it is installed. */
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** Whether there is an Open MPI's mpirun here. */
export const hasMpirun = (): boolean =>
  spawnSync('mpirun', ['--version'], { encoding: 'utf8' }).stdout?.includes('Open MPI') ?? false;

export interface Together {
  readonly code: number | null;
  /** What all processes and mpirun said, on either stream. */
  readonly output: string;
  /** Milliseconds between the end of `during` and that of all processes. */
  readonly after: number;
}

/** More than there are processors, by root, and none bound to a processor, as drivers on the CPU use them all. */
const FLAGS = ['--oversubscribe', '--bind-to', 'none'];
const ENV = { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1', NO_COLOR: '1' };

/** Programs of their own for each rank are given one after the other. */
export async function mpirun(
  programs: readonly { readonly ranks: number; readonly command: readonly string[] }[],
  options: { readonly flags?: readonly string[]; readonly during?: (launcher: number) => Promise<void> } = {},
): Promise<Together> {
  const parts = programs.map(({ ranks, command }) => ['-n', String(ranks), ...command]);
  const args = parts.flatMap((part, i) => (i === 0 ? part : [':', ...part]));
  const child = spawn('mpirun', [...FLAGS, ...(options.flags ?? []), ...args], {
    env: { ...process.env, ...ENV },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (output += text.toString()));
  const done = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', (code) => resolve(code));
  });
  await Promise.race([options.during?.(child.pid!), done]);
  const began = performance.now();
  const code = await done;
  return { code, output, after: performance.now() - began };
}

/** The command's process of a rank, found by what mpirun put into its environment. */
export function rankProcess(launcher: number, rank: number): number {
  const of = (pid: string, file: string) => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, 'utf8');
    } catch {
      return '';
    }
  };
  const found = readdirSync('/proc').find(
    (pid) =>
      /^\d+$/.test(pid) &&
      of(pid, 'stat').split(') ')[1]?.split(' ')[1] === String(launcher) &&
      of(pid, 'environ').split('\0').includes(`OMPI_COMM_WORLD_RANK=${rank}`),
  );
  if (found === undefined) throw new Error(`there is no rank ${rank} below ${launcher}`);
  return Number(found);
}
