/** `odelt convert`: writes a model, of a run or of another program's checkpoint, as one model file. */
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { weightsDigest } from '../evaluation/evaluate.ts';
import { readResultsFile } from '../evaluation/results.node.ts';
import {
  describeEvaluation,
  evaluationMetadata,
  evaluationOf,
  type StoredEvaluation,
  storedEvaluation,
} from '../evaluation/stored.ts';
import { checkOutput } from '../formats/files.node.ts';
import { openSafetensors, writeSafetensors } from '../formats/safetensors.node.ts';
import { originIn, originMetadata } from '../model/autoencoder/origin.ts';
import { type LengthConfig, type ModelConfig, parseModelConfig, usualSteps } from '../model/config.ts';
import type { ParamSet } from '../model/params.ts';
import { firstBlocks } from '../model/weights/first-blocks.ts';
import { ditTensors } from '../model/weights/imports/dit-export.ts';
import type { ModelHints } from '../model/weights/imports/foreign.ts';
import { importState, importWeights } from '../model/weights/imports/import.ts';
import { checkpointFile, isSafetensors, openCheckpointFile } from '../model/weights/imports/open.node.ts';
import { classNamesOf, describesModel, modelContents } from '../model/weights/model-file.ts';
import { memorySource, readParams } from '../model/weights/source.ts';
import { saveCheckpoint } from '../training/checkpoint.node.ts';
import { openModel, readModel, type WhichWeights } from './models.node.ts';
import { log, printJson } from './output.node.ts';
import { number } from './session.node.ts';

const DTYPES = { f32: 'F32', f16: 'F16' } as const;

interface ConvertFlags {
  weights: string;
  dtype: string;
  names: string;
  out?: string;
  from?: string;
  heads?: number;
  imageSize?: number;
  lengths?: LengthConfig;
  ignoreDt?: boolean;
  unconditional?: boolean;
  finest?: number;
  optimizer?: boolean;
  firstBlocks?: number;
  evaluation?: string;
  json?: boolean;
}

const HELP = `
What the input is, its contents say:
  a run, a checkpoint of one, or a model file of odelt
  a pickle of the Flax reference or of shortcut-models (no code in it is run)
  a .pt of PyTorch's DiT or SiT (torch.save since PyTorch 1.6; no code in it is run)
  .safetensors with the names of either; a model.safetensors.index.json, or its folder

Sizes are read off the tensors. What they do not show must be given: --heads for
all of them; --image-size and --lengths for weights of the Flax reference; --from
for weights with PyTorch's names, which DiT and SiT share.

  odelt convert checkpoint.pkl model.safetensors --heads 12 --image-size 32 --lengths 4,4
  odelt convert SiT-XL-2-256.pt sit.safetensors --from sit --heads 16
  odelt convert sit.safetensors back.safetensors --names torch --dtype f32
  odelt convert checkpoint.pkl run --optimizer --heads 12 --image-size 32 --lengths 4,4
  odelt convert runs/mine --evaluation out/eval/results.json --out mine.safetensors`;

function lengths(text: string): LengthConfig {
  const match = /^(\d+),(\d+)$/.exec(text);
  if (!match) {
    throw new ConfigError(`--lengths is '${text}'; it must be MIN,GROUP`, {
      hint: 'such as 4,4: --depth_min and --depth_group of the training',
    });
  }
  return { min: Number(match[1]), group: Number(match[2]) };
}

export function addConvert(command: Command): void {
  command
    .argument('<model>', 'model file, run folder, or checkpoint of another program')
    .argument('[out]', 'the .safetensors file to write; with --optimizer, the folder')
    .option('--out <file>', 'the same, as a flag')
    .option('--weights <which>', 'where there are both: ema (moving average) or raw', 'ema')
    .option('--dtype <type>', 'f16 or f32', 'f16')
    .option('--names <whose>', "names of the tensors: odelt, or torch for PyTorch's DiT", 'odelt')
    .option('--from <program>', "dit or sit, for weights with PyTorch's names")
    .option('--heads <n>', 'heads of attention', number('--heads', { integer: true, min: 1 }))
    .option(
      '--image-size <n>',
      'side of the pictures or latents in pixels',
      number('--image-size', { integer: true, min: 1 }),
    )
    .option('--lengths <min,group>', 'numbers of blocks the model may run', lengths)
    .option('--ignore-dt', 'the model was trained without step sizes')
    .option(
      '--finest <n>',
      'time steps of the finest grid that the model was trained for; an evaluation in more steps is left out (default: 128)',
      number('--finest', { integer: true, min: 2 }),
    )
    .option('--unconditional', 'the model was trained without labels; an evaluation of it with labels is left out')
    .option(
      '--first-blocks <n>',
      'write the first n blocks alone, as a smaller model; its evaluation is left out',
      number('--first-blocks', { integer: true, min: 1 }),
    )
    .option('--optimizer', "keep raw weights, average and Adam's moments: a checkpoint folder is written")
    .option(
      '--evaluation <file>',
      "results.json of `odelt eval` of this model: its figures go into the file, for sample --budget (an odelt file's own are kept)",
    )
    .option('--json', 'print one JSON document')
    .addHelpText('after', HELP)
    .action((model: string, out: string | undefined, flags: ConvertFlags) => convert(model, out, flags));
}

