/** `odelt stats`: mean and covariance of pictures' features, as a file that NumPy, the reference and `odelt eval --reference` read. */
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { createFeatureSums } from '../evaluation/feature-statistics.ts';
import { FEATURE_NAMES, type FeatureName, featuresOf, unitImages } from '../evaluation/features.ts';
import { type LinearAlgebraName, openLinearAlgebra } from '../evaluation/openblas.node.ts';
import { writeStatistics } from '../evaluation/statistics-file.ts';
import { checkOutput, writeAtomically } from '../formats/files.node.ts';
import { shippedData } from '../formats/shipped.node.ts';
import { checkOneOf } from '../sampling/request.ts';
import { openParts } from '../training/data/open.ts';
import { interruptSignal } from './ends.node.ts';
import { checkLinearAlgebra, FEATURES_HELP, LINEAR_ALGEBRA_HELP } from './eval-real.ts';
import { log, ProgressLine, printJson } from './output.node.ts';
import { number } from './session.node.ts';

interface StatsFlags {
  features: FeatureName;
  part?: 'train' | 'test';
  size?: number;
  channels?: number;
  linearAlgebra: LinearAlgebraName;
  out: string;
  json?: boolean;
}

export function addStats(command: Command): void {
  command
    .argument('[data]', 'pictures (default: the bundled ones)', shippedData())
    .option('--features <name>', FEATURES_HELP, 'pca64')
    .option('--part <which>', 'train or test (default: train if it is there)')
    .option(
      '--size <pixels>',
      'of encoded pictures: bring them to this size',
      number('--size', { integer: true, min: 1 }),
    )
    .option(
      '--channels <n>',
      'of encoded pictures: 1 (grey) or 3',
      number('--channels', { integer: true, min: 1, max: 3 }),
    )
    .option('--linear-algebra <who>', LINEAR_ALGEBRA_HELP, 'auto')
    .requiredOption('--out <file>', '.npz to write: mu and sigma in float64, and what the features are')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExamples:\n  odelt stats data/cifar-10 --features pca64 --out cifar.npz\n  odelt eval runs/mine --reference cifar.npz',
    )
    .action((data: string, flags: StatsFlags) => stats(data, flags));
}

async function stats(path: string, flags: StatsFlags): Promise<void> {
  checkOneOf('--features', flags.features, FEATURE_NAMES);
  checkOneOf('--part', flags.part, ['train', 'test']);
  checkLinearAlgebra(flags.linearAlgebra);
  if (flags.channels === 2) throw new ConfigError('--channels is 2; it must be 1 or 3');
  if (!flags.out.endsWith('.npz')) {
    throw new ConfigError(`--out '${flags.out}' is no .npz file`, { hint: 'NumPy knows such files by their ending' });
  }
  await checkOutput('--out', flags.out);
  const signal = interruptSignal('stopping');
  const parts = await openParts(path, { size: flags.size, channels: flags.channels as 1 | 3 | undefined, signal });
  const data = flags.part ? parts[flags.part] : (parts.train ?? parts.test);
  if (!data) throw new ConfigError(`${path} has no ${flags.part} part`, { hint: 'leave --part out' });
  const line = new ProgressLine();
  const algebra = await openLinearAlgebra(flags.linearAlgebra);
  line.update(`features of ${data.count} pictures: ${flags.features}`, true);
  const features = featuresOf(flags.features, data);
  const sums = createFeatureSums(features.width, algebra);
  for (let at = 0; at < data.count; at += 256) {
    signal.throwIfAborted();
    const indices = Uint32Array.from({ length: Math.min(256, data.count - at) }, (_, i) => at + i);
    sums.add(await features.of(unitImages(data, indices)));
    line.update(`features of pictures: ${at + indices.length}/${data.count}`);
  }
  line.end();
  const statistics = sums.statistics();
  await writeAtomically(flags.out, [await writeStatistics(statistics, features, data, data.name)]);
  const { count, width } = statistics;
  if (flags.json)
    printJson({ out: flags.out, data: data.name, count, features: features.name, width, linearAlgebra: algebra.name });
  log(`wrote ${flags.out}: ${features.name}, ${width} wide, of ${count} pictures of ${data.name}`);
}
