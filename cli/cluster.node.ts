/** The processes that a command was started as: joined where mpirun or srun started several, and ended together. */
import { alone, type Communicator } from '../cluster/communicator.ts';
import { launchOf } from '../cluster/launch.node.ts';
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
