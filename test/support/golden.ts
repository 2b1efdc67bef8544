/** The golden data bundled with the repository, opened for tests. */
import { fileURLToPath } from 'node:url';
import type { Tensors } from '../../formats/safetensors.ts';
import { openGolden } from '../../verify/golden.node.ts';
import type { GoldenModel } from '../../verify/golden.ts';

export const FIXTURES = fileURLToPath(new URL('../fixtures/golden', import.meta.url));

export const openModels = async (path: string): Promise<GoldenModel[]> =>
  Promise.all((await openGolden(path)).folders.map((folder) => folder.open()));

export const openFixtures = (): Promise<GoldenModel[]> => openModels(FIXTURES);

/** The bundled model of that name (a, b, misaligned, dit_b2). */
export async function goldenModel(name: string): Promise<GoldenModel> {
  const found = (await openFixtures()).find((model) => model.name === name);
  if (found === undefined) throw new Error(`no golden model ${name} in ${FIXTURES}`);
  return found;
}

/** Tensors of a model's file that the bundle must hold. */
export async function goldenTensors(model: GoldenModel, stem: string): Promise<Tensors> {
  const tensors = await model.tensors(stem);
  if (tensors === undefined) throw new Error(`no ${stem}.safetensors in golden model ${model.name}`);
  return tensors;
}

/** ||actual - expected|| / ||expected||. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values against ${expected.length}`);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference / norm);
}
