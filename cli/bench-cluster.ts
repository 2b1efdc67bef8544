/** `odelt bench cluster`: what sums over the processes that mpirun started take, by size; and what steps by more of them would. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { formatReduce, measureReduce, type ReduceTimes } from '../bench/cluster.bench.ts';
import { describeMachine } from '../bench/machine.node.ts';
import { partsOf, readSaved } from '../bench/step-parts.ts';
import {
  describeLink,
  formatPrediction,
  LINKS,
  type NamedLink,
  namedLink,
  plotPrediction,
  predictAll,
} from '../bench/step-report.ts';
import { ALGORITHMS, type Algorithm, fitLink } from '../bench/step-time.ts';
import type { Communicator } from '../cluster/communicator.ts';
import { ConfigError } from '../engine/errors.ts';
import { checkOutput, failAs, readRegular, writeText } from '../formats/files.node.ts';
import { shippedBench } from '../formats/shipped.node.ts';
import { preset } from '../model/config.ts';
import { checkOneOf } from '../sampling/request.ts';
import { asCluster } from './cluster.node.ts';
import { interruptSignal } from './ends.node.ts';
import { log, print, printJson } from './output.node.ts';
import { number, numbers } from './session.node.ts';

interface ClusterFlags {
  rounds: number;
  predict?: string;
  step?: string;
  link?: string;
  latency?: number;
  bandwidth?: number;
  transfer: number;
  sums?: string;
  algorithm: Algorithm;
  rows: number;
  batch: number;
  ranks?: number[];
  save?: string;
  json?: boolean;
}

/** What --save keeps of sums. */
interface SavedSums {
  readonly ranks: number;
  readonly times: readonly ReduceTimes[];
}

export function addBenchCluster(bench: Command): void {
  const positive = (name: string) => number(name, { min: Number.MIN_VALUE });
  const whole = (name: string) => number(name, { integer: true, min: 1, max: 2 ** 20 });
  bench
    .command('cluster')
    .description(
      'time sums over the processes that mpirun or srun started, by size; or predict what training steps take by 1 to 1,024 of them; needs no adapter',
    )
    .option('--rounds <n>', 'sums of each size', number('--rounds', { integer: true, min: 3 }), 9)
    .option('--predict <preset>', 'predict steps of this model, such as dit-b/2, over links of several kinds')
    .option(
      '--step <file>',
      "of --predict: what one rank takes, a file that odelt bench model --save wrote (default: the package's of DiT-B/2 on an H200)",
    )
    .option(
      '--link <names>',
      `of --predict: ${Object.entries(LINKS)
        .map(([key, link]) => `${key} (${describeLink(link)})`)
        .join(', ')} (default: all; under mpirun what is measured)`,
    )
    .option('--latency <us>', 'of --predict: another link, with --bandwidth', number('--latency', { min: 0 }))
    .option('--bandwidth <GB/s>', 'of --predict: another link, with --latency', positive('--bandwidth'))
    .option('--sums <file>', 'of --predict: the link that explains the sums in a file of --save')
    .option('--transfer <GB/s>', 'of --predict: from the GPU to the host, and back', positive('--transfer'), 10)
    .option(
      '--algorithm <name>',
      `of --predict: how sums are computed, ${ALGORITHMS.join(', ')}; binomial is what Open MPI takes by itself`,
      'binomial',
    )
    .option('--rows <n>', 'of --predict: rows of each rank, where the batch grows with ranks', whole('--rows'), 32)
    .option('--batch <n>', 'of --predict: rows of all ranks, where it does not', whole('--batch'), 1024)
    .option(
      '--ranks <ns>',
      'of --predict: numbers of ranks (default: 1, 2, 4, ..., 1024)',
      numbers('--ranks', { integer: true, min: 1, max: 2 ** 20 }),
    )
    .option('--save <folder>', 'also write what is measured or predicted there, as JSON, Markdown and plots (.svg)')
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText(
      'after',
      '\nExamples:\n  mpirun -n 4 --bind-to none odelt bench cluster --save out/sums\n  odelt bench cluster --predict dit-xl/2 --rows 64\n  odelt bench cluster --predict dit-b/2 --sums out/sums/sums-4.json --algorithm ring',
    )
    .action(async (flags: ClusterFlags) => {
      checkOneOf('--algorithm', flags.algorithm, ALGORITHMS);
      checkLinkFlags(flags);
      if (flags.save !== undefined) await checkOutput('--save', flags.save, { folder: true });
      const signal = interruptSignal('stopping after this size');
      await asCluster(async (processes) => {
        if (processes.size === 1 && flags.predict === undefined) {
          throw new ConfigError('there is one process, and nothing to sum', {
            hint: 'start several: mpirun -n 4 odelt bench cluster; or predict: odelt bench cluster --predict dit-b/2',
          });
        }
        const sums = processes.size > 1 ? await measured(processes, flags, signal) : undefined;
        if (processes.rank > 0) return;
        if (flags.predict === undefined) {
          if (flags.json) printJson(sums);
          else print(formatReduce(sums!.times, sums!.ranks));
        } else await predictSteps(flags.predict, flags, sums);
      });
    });
}

