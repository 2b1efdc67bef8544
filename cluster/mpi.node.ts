/**
 * Open MPI as Node calls it, through koffi: the library, its handles, and operations that begin at once and are asked for their end. Only
 * what does not block is called after the start, so that the event loop, and with it the GPU, goes on.
 */
import { ClusterError, UnsupportedError } from '../engine/errors.ts';

/** Whether what was begun has ended. @throws ClusterError where MPI says that it failed. */
export type Progress = () => boolean;

/** MPI, initialised. Arrays must stay where they are until the operation has ended. */
export interface Mpi {
  readonly rank: number;
  readonly size: number;
  /** Version of the library, as it says. */
  readonly version: string;
  allReduce(values: Float32Array): Progress;
  /** Each rank's part lies at its place in `values`, parts one after the other. */
  allGather(values: Float32Array | Uint8Array | Int32Array, counts: Int32Array): Progress;
  /** The parts of all ranks, into `whole` on rank 0; the others have none. */
  gather(part: Float32Array, whole: Float32Array | null, counts: Int32Array): Progress;
  broadcast(bytes: Uint8Array): Progress;
  barrier(): Progress;
  /** Ends MPI; waits for the other ranks to do so. */
  finalize(): void;
}

/** What is used of koffi. */
interface Koffi {
  load(path: string, options?: { global?: boolean }): Library;
}
interface Library {
  func(prototype: string): (...args: unknown[]) => unknown;
  symbol(name: string): unknown;
}

const INSTALL_KOFFI = 'npm install koffi@3.3.4';
const INSTALL_MPI = 'apt-get install openmpi-bin';

/** Open MPI 4's and 5's library by its name, and names of MPICH's, which has another binary interface. */
const OPEN_MPI = 'libmpi.so.40';
const MPICH = ['libmpi.so.12', 'libmpich.so.12'] as const;

async function loadKoffi(): Promise<Koffi> {
  try {
    return (await import('koffi')).default as unknown as Koffi;
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND';
    throw new UnsupportedError(
      `several processes need the package koffi, which ${missing ? 'is not installed' : 'cannot be loaded'}`,
      { cause, hint: INSTALL_KOFFI },
    );
  }
}

/** Loads Open MPI where the system looks for libraries. @throws UnsupportedError naming what there is instead. */
function loadLibrary(koffi: Koffi): Library {
  try {
    // Its plug-ins look for its symbols among all of the process.
    return koffi.load(OPEN_MPI, { global: true });
  } catch (cause) {
    for (const name of MPICH) {
      try {
        koffi.load(name);
      } catch {
        continue;
      }
      throw new UnsupportedError(`there is no Open MPI (${OPEN_MPI}); MPICH is there (${name}), which is not known`, {
        hint: `${INSTALL_MPI}, and start with its mpirun`,
      });
    }
    throw new UnsupportedError(`there is no Open MPI (${OPEN_MPI}) on this machine`, { cause, hint: INSTALL_MPI });
  }
}

/** As mpi.h of Open MPI has them. */
const IN_PLACE = 1n;
const STATUS_IGNORE = 0n;
const MAX_VERSION = 256;
/** MPI is called from one thread only. */
const THREAD_FUNNELED = 1;

/**
 * Starts MPI in this process; to be called once. @throws UnsupportedError without koffi or Open MPI; ClusterError where MPI does not
 * start.
 */
export async function startMpi(load: () => Promise<Koffi> = loadKoffi): Promise<Mpi> {
  const library = loadLibrary(await load());
  const call = (prototype: string) => {
    const name = /(MPI_\w+)\(/.exec(prototype)![1]!;
    const inner = library.func(prototype);
    return (...args: unknown[]): void => {
      const code = inner(...args);
      if (code !== 0) throw new ClusterError(`${name} failed: MPI's error ${code}`, { hint: HINT });
    };
  };
  const [world, float, byte, int, sum, returning] = [
    'ompi_mpi_comm_world',
    'ompi_mpi_float',
    'ompi_mpi_byte',
    'ompi_mpi_int',
    'ompi_mpi_op_sum',
    'ompi_mpi_errors_return',
  ].map((name) => library.symbol(name));
  const types = { f32: float, byte, i32: int };

  call('int MPI_Init_thread(void*, void*, int, _Out_ int*)')(null, null, THREAD_FUNNELED, [0]);
  // Errors come back as codes instead of ending all processes.
  call('int MPI_Comm_set_errhandler(void*, void*)')(world, returning);
  const number = (prototype: string): number => {
    const out = [0];
    call(prototype)(world, out);
    return out[0]!;
  };
  const rank = number('int MPI_Comm_rank(void*, _Out_ int*)');
  const size = number('int MPI_Comm_size(void*, _Out_ int*)');
  const text = new Uint8Array(MAX_VERSION * 16);
  const length = [0];
  call('int MPI_Get_library_version(void*, _Out_ int*)')(text, length);

  const test = call('int MPI_Test(void*, void*, intptr_t)');
  const reduce = call('int MPI_Iallreduce(intptr_t, void*, int, void*, void*, void*, void*)');
  const gatherAll = call('int MPI_Iallgatherv(intptr_t, int, void*, void*, void*, void*, void*, void*, void*)');
  const gather = call('int MPI_Igatherv(void*, int, void*, void*, void*, void*, void*, int, void*, void*)');
  const cast = call('int MPI_Ibcast(void*, int, void*, int, void*, void*)');
  const meet = call('int MPI_Ibarrier(void*, void*)');
  const finalize = call('int MPI_Finalize()');

  /** `keep`: what MPI goes on using. */
  const begun = (begin: (request: BigUint64Array) => void, keep: readonly unknown[]): Progress => {
    const request = new BigUint64Array(1);
    const flag = new Int32Array(1);
    begin(request);
    let held: readonly unknown[] | null = keep;
    return () => {
      if (held === null) return true;
      test(request, flag, STATUS_IGNORE);
      if (flag[0] !== 0) held = null;
      return held === null;
    };
  };
  return {
    rank,
    size,
    version: new TextDecoder().decode(text.subarray(0, length[0])).split(',')[0]!.trim(),
    allReduce: (values) => begun((r) => reduce(IN_PLACE, values, values.length, float, sum, world, r), [values]),
    allGather(values, counts) {
      const type = values instanceof Float32Array ? types.f32 : values instanceof Int32Array ? types.i32 : types.byte;
      const places = placesOf(counts);
      const keep = [values, counts, places];
      return begun((r) => gatherAll(IN_PLACE, 0, type, values, counts, places, type, world, r), keep);
    },
    gather(part, whole, counts) {
      const places = placesOf(counts);
      const keep = [part, whole, counts, places];
      return begun((r) => gather(part, part.length, float, whole, counts, places, float, 0, world, r), keep);
    },
    broadcast: (bytes) => begun((r) => cast(bytes, bytes.length, byte, 0, world, r), [bytes]),
    barrier: () => begun((r) => meet(world, r), []),
    finalize,
  };
}

/** Where each rank's part begins. */
function placesOf(counts: Int32Array): Int32Array {
  let at = 0;
  return counts.map((n) => {
    at += n;
    return at - n;
  });
}

const HINT = 'see what mpirun printed above; go on from the last checkpoint with --resume';
