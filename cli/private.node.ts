/** What a report that goes to others must not hold: where on this machine something lies, and whose it is. */
import { homedir, tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { shippedModel } from '../formats/shipped.node.ts';

interface Places {
  readonly home: string;
  readonly working: string;
  readonly temporary: string;
  readonly program: string;
  readonly package: string;
}

const here = (): Places => ({
  home: homedir(),
  working: process.cwd(),
  temporary: tmpdir(),
  program: dirname(dirname(fileURLToPath(import.meta.url))),
  package: dirname(dirname(shippedModel())),
});

/** A path as it may stand in a text: as it is, within JSON, with the other slashes, and as a URL. */
const spellings = (path: string): string[] => {
  const slashes = path.replaceAll('\\', '/');
  return [path, path.replaceAll('\\', '\\\\'), slashes, encodeURI(slashes)];
};

/** The text with folders of this machine by what they are, and without the names of users in other paths. */
export function scrubbed(text: string, places: Places = here()): string {
  const { home, working, temporary, program } = places;
  const named = [
    [program, '<odelt>'],
    [places.package, '<odelt>'],
    [working, '<here>'],
    [temporary, '<tmp>'],
    [home, '~'],
  ] as const;
  // The longest first: one may lie in another.
  const folders = named
    .flatMap(([path, name]) => spellings(path).map((spelling) => [spelling, name] as const))
    .filter(([path]) => path.length > 1)
    .sort(([a], [b]) => b.length - a.length);
  let clean = text;
  for (const [path, name] of folders) clean = clean.replaceAll(path, name);
  // Packages may have been installed in a folder above all of these.
  clean = clean.replace(/(?:[A-Za-z]:)?[\\/][^\s"'|;,<>]*(?=[\\/]+node_modules[\\/])/g, '<above>');
  return clean.replace(/([\\/]+(?:home|Users)[\\/]+)[^\\/\s"':;,<>]+/g, '$1<user>');
}
