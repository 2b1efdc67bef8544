/** How this process was started: by itself, or as one of several by mpirun or srun, as the environment says. */
import { ConfigError, UnsupportedError } from '../engine/errors.ts';
import type { Environment } from '../engine/folders.node.ts';

/** One of several processes that were started together. */
export interface Launch {
  readonly by: 'mpirun' | 'srun' | 'PMIx';
  /** As the launcher counts them; MPI is asked again. */
  readonly rank: number;
  /** Null where the environment does not say. */
  readonly size: number | null;
  /** Number among the processes of the same machine; null where the environment does not say. */
  readonly localRank: number | null;
}

/** What a launcher sets is a whole number; anything else is as if it were not there. */
function count(env: Environment, ...names: string[]): number | null {
  const text = names.map((name) => env[name]).find((value) => value !== undefined && value !== '');
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

/**
 * How the process was started, from Open MPI's variables, or PMIx's where srun has set them. Null: by itself.
 * @throws UnsupportedError where another MPI's launcher has started it.
 */
export function launchOf(env: Environment = process.env): Launch | null {
  const openMpi = count(env, 'OMPI_COMM_WORLD_SIZE');
  const bySlurm = env.SLURM_PROCID !== undefined;
  if (openMpi !== null) {
    const rank = count(env, 'OMPI_COMM_WORLD_RANK') ?? 0;
    return { by: 'mpirun', rank, size: openMpi, localRank: count(env, 'OMPI_COMM_WORLD_LOCAL_RANK') };
  }
  const pmix = count(env, 'PMIX_RANK');
  if (pmix !== null) {
    const size = bySlurm ? count(env, 'SLURM_STEP_NUM_TASKS', 'SLURM_NTASKS') : null;
    const localRank = count(env, 'SLURM_LOCALID', 'PMIX_LOCAL_RANK');
    return { by: bySlurm ? 'srun' : 'PMIx', rank: pmix, size, localRank };
  }
  const hydra = count(env, 'PMI_SIZE');
  if (hydra !== null && hydra > 1) {
    throw new UnsupportedError(
      `${hydra} processes were started by the launcher of MPICH or of one like it (PMI_SIZE)`,
      {
        hint: "only Open MPI is known: start with its mpirun (apt-get install openmpi-bin; mpirun.openmpi beside MPICH's), or srun --mpi=pmix",
      },
    );
  }
  return null;
}

/** @throws ConfigError where MPI sees other processes than the launcher started. */
export function checkLaunch({ by, size, rank }: Launch, seen: { readonly rank: number; readonly size: number }): void {
  if (size === null || (size === seen.size && rank === seen.rank)) return;
  throw new ConfigError(
    `${by} started ${size} processes, this one with number ${rank}; MPI sees ${seen.size}, this one with number ${seen.rank}`,
    {
      hint:
        by === 'srun'
          ? 'start with srun --mpi=pmix, and with an Open MPI that has PMIx; or with mpirun inside of the allocation'
          : 'use the mpirun and the libmpi of one installation of Open MPI (apt-get install openmpi-bin)',
    },
  );
}
