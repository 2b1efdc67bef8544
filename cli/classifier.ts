/** `odelt classifier`: trains a classifier whose features pictures can be compared by. */
import type { Command } from 'commander';
import { InterruptedError } from '../engine/errors.ts';
import { checkOutput } from '../formats/files.node.ts';
import { writeSafetensors } from '../formats/safetensors.node.ts';
import {
  CLASSIFIER_DEFAULTS,
  type ClassifierConfig,
  classifierLayout,
  parseClassifierConfig,
} from '../model/classifier.ts';
import { Classifier } from '../model/classify.ts';
import { classifierContents } from '../model/weights/classifier-file.ts';
import {
  CLASSIFIER_OPTIONS,
  type ClassifierTraining,
  createClassifierTrainer,
  measureAccuracy,
  measureScale,
  parseClassifierTraining,
} from '../training/classifier.ts';
import { openTrainingParts } from '../training/data/open.ts';
import { interruptSignal } from './ends.node.ts';
import { addFlags, givenFlags } from './option-flags.ts';
import { duration, log, ProgressLine, printJson } from './output.node.ts';
import { number, openSession } from './session.node.ts';
import { channels } from './train-flags.ts';

interface ClassifierFlags extends Partial<ClassifierTraining> {
  out: string;
  width: number;
  heads: number;
  depth: number;
  features: number;
  patch?: number;
  imageSize?: number;
  channels?: 1 | 3;
  saveEvery: number;
  adapter?: string;
  json?: boolean;
}

/** Updates whose losses are told as one. */
const MEAN = 50;

export function addClassifier(command: Command): void {
  const whole = (flag: string) => number(flag, { integer: true, min: 1 });
  const sizes = CLASSIFIER_DEFAULTS;
  command
    .argument('<data>', 'whatever `odelt train` reads; accuracy is that on the test part, where there is one')
    .requiredOption('--out <file>', 'the .safetensors file to write')
    .option('--width <n>', 'features of a token', whole('--width'), sizes.width)
    .option('--heads <n>', 'heads of attention', whole('--heads'), sizes.heads)
    .option('--depth <n>', 'blocks', whole('--depth'), sizes.depth)
    .option('--features <n>', 'numbers that a picture becomes', whole('--features'), sizes.features)
    .option('--patch <n>', 'side of a token in pixels (default: what leaves 7 x 7 tokens or more)', whole('--patch'))
    .option(
      '--image-size <n>',
      'side that encoded pictures are cropped and scaled to (default 28)',
      whole('--image-size'),
    )
    .option('--channels <n>', 'of encoded pictures, 1 (grey) or 3 (colour)', channels);
  addFlags(command, CLASSIFIER_OPTIONS);
  command
    .option('--save-every <n>', 'updates after which the file is written anew', whole('--save-every'), 500)
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--json', 'print one JSON document at the end instead of text')
    .addHelpText(
      'after',
      `
Examples:
  odelt classifier fashion-mnist --flip --out fashion-classifier.safetensors
  odelt eval runs/mine --data fashion-mnist --features classifier:fashion-classifier.safetensors

Ctrl-C finishes the update, writes the file as far as it is and exits with 130.`,
    )
    .action((data: string, flags: ClassifierFlags) => train(data, flags));
}

async function train(path: string, flags: ClassifierFlags): Promise<void> {
  const { out, width, heads, depth, features, patch } = flags;
  const training = parseClassifierTraining(givenFlags(CLASSIFIER_OPTIONS, flags));
  await checkOutput('--out', out);
  const signal = interruptSignal('stopping after this update');
  const size = flags.imageSize ?? 28;
  const parts = await openTrainingParts(path, { size, channels: flags.channels, signal });
  const data = (parts.train ?? parts.test)!;
  const tested = parts.train && parts.test; // one part alone is what it learns from
  const { height: imageSize, channels, classes, classNames } = data;
  const cut = patch === undefined ? {} : { patch };
  const config = parseClassifierConfig({ imageSize, channels, classes, width, heads, depth, features, ...cut });
  const { engine, adapter } = await openSession(flags.adapter);
  const line = new ProgressLine();
  const started = performance.now();
  try {
    line.update('compiling', true);
    const trainer = await createClassifierTrainer(engine, { config, data, training, signal });
    line.end();
    log(`${data.name}: ${data.count} pictures of ${imageSize}x${imageSize}x${channels}, ${classes} classes`);
    log(`classifier: ${classifierLayout(config).count.toLocaleString('en')} parameters; ${adapter.adapter.name}`);
    let done = 0;
    const save = async (to: ClassifierConfig, measured: Readonly<Record<string, string>> = {}) => {
      const extra = {
        'odelt.command': ['odelt', ...process.argv.slice(2)].join(' '),
        'odelt.training': JSON.stringify({ ...training, data: data.name }),
        'odelt.step': String(done),
        ...measured,
      };
      const params = await trainer.snapshot();
      const contents = classifierContents(to, params, { classNames, extra });
      await writeSafetensors(out, contents.tensors, contents.metadata);
      return params;
    };
    const losses: number[] = [];
    try {
      const learning = performance.now();
      for await (const { step, loss } of trainer.run()) {
        done = step;
        losses.push(loss);
        const recent = losses.slice(-MEAN);
        const mean = recent.reduce((a, b) => a + b) / recent.length;
        const each = (performance.now() - learning) / 1000 / step;
        line.update(
          `update ${step}/${training.steps}  loss ${mean.toFixed(4)}  ${(training.batch / each).toFixed(0)} pictures/s  ` +
            `${duration((training.steps - step) * each)} left`,
          step === training.steps,
        );
        if (step % flags.saveEvery === 0) await save(config);
      }
    } catch (error) {
      line.end();
      if (!(error instanceof InterruptedError) || done === 0) throw error;
      await save(config);
      log(`wrote ${out} as it is after ${done} updates`);
      throw error;
    }
    line.end();
    const classifier = await Classifier.create(engine, config, await save(config), { signal });
    const scale = await measureScale(classifier, data, { signal });
    const accuracy = tested && (await measureAccuracy(classifier, tested, { signal }));
    const measured = accuracy && { 'odelt.accuracy': JSON.stringify({ ...accuracy, data: tested.name }) };
    await save({ ...config, scale }, measured);
    classifier.dispose();
    trainer.dispose();
    const seconds = (performance.now() - started) / 1000;
    const right =
      accuracy &&
      `${((100 * accuracy.hits) / accuracy.of).toFixed(2)} % of ${accuracy.of} pictures of ${tested.name} right`;
    if (flags.json) printJson({ out, config: { ...config, scale }, training, accuracy: accuracy ?? null, seconds });
    else log(`wrote ${out}: ${right ?? 'no test part to try it on'}`);
  } finally {
    line.end();
    engine.dispose();
  }
}