/** A flag's value, if it is one of these. */
function oneOf<T extends string>(name: string, value: string, known: readonly [T, T]): T {
  const found = known.find((one) => one === value);
  if (found === undefined) throw new ConfigError(`${name} is '${value}'; it must be ${known.join(' or ')}`);
  return found;
}

/** The output, named once: as the second argument or by --out. */
function outputOf(out: string | undefined, flags: ConvertFlags): { name: string; path: string } {
  if (out !== undefined && flags.out !== undefined) {
    throw new ConfigError('the output is named twice', { hint: 'give either OUT or --out' });
  }
  const path = flags.out ?? out;
  if (path === undefined) throw new ConfigError('no output is named', { hint: 'odelt convert MODEL OUT' });
  return { name: flags.out === undefined ? 'OUT' : '--out', path };
}

async function convert(path: string, out: string | undefined, flags: ConvertFlags): Promise<void> {
  const weights = oneOf('--weights', flags.weights, ['ema', 'raw']);
  const dtype = oneOf('--dtype', flags.dtype, ['f16', 'f32']);
  const names = oneOf('--names', flags.names, ['odelt', 'torch']);
  const program = flags.from === undefined ? undefined : oneOf('--from', flags.from, ['dit', 'sit']);
  checkEvaluationFlags(flags);
  const output = outputOf(out, flags);
  await checkOutput(output.name, output.path, { folder: flags.optimizer });
  const { heads, imageSize, lengths, ignoreDt, unconditional, finest } = flags;
  const hints: ModelHints = { heads, imageSize, lengths, ignoreDt, unconditional, finest, program };
  if (flags.optimizer) return convertState(path, output.path, hints, flags);
  const model = await withFirstBlocks(await read(path, weights, hints), flags.firstBlocks);
  const { config, params, from, classNames } = model;
  const evaluation =
    names === 'torch' ? undefined : await evaluationFor(flags.evaluation, { path, weights, config }, model.evaluation);
  const extra = {
    ...{ ...model.extra, 'odelt.weights': model.weights },
    ...(evaluation && evaluationMetadata(evaluation)),
  };
  const contents =
    names === 'torch'
      ? { tensors: ditTensors(config, params, DTYPES[dtype]), metadata: { ...extra, format: 'pt' } }
      : await modelContents(config, params, { dtype: DTYPES[dtype], extra, classNames });
  await writeSafetensors(output.path, contents.tensors, contents.metadata);
  const { count } = params.layout;
  if (flags.json)
    printJson({
      ...{ from, out: output.path, weights: model.weights, dtype, names, parameters: count, model: config },
      evaluation,
    });
  else {
    log(`${from} -> ${output.path}: ${count.toLocaleString('en')} parameters as ${dtype}, ${model.weights} weights`);
    if (evaluation) log(`with its evaluation: ${describeEvaluation(evaluation)}`);
  }
}

/** The model, or its first blocks, which nobody has evaluated. @throws ConfigError */
async function withFirstBlocks(model: Read, blocks: number | undefined): Promise<Read> {
  if (blocks === undefined) return model;
  const { config, source } = firstBlocks({ config: model.config, source: memorySource(model.params) }, blocks);
  return { ...model, config, params: await readParams(source), evaluation: undefined };
}

/** @throws ConfigError for `--evaluation` where there would be no file of odelt to hold it, and for what is not written with --optimizer */
function checkEvaluationFlags({ evaluation, names, optimizer, firstBlocks: blocks }: ConvertFlags): void {
  if (blocks !== undefined && (optimizer || evaluation !== undefined)) {
    const other = optimizer ? '--optimizer' : '--evaluation';
    throw new ConfigError(`--first-blocks makes another model, and ${other} is for all of this one`, {
      hint: 'convert twice: the second time what was written first',
    });
  }
  if (evaluation === undefined) return;
  const other = names === 'torch' ? '--names torch' : optimizer ? '--optimizer' : undefined;
  if (other) throw new ConfigError(`--evaluation goes into a model file of odelt, which ${other} does not write`);
}

/**
 * The evaluation that the file is to carry: that of the results, if there are some, or the one that the model has already.
 * @throws ConfigError for results of a different model, or that cannot be read; CheckpointError
 */
