/** Which recordings no case uses, and why: so that a short list of cases is never taken for the whole of what was recorded. */
import { type GoldenDir, isAbout } from './golden.ts';

/**
 * Files about other recordings, which hold no result of their own: the same solves in double precision and how rounding moves a result
 * (for choosing tolerances), and the statistics of forward_strong.safetensors in words.
 */
const ABOUT_OTHERS = /^(sampling_float64\.\w+|\w+_noise\.json|forward_strong\.json)$/;

/** Why a file is not replayed, by its name. */
const reasonOf = (name: string): string =>
  /^targets_/.test(name) ? 'objectives that odelt does not know' : 'no case reads it';

/**
 * One line for the files of a folder that are left out for one reason, and one for a folder without a config.json.
 * `used`: paths that cases read. `settled`: folders, as in GoldenFolder.path, of which it has been said that nothing is replayed.
 */
export function notReplayed(golden: GoldenDir, used: ReadonlySet<string>, settled: ReadonlySet<string>): string[] {
  const models = new Set(golden.folders.map(({ path }) => path));
  const left = new Map<string, string[]>(); // files by folder and reason
  const strangers = new Map<string, number>(); // files of folders that are no models
  for (const path of golden.files.keys()) {
    const folder = path.slice(0, path.lastIndexOf('/') + 1);
    const name = path.slice(folder.length);
    if (name === 'MANIFEST.json' || isAbout(name) || ABOUT_OTHERS.test(name) || used.has(path) || settled.has(folder))
      continue;
    if (folder !== '' && !models.has(folder)) {
      const outermost = outermostStranger(folder, models);
      strangers.set(outermost, (strangers.get(outermost) ?? 0) + 1);
      continue;
    }
    const key = JSON.stringify([folder, reasonOf(name)]);
    left.set(key, [...(left.get(key) ?? []), path]);
  }
  return [
    ...[...left].map(([key, paths]) => `${paths.sort().join(', ')} (${(JSON.parse(key) as string[])[1]})`),
    ...[...strangers].map(
      ([folder, count]) =>
        `${folder}: ${count} ${count === 1 ? 'file' : 'files'} (there is no config.json of a model in it)`,
    ),
  ];
}

/** The first folder on the way to `folder` that is no model. */
function outermostStranger(folder: string, models: ReadonlySet<string>): string {
  const parts = folder.split('/').slice(0, -1);
  for (let n = 1; n < parts.length; n++) {
    const outer = `${parts.slice(0, n).join('/')}/`;
    if (!models.has(outer)) return outer;
  }
  return folder;
}
