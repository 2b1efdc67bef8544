/** `odelt convert`: writes a checkpoint's weights as one model file, to be sampled from or served. */
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { checkOutput } from '../formats/files.node.ts';
import { writeSafetensors } from '../formats/safetensors.node.ts';
import { classNamesOf, modelContents } from '../model/weights/model-file.ts';
import { readModel, type WhichWeights } from './models.node.ts';
import { log, printJson } from './output.node.ts';

const DTYPES = { f32: 'F32', f16: 'F16' } as const;

interface ConvertFlags {
  weights: WhichWeights;
  dtype: string;
  out: string;
  json?: boolean;
}

export function addConvert(command: Command): void {
  command
    .argument('<model>', '.safetensors file, checkpoint or run folder')
    .requiredOption('--out <file>', 'the .safetensors file to write')
    .option('--weights <which>', 'of a run: ema (moving average) or raw', 'ema')
    .option('--dtype <type>', 'f16 or f32', 'f16')
    .option('--json', 'print one JSON document')
    .action((model: string, flags: ConvertFlags) => convert(model, flags));
}

async function convert(path: string, flags: ConvertFlags): Promise<void> {
  const { weights, dtype, out } = flags;
  if (weights !== 'ema' && weights !== 'raw') throw new ConfigError(`--weights is '${weights}'; it must be ema or raw`);
  if (dtype !== 'f16' && dtype !== 'f32') throw new ConfigError(`--dtype is '${dtype}'; it must be f16 or f32`);
  await checkOutput('--out', out);
  const model = await readModel(path, weights);
  const { config, params, metadata, path: from } = model;
  const kept = metadata.get('odelt.step');
  const extra = { 'odelt.weights': weights, ...(kept === undefined ? {} : { 'odelt.step': kept }) };
  const options = { dtype: DTYPES[dtype], extra, classNames: classNamesOf(model, from) };
  const contents = await modelContents(config, params, options);
  await writeSafetensors(out, contents.tensors, contents.metadata);
  if (flags.json) printJson({ from, out, weights, dtype, parameters: params.layout.count });
  else log(`${from} -> ${out}: ${params.layout.count.toLocaleString('en')} parameters as ${dtype}, ${weights} weights`);
}
