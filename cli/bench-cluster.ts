/** `odelt bench cluster`: what sums over the processes that mpirun started take, by size. */
import type { Command } from 'commander';
import { formatReduce, measureReduce } from '../bench/cluster.bench.ts';
import { ConfigError } from '../engine/errors.ts';
import { asCluster } from './cluster.node.ts';
import { interruptSignal } from './ends.node.ts';
import { print, printJson } from './output.node.ts';
import { number } from './session.node.ts';

export function addBenchCluster(bench: Command): void {
  bench
    .command('cluster')
    .description('time sums over the processes that mpirun or srun started, by size; needs no adapter')
    .option('--rounds <n>', 'sums of each size', number('--rounds', { integer: true, min: 3 }), 9)
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText('after', '\nExample:\n  mpirun -n 4 --bind-to none odelt bench cluster')
    .action(async ({ rounds, json }: { rounds: number; json?: boolean }) => {
      const signal = interruptSignal('stopping after this size');
      await asCluster(async (processes) => {
        if (processes.size === 1) {
          throw new ConfigError('there is one process, and nothing to sum', {
            hint: 'start several: mpirun -n 4 odelt bench cluster',
          });
        }
        const times = await measureReduce(processes, { rounds, signal });
        if (processes.rank > 0) return;
        if (json) printJson({ ranks: processes.size, times });
        else print(formatReduce(times, processes.size));
      });
    });
}
