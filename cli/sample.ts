/** `odelt sample`: draws pictures from a model at a chosen number of time steps and blocks. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../engine/errors.ts';
import { parseBudget } from '../evaluation/afford.ts';
import { shippedModel } from '../formats/shipped.node.ts';
import { parseRefresh } from '../sampling/blocks.ts';
import { parseBytes } from '../sampling/budget.ts';
import { parseShard } from '../sampling/shards.ts';
import { interruptSignal } from './ends.node.ts';
import { openModel } from './models.node.ts';
import { checkBudgetFlags } from './sample-budget.ts';
import { addSampleMerge } from './sample-merge.ts';
import { checkOutputs } from './sample-output.ts';
import { GUIDANCE, type SampleFlags, STEPS } from './sample-request.ts';
import { sampleFrom } from './sample-run.ts';
import { INDEX_HELP, LEVEL_HELP, number, parseIndex, TUNING_HELP } from './session.node.ts';

export function addSample(command: Command): void {
  command
    .option('--model <path>', '.safetensors file, its URL, checkpoint or run folder', shippedModel())
    .option('--weights <which>', 'of a run: ema (moving average) or raw', 'ema')
    .option(
      '--count <n>',
      'number of pictures (default: eight per label)',
      number('--count', { integer: true, min: 1 }),
    )
    .option(
      '--labels <list>',
      'classes by number or name, e.g. 0,3,9 or sneaker,bag (default: all); none: no class, as always of a model that was trained without labels',
    )
    .option(
      '--steps <T>',
      `steps: 1, 2, 4, ..., 128, or what the model was trained for (default: ${STEPS}; adaptive solvers choose their own)`,
      number('--steps', { integer: true, min: 1 }),
    )
    .option(
      '--solver <name>',
      'fixed steps: euler (1 evaluation a step), midpoint, heun (2), rk4 (4), consistency (1, with new noise); steps by their error: dopri5, tsit5 (default: euler)',
    )
    .option('--tolerance <e>', 'of dopri5 and tsit5: error of a step (default: 0.001)', number('--tolerance'))
    .option('--controller <name>', 'of dopri5 and tsit5: integral or pi (default: integral)')
    .option('--first-step <h>', 'of dopri5 and tsit5: its length, or auto (default: 0.01)', parseFirstStep)
    .option(
      '--max-steps <n>',
      'of dopri5 and tsit5: most steps, rejected ones included (default: 4096)',
      number('--max-steps', { integer: true, min: 1 }),
    )
    .option('--level <d>', LEVEL_HELP, number('--level'))
    .option(
      '--blocks <L>',
      'transformer blocks to run (default: all), or numbers from times on, e.g. 4@0,8@0.5,12@0.8; auto lets --max-memory choose',
    )
    .option(
      '--load-blocks <when>',
      'of --blocks by time: first (all before the first step, default), along (each before it is needed), or needed (and freed after)',
    )
    .option(
      '--refresh <blocks:every>',
      'of euler: this many blocks in every so many steps, e.g. 12:2; the others run --blocks and reuse what the further ones gave',
      (text) => parseRefresh(text, '--refresh'),
    )
    .option('--precision <p>', 'weights on the GPU: f32, f16 or int8 (default f32, or what --max-memory asks for)')
    .option('--activations <a>', 'activations on the GPU: f32 or f16 (default f32, or what --max-memory asks for)')
    .option(
      '--resident-blocks <K>',
      "most blocks whose weights are on the GPU at a time; the others' pass through",
      number('--resident-blocks', { integer: true, min: 1 }),
    )
    .option(
      '--max-memory <size>',
      'most GPU bytes, e.g. 300MB: chooses what is stored how, how many pictures at once and residency, and says why',
      (text) => parseBytes(text, '--max-memory'),
    )
    .option(
      '--decode <file>',
      "of a model of latents: the autoencoder that makes pictures of them, a file or diffusers' folder; within --max-memory, too",
    )
    .option(
      '--decode-precision <p>',
      "the autoencoder's weights on the GPU: f32 or f16 (default f32, or what --max-memory asks for)",
    )
    .option(
      '--budget <size>',
      "what a picture may take (50ms, 2s) or what the GPU's buffers may (60MB): chooses --steps and --blocks by the model's evaluation",
      (text) => parseBudget(text, '--budget'),
    )
    .option(
      '--guidance <w>',
      `0: no class, 1: the class, else classifier-free guidance at twice the work (default: ${GUIDANCE}, or 0 of a model that was trained without labels; with --budget the evaluation's)`,
      number('--guidance'),
    )
    .option('--guidance-interval <from,to>', 'guide at these times only, e.g. 0.2,0.8 (default: always)', parseInterval)
    .option(
      '--seed <n>',
      'picture n of a seed is the same whatever the batch',
      number('--seed', { integer: true, min: 0, max: 2 ** 32 - 1 }),
      0,
    )
    .option(
      '--rng <which>',
      "odelt, or jax: the reference's noise for the seed (its own is 42) and, without --labels, its labels",
      'odelt',
    )
    .option('--batch <n>', 'pictures computed at once', number('--batch', { integer: true, min: 1 }), 16)
    .option('--out <file>', 'PNG to write, or a .npy file of the numbers', join('out', 'sample.png'))
    .option(
      '--shard <i/n>',
      'draw part i of n only, from 0, into files named for it beside --out; env, env/n: i from a Slurm array or a Kubernetes job',
      (text) => parseShard(text, '--shard', process.env),
    )
    .option('--scale <n>', 'enlarge pictures', number('--scale', { integer: true, min: 1, max: 16 }), 3)
    .option('--adapter <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--adapter-index <n>', INDEX_HELP, parseIndex)
    .option('--tuning <which>', TUNING_HELP)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExamples:\n  odelt sample --steps 4 --blocks 8\n  odelt sample --shard 0/2; odelt sample --shard 1/2; odelt sample merge out/sample-*-of-2.json\n  odelt sample --budget 50ms\n  odelt sample --steps 16 --blocks 4@0,12@0.5\n  odelt sample --labels sandal,sneaker,9 --guidance 2 --seed 3 --out shoes.png\n  odelt sample --model DiT.safetensors --decode vae/ --count 4 --max-memory 400MB\n  odelt sample --solver tsit5 --tolerance 1e-3 --guidance-interval 0.2,0.8',
    )
    .action((flags: SampleFlags) => sample(flags));
  addSampleMerge(command.command('merge'));
}

/** 0.2,0.8. @throws ConfigError for what are not two numbers. */
function parseInterval(text: string): [number, number] {
  const parts = text.split(',').map(number('--guidance-interval'));
  if (parts.length !== 2) throw new ConfigError(`--guidance-interval is '${text}'; write it like 0.2,0.8`);
  return parts as [number, number];
}

const parseFirstStep = (text: string): number | 'auto' => (text === 'auto' ? text : number('--first-step')(text));

async function sample(flags: SampleFlags): Promise<void> {
  if (flags.weights !== 'ema' && flags.weights !== 'raw')
    throw new ConfigError(`--weights is '${flags.weights}'; it must be ema or raw`);
  checkBudgetFlags(flags);
  await checkOutputs(flags.out, flags.shard);
  const signal = interruptSignal('stopping');
  const file = await openModel(flags.model, flags.weights, signal);
  try {
    await sampleFrom(file, flags, signal);
  } finally {
    await file.close();
  }
}
