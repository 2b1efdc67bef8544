/** `odelt eval --loss-map`: losses of held-out pictures by time, level and blocks, as a folder of JSON, CSV and heat maps. */
import { join } from 'node:path';
import { ConfigError } from '../engine/errors.ts';
import { weightsDigest } from '../evaluation/evaluate.ts';
import { checkLossMap, lossMap, lossMapCsv, lossMapPlots } from '../evaluation/loss-map.ts';
import { realPictures } from '../evaluation/real.ts';
import { checkOutput, writeText } from '../formats/files.node.ts';
import { shippedData } from '../formats/shipped.node.ts';
import { allowedLengths } from '../model/config.ts';
import { prefetching } from '../model/weights/source.ts';
import { usualGuidance } from '../sampling/classes.ts';
import { fingerprint } from '../training/data/fingerprint.node.ts';
import { openParts } from '../training/data/open.ts';
import { checkComparable } from '../training/model-for-data.ts';
import { checkShown, type Evaluated, type WhichWeights } from './models.node.ts';
import { log, ProgressLine, print, printJson } from './output.node.ts';
import { openSession } from './session.node.ts';

/** The flags of `odelt eval` that a map of losses has. */
export interface LossFlags {
  readonly weights: WhichWeights;
  readonly blocks?: number[];
  readonly guidance?: number[];
  readonly times: number;
  readonly count: number;
  readonly data?: string;
  readonly seed: number;
  readonly batch: number;
  readonly out: string;
  readonly adapter?: string;
  readonly adapterIndex?: number;
  readonly json?: boolean;
}

/** Measures and writes them. @throws ConfigError for flags that make no sense here */
export async function mapLosses(
  { config, source: file, path }: Evaluated,
  flags: LossFlags,
  signal: AbortSignal,
): Promise<void> {
  checkShown(config, path);
  const { times, count, seed, batch, out, guidance = [usualGuidance(config)] } = flags;
  const blocks = flags.blocks ?? allowedLengths(config);
  if (guidance.length !== 1 || !(guidance[0] === 0 || guidance[0] === 1)) {
    throw new ConfigError(`--guidance is ${guidance.join()}; a map of losses takes one, 0 (no class) or 1 (the class)`);
  }
  const labelled = guidance[0] === 1;
  checkLossMap({ config, times, blocks, labelled });
  for (const name of ['loss-map.json', 'loss-map.csv']) await checkOutput('--out', join(out, name));
  const channels = config.channels === 1 ? 1 : 3;
  const parts = await openParts(flags.data ?? shippedData(), { size: config.imageSize, channels, signal });
  for (const part of [parts.train, parts.test]) if (part) checkComparable(config, part);
  const { heldOut, how } = realPictures(parts, count, seed);
  const source = prefetching(file, { keep: true });
  const model = await weightsDigest(source, signal);
  const session = await openSession(flags.adapter, flags);
  const line = new ProgressLine();
  try {
    const { name } = session.adapter.adapter;
    log(`${path} on ${name}: losses of ${heldOut.indices.length} pictures of ${heldOut.data.name}`);
    const cells = await lossMap(session.engine, {
      ...{ config, source, times, blocks, seed, batch, signal, pictures: heldOut, labelled },
      onProgress: (done, of) => line.update(`${Math.floor(done)}/${of} times and levels`),
    });
    line.end();
    const { pixels, labels } = fingerprint(heldOut.data);
    const provenance = {
      ...{ model, weights: flags.weights, seed, pictures: heldOut.indices.length, how, batch, guidance: guidance[0] },
      ...{ data: { name: heldOut.data.name, digests: [pixels, labels] }, adapter: name },
    };
    const document = { cells, provenance };
    const csv = lossMapCsv(cells);
    const files = [
      ['loss-map.json', `${JSON.stringify(document, null, 1)}\n`],
      ['loss-map.csv', csv],
      ...lossMapPlots(cells),
    ];
    for (const [file, text] of files as [string, string][]) await writeText(join(out, file), text);
    if (flags.json) printJson(document);
    else print(csv.trimEnd());
    log(`wrote ${files.length} files into ${out}`);
  } finally {
    line.end();
    session.engine.dispose();
  }
}