/** @throws ConfigError for flags that contradict each other, or are for --predict alone */
function checkLinkFlags({ predict, step, link, latency, bandwidth, sums, ranks }: ClusterFlags): void {
  const given = { '--step': step, '--link': link, '--latency': latency, '--sums': sums, '--ranks': ranks };
  const stray = Object.entries(given).find(([, value]) => value !== undefined)?.[0];
  if (predict === undefined && stray) throw new ConfigError(`${stray} is for --predict`);
  if ((latency === undefined) !== (bandwidth === undefined))
    throw new ConfigError('--latency and --bandwidth make a link together; one is missing');
  if ([link, latency, sums].filter((value) => value !== undefined).length > 1)
    throw new ConfigError('--link, --sums and --latency with --bandwidth exclude each other: each names links');
}

async function measured(processes: Communicator, { rounds, save }: ClusterFlags, signal: AbortSignal) {
  const times = await measureReduce(processes, { rounds, signal });
  const sums: SavedSums = { ranks: processes.size, times };
  if (save !== undefined && processes.rank === 0) {
    const path = join(save, `sums-${processes.size}.json`);
    await writeText(path, `${JSON.stringify({ date: today(), ...describeMachine(), ...sums }, null, 1)}\n`);
    log(`wrote ${path}`);
  }
  return sums;
}

const today = (): string => new Date().toISOString().slice(0, 10);

async function predictSteps(name: string, flags: ClusterFlags, sums: SavedSums | undefined): Promise<void> {
  const { step, transfer, algorithm, rows, batch, save } = flags;
  const config = preset(name);
  const file = step ?? shippedBench('model-dit-b2-h200.json');
  const { parts, from } = partsOf(readSaved(await textOf(file), file), config);
  const links = await linksOf(flags, sums);
  const ranks = flags.ranks ?? Array.from({ length: 11 }, (_, i) => 2 ** i);
  const prediction = predictAll(
    { model: name, from, parts: { ...parts, transfer: transfer * 1e9 }, algorithm, rows, batch },
    links,
    [...ranks].sort((a, b) => a - b),
  );
  const text = formatPrediction(prediction);
  const document = { date: today(), versions: describeMachine().versions, ...prediction };
  if (save !== undefined) {
    const path = join(save, `ranks-${name.replaceAll('/', '')}`);
    await writeText(`${path}.json`, `${JSON.stringify(document, null, 1)}\n`);
    await writeText(`${path}.md`, `# ${name} by several processes, predicted\n\n${text}\n`);
    for (const kind of ['weak', 'strong'] as const)
      await writeText(`${path}-${kind}.svg`, plotPrediction(prediction, kind));
    log(`wrote ${path}.json, .md, -weak.svg and -strong.svg`);
  }
  if (flags.json) printJson(document);
  else print(text);
}

const textOf = async (path: string): Promise<string> =>
  new TextDecoder().decode(await readRegular(path, { most: 2 ** 28, fail: failAs(ConfigError, path) }));

/** The links that flags name, else what was measured just now, else all that have a name. @throws ConfigError */
async function linksOf({ link, latency, bandwidth, sums: file, algorithm }: ClusterFlags, now: SavedSums | undefined) {
  if (link !== undefined) return link.split(',').map(namedLink);
  if (latency !== undefined) return [{ title: 'given', latency: latency * 1e-6, bandwidth: bandwidth! * 1e9 }];
  const sums = file === undefined ? now : readSums(await textOf(file), file);
  if (!sums) return Object.values(LINKS) as readonly NamedLink[];
  return [{ title: `as ${sums.ranks} ranks measured`, ...fitLink(sums.times, sums.ranks, algorithm) }];
}

function readSums(text: string, name: string): SavedSums {
  try {
    const { ranks, times } = JSON.parse(text) as Partial<SavedSums>;
    const whole = Array.isArray(times) && times.every((t: ReduceTimes) => t.bytes > 0 && t.seconds > 0);
    if (Number.isInteger(ranks) && whole) return { ranks: ranks!, times };
  } catch {}
  throw new ConfigError(`${name} holds no sums`, {
    hint: 'mpirun -n 4 odelt bench cluster --save FOLDER writes such files',
  });
}
