/** A model's description in its file: what is written is read, and a damaged one is refused. */
import { expect, it } from 'vitest';
import { CheckpointError } from '../../../engine/errors.ts';
import { serializeSafetensors } from '../../../formats/safetensors.ts';
import { type ModelConfig, parseModelConfig } from '../../../model/config.ts';
import { modelMetadata, modelTensors, parseModelFile } from '../../../model/weights/model-file.ts';
import { formulaParams } from '../../../verify/formula-params.ts';
import { tinyModel } from '../../support/tiny.ts';

const fileOf = (config: ModelConfig): Uint8Array =>
  serializeSafetensors(modelTensors(formulaParams(tinyModel, 5)), modelMetadata(config));

it.each([
  ['the velocity', {}],
  ['data', { predicts: 'data' }],
  ['noise', { predicts: 'noise', timeScale: 1000 }],
] as const)('keeps that the network predicts %s', async (_, conventions) => {
  const config = parseModelConfig({ ...tinyModel, ...conventions });
  expect((await parseModelFile(fileOf(config), 'w')).config).toEqual({ ...tinyModel, ...conventions });
});

it('is refused where it says what nobody knows how to read', async () => {
  const file = fileOf({ ...tinyModel, predicts: 'score' } as unknown as ModelConfig);
  const error = await parseModelFile(file, 'w').catch((e: unknown) => e);
  expect(error).toBeInstanceOf(CheckpointError);
  expect(JSON.stringify([(error as Error).message, String((error as Error).cause)])).toContain('score');
});
