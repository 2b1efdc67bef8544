/** docs/training-options.md has the tables that follow from the declared options; `vitest -u` writes them anew. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { flagNames } from '../../cli/option-flags.ts';
import { SECTIONS } from '../../training/settings.ts';
import { ROOT, textOf } from '../support/repository.ts';

const PAGE = 'docs/training-options.md';
const cell = (text: string) => text.replaceAll('|', '\\|');

function table(section: keyof typeof SECTIONS): string {
  const flags: Readonly<Record<string, string>> = flagNames(SECTIONS[section]);
  const rows = Object.entries(SECTIONS[section]).map(([name, { default: value, rule, help }]) => {
    const byDefault = value === undefined ? '' : `\`${JSON.stringify(value)}\``;
    const cells = [`\`${section}.${name}\``, flags[name] ? `\`${flags[name]}\`` : '', byDefault, rule, help];
    return `| ${cells.map(cell).join(' | ')} |`;
  });
  return ['| option | flag | default | must be | what it does |', '|---|---|---|---|---|', ...rows].join('\n');
}

it('the tables of options are those that are declared', async () => {
  const sections = Object.keys(SECTIONS) as (keyof typeof SECTIONS)[];
  const wanted = sections.reduce(
    (page, section) =>
      page.replace(
        new RegExp(`(<!-- options: ${section} -->\n)[^]*?(<!-- end -->)`),
        (_, begin, end) => `${begin}\n${table(section)}\n\n${end}`,
      ),
    textOf(PAGE),
  );
  for (const section of sections) expect(wanted).toContain(table(section));
  await expect(wanted).toMatchFileSnapshot(join(ROOT, PAGE));
});
