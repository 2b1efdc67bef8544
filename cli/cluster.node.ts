/** The processes that a command was started as: joined where mpirun or srun started several, and ended together; what they say of their adapters. */
import { alone, type Communicator } from '../cluster/communicator.ts';
import { launchOf } from '../cluster/launch.node.ts';
import { ONE_EACH } from '../engine/adapter-index.ts';
import type { AdapterReport } from '../engine/adapters.node.ts';
import { InterruptedError } from '../engine/errors.ts';

/**
 * Runs `body` with the processes that this one was started with, or alone. All of them end in order when it has ended on all; where it
 * throws, the others are told why. @throws as joinCluster, and what `body` throws.
 */
export async function asCluster<T>(body: (communicator: Communicator) => Promise<T>): Promise<T> {
  const launch = launchOf();
  if (launch === null || launch.size === 1) return body(alone);
  // Loaded where there are several: nobody else needs MPI.
  const { joinCluster } = await import('../cluster/cluster.node.ts');
  const cluster = await joinCluster(launch);
  try {
    const result = await body(cluster);
    await cluster.leave();
    return result;
  } catch (error) {
    // Interrupts are agreed upon.
    if (!(error instanceof InterruptedError)) {
      await cluster.abort(error instanceof Error ? error.message : String(error));
    }
    throw error;
  }
}

/** What is to be said where a driver has several adapters of the name that was taken: all processes of the machine take the first of them. */
export function sharedText({ listed }: AdapterReport): string[] {
  const count = listed?.names.filter((name) => name === listed.taken).length ?? 0;
  if (count < 2) return [];
  return [
    `this process sees ${count} adapters called '${listed!.taken}', of which it can take the first only, as can the others of this machine`,
    `hint: ${ONE_EACH}`,
  ];
}

/** The adapters of all processes, with their ranks where they are not one. */
export function adaptersText(names: readonly string[]): string {
  const distinct = [...new Set(names)];
  if (distinct.length === 1) return `${names[0]} on each`;
  const ranks = (name: string) => names.flatMap((other, rank) => (other === name ? [rank] : []));
  return distinct.map((name) => `${name} on rank ${ranks(name).join(', ')}`).join('; ');
}
