/** docs/coming-from-the-reference.md names every flag of the recorded runs, and only options that exist. */
import { expect, it } from 'vitest';
import { SECTIONS } from '../../training/settings.ts';
import { goldenModel } from '../support/golden.ts';
import { textOf } from '../support/repository.ts';

const page = textOf('docs/coming-from-the-reference.md');
const code = [...page.matchAll(/`([^`]+)`/g)].map(([, text]) => text!);

it('every flag of the recorded run has a row', async () => {
  const recorded = (await (await goldenModel('a')).json('train_trajectory')) as { flags: Record<string, unknown> };
  const { model, ...run } = recorded.flags;
  const flags = [...Object.keys(run), ...Object.keys(model as object)];
  expect(flags).toContain('batch_size');
  expect(flags.filter((flag) => !code.includes(flag))).toEqual([]);
});

it('every option that it names exists', () => {
  const named = code
    .map((text) => /^(model|train|data|out)\.(?!safetensors)(\w+)/.exec(text))
    .filter((found) => found !== null);
  expect(named.length).toBeGreaterThan(25);
  const unknown = named.filter(([, section, name]) => !Object.hasOwn(SECTIONS[section as 'train'], name!));
  expect(unknown.map(([text]) => text)).toEqual([]);
});
