/** `odelt stats`: mean and covariance of pictures' features, as a file that NumPy, the reference and `odelt eval --reference` read. */
import { Argument, type Command } from 'commander';
import { ConfigError, InterruptedError } from '../engine/errors.ts';
import { nextTurn } from '../engine/turns.ts';
import { type FeatureChoice, parseFeatures } from '../evaluation/feature-choice.ts';
import { createFeatureSums } from '../evaluation/feature-statistics.ts';
import { unitImages } from '../evaluation/features.ts';
import { featureSource } from '../evaluation/open-features.node.ts';
import { type LinearAlgebraName, openLinearAlgebra } from '../evaluation/openblas.node.ts';
import { featuresDigest, writeStatistics } from '../evaluation/statistics-file.ts';
import { checkOutput, writeAtomically } from '../formats/files.node.ts';
import { shippedData } from '../formats/shipped.node.ts';
import { checkOneOf } from '../sampling/request.ts';
import { openParts } from '../training/data/open.ts';
import { interruptSignal } from './ends.node.ts';
import { checkLinearAlgebra, FEATURES_HELP, LINEAR_ALGEBRA_HELP } from './eval-real.ts';
import { log, ProgressLine, printJson } from './output.node.ts';
import { INDEX_HELP, number, openSession, parseIndex } from './session.node.ts';

interface StatsFlags {
  features?: FeatureChoice;
  part?: 'train' | 'test';
  size?: number;
  channels?: number;
  linearAlgebra: LinearAlgebraName;
  adapter?: string;
  adapterIndex?: number;
  out: string;
  json?: boolean;
}

/** Pictures between two looks at Ctrl-C: large networks take a tenth of a second for each. */
const CHUNK = 64;

export function addStats(command: Command): void {
  command
    .addArgument(new Argument('[data]', 'pictures').default(shippedData(), 'the bundled ones'))
    .option('--features <name>', `${FEATURES_HELP} (default: pca64)`, (text: string) => parseFeatures(text))
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
    .option('--adapter <name>', 'of classifiers: auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
The file has mu and sigma, of all pictures of the part, as NumPy reads them, and says what the features are: of a
network its SHA-256, so that odelt eval refuses any other. It holds neither the pictures nor the network.

Examples:
  odelt stats data/cifar-10 --out cifar.npz
  odelt eval runs/mine --reference cifar.npz
  odelt stats data/cifar-10 --features fid:inception.onnx --out cifar-fid.npz
  odelt eval runs/mine --reference cifar-fid.npz --features fid:inception.onnx --count 10000`,
    )
    .action((data: string, flags: StatsFlags) => stats(data, flags));
}

async function stats(path: string, flags: StatsFlags): Promise<void> {
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
  line.update(`features of ${data.count} pictures`, true);
  const source = await featureSource(flags.features ?? { kind: 'plain', name: 'pca64' }, data);
  const newEngine = async () => (await openSession(flags.adapter, flags)).engine;
  const onFitted = (done: number, of: number) => line.update(`components of pictures: ${done}/${of}`);
  const { features, close } = await source.open(newEngine, { signal, onFitted }).finally(() => line.end());
  try {
    const { name, width } = features;
    const sums = createFeatureSums(width, algebra);
    for (let at = 0; at < data.count; at += CHUNK) {
      await nextTurn();
      if (signal.aborted) {
        throw new InterruptedError(
          `stopped after the features of ${at} of ${data.count} pictures; nothing was written`,
        );
      }
      const indices = Uint32Array.from({ length: Math.min(CHUNK, data.count - at) }, (_, i) => at + i);
      sums.add(await features.of(unitImages(data, indices)));
      line.update(`${name} of pictures: ${at + indices.length}/${data.count}`);
    }
    const statistics = sums.statistics();
    await writeAtomically(flags.out, [await writeStatistics(statistics, features, data, data.name)]);
    line.end();
    const { count } = statistics;
    const digest = await featuresDigest(features, data);
    if (flags.json)
      printJson({ out: flags.out, data: data.name, count, features: name, width, digest, linearAlgebra: algebra.name });
    log(`wrote ${flags.out}: ${name}, ${width} wide, of ${count} pictures of ${data.name}`);
  } finally {
    line.end();
    await close();
  }
}