async function evaluationFor(
  results: string | undefined,
  { path, weights, config }: { path: string; weights: WhichWeights; config: ModelConfig },
  before: StoredEvaluation | undefined,
): Promise<StoredEvaluation | undefined> {
  if (results === undefined) return before;
  if ((await foreignFile(path)) !== undefined) {
    throw new ConfigError(`--evaluation is for models of odelt; ${path} is another program's`, {
      hint: 'convert it without, evaluate what was written, and convert that',
    });
  }
  const { provenance, ...found } = await readResultsFile(results);
  const model = await openModel(path, weights);
  const digest = await weightsDigest(model.source).finally(() => model.close());
  if (provenance.model !== digest) {
    const short = (of: unknown) => (typeof of === 'string' ? `${of.slice(0, 12)}...` : 'none');
    throw new ConfigError(
      `${results} is the evaluation of a different model than ${model.path}: its weights' SHA-256 is ${short(provenance.model)}, not ${short(digest)}`,
      { hint: 'give the file that was evaluated, with the same --weights' },
    );
  }
  // Results of earlier versions do not say when they were made.
  const date = found.date ?? (await stat(results)).mtime.toISOString();
  return storedEvaluation({ ...found, provenance }, config, String(date).slice(0, 10), results);
}

interface Read {
  readonly config: ModelConfig;
  readonly params: ParamSet;
  /** Which set of weights: the only one of a file may be either. */
  readonly weights: WhichWeights | 'only';
  /** The file that it came from. */
  readonly from: string;
  readonly extra: Readonly<Record<string, string>>;
  readonly classNames?: readonly string[];
  /** That the file carries. */
  readonly evaluation?: StoredEvaluation;
}

const kept = (step: string | undefined): Record<string, string> => (step === undefined ? {} : { 'odelt.step': step });

async function read(path: string, weights: WhichWeights, hints: ModelHints): Promise<Read> {
  const foreign = await foreignFile(path);
  if (foreign === undefined) {
    const given = Object.entries({
      heads: hints.heads,
      'image-size': hints.imageSize,
      lengths: hints.lengths,
      from: hints.program,
    });
    const useless = given.find(([, value]) => value !== undefined);
    if (useless)
      throw new ConfigError(`--${useless[0]} is for checkpoints of other programs; ${path} describes its model`);
    const model = await readModel(path, weights);
    const { params, metadata, path: from } = model;
    const { unconditional = model.config.unconditional, finest = model.config.finest } = hints;
    const config = parseModelConfig({ ...model.config, unconditional, finest });
    const evaluation = evaluationOf(model, from);
    // Of samples that the model, as it is described now, does not draw.
    const foreign =
      (unconditional && evaluation?.guidance !== 0) ||
      evaluation?.cells.some(({ steps }) => usualSteps(config, [steps])[0] !== steps);
    return {
      config,
      params,
      weights,
      from,
      extra: { ...kept(metadata.get('odelt.step')), ...originMetadata(originIn(metadata, from)) },
      classNames: classNamesOf(model, from),
      evaluation: foreign ? undefined : evaluation,
    };
  }
  const checkpoint = await openCheckpointFile(foreign);
  try {
    const { config, params, weights: found } = await importWeights(checkpoint, weights, hints);
    const step = checkpoint.step === undefined ? undefined : String(checkpoint.step);
    const extra = { 'odelt.source': `${checkpoint.kind} ${basename(foreign)}`, ...kept(step) };
    return { config, params, weights: found, from: foreign, extra };
  } finally {
    await checkpoint.close();
  }
}

/** The file of another program's checkpoint; undefined for what odelt wrote, and for what is no file at all. */
async function foreignFile(path: string): Promise<string | undefined> {
  const file = path === '' ? undefined : await checkpointFile(path);
  if (file === undefined || !(await stat(file).catch(() => null))?.isFile()) return undefined;
  if (!(await isSafetensors(file))) return file;
  const { header, close } = await openSafetensors(file);
  await close();
  return describesModel(header.metadata) ? undefined : file;
}

async function convertState(path: string, out: string, hints: ModelHints, flags: ConvertFlags): Promise<void> {
  const foreign = await foreignFile(path);
  if (foreign === undefined)
    throw new ConfigError('--optimizer is for pickles of the Flax reference', { hint: 'copy the run folder' });
  const checkpoint = await openCheckpointFile(foreign);
  try {
    const { config, step, sets } = await importState(checkpoint, hints);
    const folder = await saveCheckpoint(join(out, 'checkpoints'), { step, model: config }, sets);
    if (flags.json)
      printJson({ from: foreign, out: folder, step, parameters: sets.params.layout.count, model: config });
    else log(`${foreign} -> ${folder}: weights, average and moments after ${step} updates`);
  } finally {
    await checkpoint.close();
  }
}
