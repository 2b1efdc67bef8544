/** What starting several processes needs and refuses, without an adapter: launchers, libraries, agreement; sums under mpirun. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { agree } from '../../cluster/agree.ts';
import { alone, fromFirst } from '../../cluster/communicator.ts';
import { checkLaunch, launchOf } from '../../cluster/launch.node.ts';
import { startMpi } from '../../cluster/mpi.node.ts';
import { ConfigError, UnsupportedError } from '../../engine/errors.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { hasMpirun, mpirun } from '../support/mpi.ts';
import { ranksTogether } from '../support/together.ts';

describe('how a process was started', () => {
  it('by itself, by mpirun, by srun with PMIx; by MPICH it is refused', () => {
    expect(launchOf({})).toBe(null);
    expect(launchOf({ SLURM_PROCID: '0', SLURM_NTASKS: '4' })).toBe(null);
    expect(
      launchOf({
        OMPI_COMM_WORLD_SIZE: '4',
        OMPI_COMM_WORLD_RANK: '3',
        OMPI_COMM_WORLD_LOCAL_RANK: '1',
        PMIX_RANK: '3',
      }),
    ).toEqual({ by: 'mpirun', rank: 3, size: 4, localRank: 1 });
    expect(launchOf({ PMIX_RANK: '2', SLURM_PROCID: '2', SLURM_STEP_NUM_TASKS: '8', SLURM_LOCALID: '0' })).toEqual({
      by: 'srun',
      rank: 2,
      size: 8,
      localRank: 0,
    });
    expect(launchOf({ PMIX_RANK: '1' })).toEqual({ by: 'PMIx', rank: 1, size: null, localRank: null });
    expect(() => launchOf({ PMI_SIZE: '4', PMI_RANK: '1' })).toThrow(UnsupportedError);
    expect(() => launchOf({ PMI_SIZE: '4', PMI_RANK: '1' })).toThrow(
      '4 processes were started by the launcher of MPICH',
    );
  });

  it('is compared with what MPI sees', () => {
    const launch = { by: 'srun', rank: 2, size: 4, localRank: null } as const;
    expect(() => checkLaunch(launch, { rank: 2, size: 4 })).not.toThrow();
    expect(() => checkLaunch(launch, { rank: 0, size: 1 })).toThrow(
      'srun started 4 processes, this one with number 2; MPI sees 1, this one with number 0',
    );
  });
});

describe('what is missing is named with the command that installs it', () => {
  const library = (...there: string[]) => ({
    load(path: string) {
      if (there.includes(path)) return { func: () => () => 0, symbol: () => 0n };
      throw new Error(`${path}: cannot open shared object file`);
    },
  });
  it.each([
    [async () => library(), 'there is no Open MPI (libmpi.so.40) on this machine', 'apt-get install openmpi-bin'],
    [
      async () => library('libmpi.so.12'),
      'there is no Open MPI (libmpi.so.40); MPICH is there (libmpi.so.12), which is not known',
      'apt-get install openmpi-bin, and start with its mpirun',
    ],
  ])('%#', async (load, message, hint) => {
    const error = await startMpi(load).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error).toMatchObject({ message, hint });
  });
});

it('processes that were not given the same are told what differs, all of them the same', async () => {
  const facts = [
    { odelt: '1', training: { lr: 1e-3, batch: 8 }, data: { pixels: 'a' } },
    { odelt: '1', training: { lr: 1e-3, batch: 16 }, data: { pixels: 'b' } },
    { odelt: '1', training: { lr: 1e-3, batch: 8 }, data: { pixels: 'a' }, tuning: [1] },
  ];
  const errors = await Promise.all(
    ranksTogether(3).map((rank) => agree(rank, facts[rank.rank]!).catch((error: unknown) => error)),
  );
  for (const error of errors) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toBe(
      'the processes of this run do not agree: training.batch is 16 on rank 1, 8 on rank 0; ' +
        'data.pixels is "b" on rank 1, "a" on rank 0; tuning is [1] on rank 2, none on rank 0',
    );
  }
  const same = await Promise.all(ranksTogether(3).map((rank) => agree(rank, facts[0]!)));
  expect(same).toEqual([undefined, undefined, undefined]);
});

it('what rank 0 makes, all have, and only rank 0 makes it', async () => {
  const made: number[] = [];
  const make = (rank: number) => async () => ({ by: made.push(rank), rank });
  expect(await Promise.all(ranksTogether(3).map((of) => fromFirst(of, make(of.rank))))).toEqual(
    new Array(3).fill({ by: 1, rank: 0 }),
  );
  expect(await fromFirst(alone, make(7))).toEqual({ by: 2, rank: 7 });
  expect(made).toEqual([0, 7]);
});

describe('odelt bench cluster', () => {
  let cli: Cli;
  beforeAll(async () => {
    cli = await buildCli();
  });
  afterAll(() => cli.remove());

  it('by one process is refused', async () => {
    const { code, stderr } = await cli.run('bench', 'cluster');
    expect(stderr).toContain('ConfigError: there is one process, and nothing to sum');
    expect(code).toBe(2);
  });

  it('predicts steps by more, over links that are named or given, and writes what it says', async () => {
    const args = ['bench', 'cluster', '--predict', 'dit-b/2', '--ranks', '64,1', '--rows', '4'];
    const { code, stdout, stderr } = await cli.run(...args, '--link', '10gbe,hdr', '--save', 'out', '--json');
    expect(code, stderr).toBe(0);
    const document = JSON.parse(stdout);
    const weak = document.links.map((each: { weak: { ranks: number; rows: number }[] }) => each.weak);
    expect(weak).toHaveLength(2);
    for (const steps of weak)
      expect(steps).toMatchObject([
        { ranks: 1, efficiency: 1 },
        { ranks: 64, rows: 4 },
      ]);
    expect(weak[1][1].efficiency).toBeGreaterThan(weak[0][1].efficiency);
    const folder = join(cli.folder, 'out');
    expect(readdirSync(folder).sort()).toEqual(
      ['-strong.svg', '-weak.svg', '.json', '.md'].map((end) => `ranks-dit-b2${end}`),
    );
    expect(JSON.parse(readFileSync(join(folder, 'ranks-dit-b2.json'), 'utf8'))).toEqual(document);
    const refused = async (message: string, ...more: string[]) => {
      const ended = await cli.run(...more);
      expect([ended.code, ended.stderr]).toEqual([2, expect.stringContaining(message)]);
    };
    await refused('--latency and --bandwidth make a link together', ...args, '--latency', '50');
    await refused('exclude each other', ...args, '--latency', '50', '--bandwidth', '1', '--link', 'hdr');
    await refused('--link is for --predict', 'bench', 'cluster', '--link', 'hdr');
  });

  it.skipIf(!hasMpirun())('(skipped without mpirun: apt-get install openmpi-bin) times sums by size', async () => {
    const command = [process.execPath, cli.path, 'bench', 'cluster', '--rounds', '3', '--json'];
    const { code, output } = await mpirun([{ ranks: 2, command }]);
    expect(code, output).toBe(0);
    const { ranks, times } = JSON.parse(output.slice(output.indexOf('{')));
    expect(ranks).toBe(2);
    expect(times.map(({ bytes }: { bytes: number }) => bytes)).toContain(4 ** 5 * 1024);
    for (const { seconds, bytes, bytesPerSecond } of times) expect(bytes / bytesPerSecond).toBeCloseTo(seconds, 12);
  });
});
