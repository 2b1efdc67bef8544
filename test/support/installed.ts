/** Programs that tests use where they are installed. */
import { execFileSync } from 'node:child_process';

/** The first of these that tells its version, if one does. */
export const installed = (...names: (string | undefined)[]): string | undefined =>
  names.find((name) => {
    try {
      return name !== undefined && execFileSync(name, ['--version'], { encoding: 'utf8', stdio: 'pipe' }).length > 0;
    } catch {
      return false;
    }
  });
