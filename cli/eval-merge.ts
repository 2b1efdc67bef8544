/** `odelt eval merge`: the results of an evaluation from parts that were drawn apart. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { askedAs, type FeatureChoice, parseFeatures } from '../evaluation/feature-choice.ts';
import { REPLICATES } from '../evaluation/measured.ts';
import { type LinearAlgebraName, openLinearAlgebra } from '../evaluation/openblas.node.ts';
import { readResults, resultsFile, writeResults } from '../evaluation/results.node.ts';
import { checkSameSettings, resultRows } from '../evaluation/results.ts';
import { openShard, readShardFeatures, shardFile } from '../evaluation/shards.node.ts';
import { checkShards, mergeShards, type ShardRecord } from '../evaluation/shards.ts';
import { describeWork } from '../evaluation/waiting.ts';
import { checkOutput } from '../formats/files.node.ts';
import { table } from '../formats/markdown.ts';
import { inLockedFolder } from '../training/lock.node.ts';
import { interruptSignal } from './ends.node.ts';
import {
  checkLinearAlgebra,
  checkRealFlags,
  checkReplicates,
  LINEAR_ALGEBRA_HELP,
  openReal,
  REFERENCE_HELP,
  REPLICATES_HELP,
} from './eval-real.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { number, openSession } from './session.node.ts';

interface MergeFlags {
  data?: string;
  reference?: string;
  features?: FeatureChoice;
  linearAlgebra: LinearAlgebraName;
  replicates: number;
  out: string;
  json?: boolean;
}

export function addMerge(command: Command): void {
  command
    .description('make the results of an evaluation that was drawn with --shard of all its parts')
    .argument('<folders...>', 'folders of all parts, such as out/eval/shard-*')
    .option('--data <path>', 'the real pictures that the parts were drawn with (default: the bundled ones)')
    .option('--features <name>', 'those that the parts were drawn with, where they are of a file', (text: string) =>
      parseFeatures(text),
    )
    .option('--reference <file>', REFERENCE_HELP)
    .option('--linear-algebra <who>', LINEAR_ALGEBRA_HELP, 'auto')
    .option('--replicates <n>', REPLICATES_HELP, number('--replicates', { integer: true, min: 0 }), REPLICATES)
    .option('--out <folder>', 'for results.json, results.csv and plots (.svg)', join('out', 'eval'))
    .option('--json', 'print one JSON document instead of a table')
    .addHelpText(
      'after',
      '\nThe figures are those of the whole evaluation: they are computed of the features of all samples.\n\nExample:\n  odelt eval merge out/eval/shard-*',
    )
    .action((folders: string[], flags: MergeFlags) => merge(folders, flags));
}

/** The features that parts were drawn with. @throws ConfigError for those of a network in a file of its own */
function recordedFeatures({ provenance }: ShardRecord, name: string): FeatureChoice {
  const asked = askedAs(provenance.features);
  if (!asked.endsWith(':FILE')) return parseFeatures(asked);
  throw new ConfigError(`${name} was drawn with the features ${provenance.features.name}, of a network in a file`, {
    hint: `give that file: --features ${asked}`,
  });
}

async function merge(folders: string[], flags: MergeFlags): Promise<void> {
  checkRealFlags(flags);
  checkLinearAlgebra(flags.linearAlgebra);
  checkReplicates(flags.replicates);
  await checkOutput('--out', flags.out, { folder: true });
  const signal = interruptSignal('stopping');
  const parts = checkShards(await Promise.all(folders.map(openShard)));
  await inLockedFolder(flags.out, () => mergeInto(parts, flags, signal));
}

/** Makes the results of parts in --out, which is locked. */
async function mergeInto(parts: ReturnType<typeof checkShards>, flags: MergeFlags, signal: AbortSignal): Promise<void> {
  const [{ name, record }] = parts as [(typeof parts)[number]];
  const { provenance } = record;
  const { seed, samples: count } = provenance;
  const own = { ...flags, features: flags.features ?? recordedFeatures(record, name) };
  const newEngine = async () => (await openSession(undefined)).engine;
  const opened = await openReal(own, record.shape, { seed, count, signal, newEngine });
  const { real, features, record: found } = opened;
  checkSameSettings(provenance, { ...provenance, ...found }, shardFile(name));
  const before = await readResults(flags.out);
  if (before) checkSameSettings(before.provenance, provenance, resultsFile(flags.out));
  const lost = before?.cells.length ?? 0;
  if (before && lost > record.cells.length) {
    throw new ConfigError(`${resultsFile(flags.out)} has ${lost} cells, the parts have ${record.cells.length}`, {
      hint: 'give another folder, so that none is lost',
    });
  }
  const algebra = await openLinearAlgebra(flags.linearAlgebra);
  const line = new ProgressLine();
  const results = await mergeShards(parts, {
    ...{ features, real, algebra, linearAlgebra: algebra.name, signal },
    replicates: flags.replicates,
    read: readShardFeatures,
    onCell: (done, cells, work) => line.update(`${done}/${cells} cells${work ? `: ${describeWork(work)}` : ''}`),
  }).finally(() => {
    line.end();
    return opened.close();
  });
  const files = await writeResults(flags.out, results);
  if (flags.json) printJson(results);
  else print(table(resultRows(results)).join('\n'));
  log(`wrote ${files.length} files into ${flags.out}`);
}
