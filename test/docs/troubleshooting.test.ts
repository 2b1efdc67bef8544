/** docs/troubleshooting.md has a section for every kind of error that the sources throw, and none for what is gone. */
import { describe, expect, it } from 'vitest';
import { textOf } from '../support/repository.ts';
import { sourceFiles } from '../support/rooms.ts';

const sources = sourceFiles.map(textOf);

/** Classes of engine/errors.ts with the code that each passes on. */
const classes = Array.from(
  textOf('engine/errors.ts').matchAll(/export class (\w+) extends OdeltError \{.*?super\('([\w-]+)'/gs),
  ([, name, code]) => ({ name: name!, code: code! }),
);

/** Codes of errors that are made as OdeltError itself. */
const codes = [
  ...new Set(
    sources.flatMap((text) => Array.from(text.matchAll(/new OdeltError\(\s*'([\w-]+)'/g), ([, code]) => code!)),
  ),
];

/** Second-level headings of the page and what is below each. */
const sections = new Map(
  textOf('docs/troubleshooting.md')
    .split(/^## /m)
    .slice(1)
    .map((text) => [text.slice(0, text.indexOf('\n')), text] as const),
);

describe('docs/troubleshooting.md', () => {
  it('the sources are understood: every class, and every OdeltError with its code as text', () => {
    const declared = textOf('engine/errors.ts').match(/^export class \w+ extends OdeltError/gm)!;
    expect(classes.length).toBe(declared.length);
    expect(classes.length).toBeGreaterThan(10);
    const made = sources.join('\n').match(/new OdeltError\(/g)!;
    const read = sources.join('\n').match(/new OdeltError\(\s*'[\w-]+'/g)!;
    expect(read.length).toBe(made.length);
    expect(codes).toContain('shader');
  });

  for (const { name, code } of classes) {
    it(`has a section on ${name} that names its code and shows a message`, () => {
      expect(sections.get(name)).toContain(`Code \`${code}\`.`);
      expect(sections.get(name)).toMatch(new RegExp(`^ {4}${name}: `, 'm'));
    });
  }

  for (const code of codes) {
    it(`has a section on OdeltErrors with the code ${code}`, () => {
      expect(sections.get(`Code ${code}`)).toContain('Class OdeltError.');
    });
  }

  it('has no section on an error that no source throws, and lists each code once', () => {
    const described = [...sections.keys()].filter((title) => /Error$|^Code /.test(title));
    expect(described.sort()).toEqual(
      [...classes.map(({ name }) => name), ...codes.map((code) => `Code ${code}`)].sort(),
    );
    const listed = Array.from(textOf('docs/troubleshooting.md').matchAll(/^\| `([\w-]+)` \|/gm), ([, code]) => code);
    expect(listed.sort()).toEqual([...classes.map(({ code }) => code), ...codes].sort());
  });
});
