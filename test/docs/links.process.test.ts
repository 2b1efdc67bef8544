/** Links between the documents lead somewhere, and the commands that they show have the options that they use. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fencedBlocks } from '../support/fenced.ts';
import { buildInto, ROOT, run, scratch, textOf } from '../support/repository.ts';

const pages = ['.', 'docs', 'models', 'bench/results'].flatMap((folder) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => normalize(join(folder, name))),
);

const withoutCode = (text: string): string => text.replace(/^```.*?^```/gms, '').replace(/`[^`\n]*`/g, '');

/** Anchors of a page's headings, as GitHub makes them. */
function anchors(page: string): Set<string> {
  const headings = textOf(page)
    .replace(/^```.*?^```/gms, '')
    .matchAll(/^#{1,6} (.*)$/gm);
  return new Set(
    Array.from(headings, ([, text]) =>
      text!
        .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

/** Links of a page that are not to other sites. */
const linksOf = (page: string): string[] =>
  Array.from(withoutCode(textOf(page)).matchAll(/\]\(([^)\s]+)\)/g), ([, target]) => target!).filter(
    (target) => !/^[a-z]+:/i.test(target),
  );

/** Why a link leads nowhere; null if it does not. */
function broken(page: string, target: string): string | null {
  const [path, anchor] = target.split('#') as [string, string?];
  const file = path === '' ? page : normalize(join(dirname(page), path));
  if (!existsSync(join(ROOT, file))) return `${page}: there is no ${file}`;
  if (anchor === undefined || anchors(file).has(anchor)) return null;
  return `${page}: ${file} has no heading for #${anchor}`;
}

describe('links', () => {
  it('are found, and broken ones told from whole ones', () => {
    expect(linksOf('docs/concepts.md')).toEqual(expect.arrayContaining(['architecture.md', '#levels', 'blocks.svg']));
    expect(broken('docs/concepts.md', 'architecture.md#measured-costs')).toBeNull();
    expect(broken('docs/concepts.md', 'nothing.md')).toContain('there is no docs/nothing.md');
    expect(broken('docs/concepts.md', '#nothing')).toContain('has no heading for #nothing');
  });

  it.each(pages)('of %s lead to a file and a heading', (page) => {
    expect(linksOf(page).flatMap((target) => broken(page, target) ?? [])).toEqual([]);
  });
});

describe('commands', () => {
  let folder: string;
  let cli: string;
  beforeAll(async () => {
    folder = scratch();
    cli = join(folder, 'cli.js');
    await buildInto(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Every `odelt ...` of a page's shell blocks and code spans, as its words up to a comment. */
  const commands = pages.flatMap((page) => {
    const text = textOf(page);
    const blocks = fencedBlocks(text).flatMap(({ language, code }) => (language === 'sh' ? code : []));
    const found = [
      ...blocks.join('').matchAll(/^(?:\w+=\S+ )*odelt ([^\n#]*)/gm),
      ...text.matchAll(/`odelt ([^`\n]*)`/g),
    ];
    return found.map(([, words]) => ({ page, words: words!.trim().split(/\s+/) }));
  });

  const helps = new Map<string, Promise<string>>();
  const helpOf = (names: string): Promise<string> => {
    if (!helps.has(names))
      helps.set(
        names,
        run(process.execPath, [cli, ...names.split(' '), '--help']).then(({ stdout }) => stdout),
      );
    return helps.get(names)!;
  };

  it('of the documents exist and have the options that are used', { timeout: 60_000 }, async () => {
    expect(commands.length).toBeGreaterThan(20);
    const known = Array.from((await helpOf('help')).matchAll(/^ {2}([a-z]+)[ |]/gm), ([, name]) => name!);
    const wrong: string[] = [];
    for (const { page, words } of commands) {
      const names =
        words[0] === 'bench' && words[1] !== undefined && /^[a-z]+$/.test(words[1])
          ? words.slice(0, 2)
          : words.slice(0, 1);
      if (!known.includes(names[0]!)) {
        wrong.push(`${page}: there is no command '${names[0]}'`);
        continue;
      }
      const help = await helpOf(names.join(' '));
      for (const option of words.filter((word) => word.startsWith('--') && word !== '--help')) {
        if (!new RegExp(`^ .*${option}[ ,\n]`, 'm').test(help))
          wrong.push(`${page}: odelt ${names.join(' ')} has no ${option}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});
