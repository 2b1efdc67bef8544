/** The folder of an evaluation: its results as JSON, which a later run goes on from, as CSV and as plots. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../engine/errors.ts';
import { type FailFile, failAs, readRegular, writeText } from '../formats/files.node.ts';
import { evaluationPlots } from './plots.ts';
import { type EvaluationResults, parseResults, resultsCsv } from './results.ts';

/** Larger than any table of cells. */
const MOST_BYTES = 2 ** 26;

/** The file of a folder that results are read from again. */
export const resultsFile = (folder: string): string => join(folder, 'results.json');

/** Results that a file holds. `hint`: what to do where it holds none. @throws ConfigError for a file that holds none, or cannot be read. */
export async function readResultsFile(
  path: string,
  hint = 'give the results.json that `odelt eval` wrote',
): Promise<EvaluationResults> {
  const fail: FailFile = failAs(ConfigError, path, hint);
  return parseResults(new TextDecoder().decode(await readRegular(path, { most: MOST_BYTES, fail })), path, hint);
}

/** Results that are in a folder; undefined where there are none. @throws ConfigError for a file that holds none. */
export async function readResults(folder: string): Promise<EvaluationResults | undefined> {
  const path = resultsFile(folder);
  const there = await stat(path).catch((cause: NodeJS.ErrnoException) => (cause.code === 'ENOENT' ? null : undefined));
  return there === null ? undefined : readResultsFile(path, 'give another folder, or move that file away');
}

/** JSON to be read by people too: an object's field a line, but numbers beside each other. (Texts have no line breaks of their own in JSON.) */
const readableJson = (value: unknown): string =>
  JSON.stringify(value, null, 1).replace(/\[\n[-+.\deE,\s]+\]/g, (list) => list.replace(/\s+/g, ' '));

/** Writes results.json, results.csv and the plots, each whole or not at all; the names of the files. @throws OutputError. */
export async function writeResults(folder: string, results: EvaluationResults): Promise<string[]> {
  const files = new Map([
    ['results.json', `${readableJson(results)}\n`],
    ['results.csv', resultsCsv(results)],
    ...evaluationPlots(results),
  ]);
  for (const [name, text] of files) await writeText(join(folder, name), text);
  return [...files.keys()];
}
