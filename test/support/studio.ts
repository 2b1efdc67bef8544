/** The studio as `odelt studio` serves it, and what its tests do to every tab: pictures of it, and axe's checks. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Page } from './cdp.ts';
import { buildCli } from './cli.ts';
import { ROOT } from './repository.ts';

/** Where pictures of the page go. */
export const SHOTS = join(ROOT, 'out', 'studio');
const AXE = `${readFileSync(join(ROOT, 'node_modules/axe-core/axe.min.js'), 'utf8')}; undefined`;

/** Builds the command and serves the studio. */
export async function serveStudio(): Promise<{ url: string; close(): void }> {
  mkdirSync(SHOTS, { recursive: true });
  const cli = await buildCli();
  const server = spawn(process.execPath, [cli.path, 'studio', '--port', '0', '--no-open'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const url = await new Promise<string>((resolve) => server.stdout!.once('data', (text) => resolve(`${text}`.trim())));
  return {
    url,
    close() {
      server.kill('SIGINT');
      cli.remove();
    },
  };
}

/** Nothing is wider than the screen, narrow or wide, light or dark; axe finds nothing; and a picture of each is kept. */
export async function shoot(page: Page, name: string): Promise<void> {
  for (const width of [390, 1280]) {
    for (const scheme of ['light', 'dark'] as const) {
      await page.look(width, scheme);
      const wide = await page.evaluate<number>('document.documentElement.scrollWidth');
      expect(wide, `${name} at ${width}`).toBeLessThanOrEqual(width);
      // Seconds each time: every width and every scheme once.
      if ((width === 390) === (scheme === 'light'))
        expect(await violations(page), `${name} at ${width}, ${scheme}`).toEqual([]);
      writeFileSync(join(SHOTS, `${name}-${width}-${scheme}.png`), await page.screenshot());
    }
  }
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(
    "axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes.map(({ html }) => html)))",
  );
}
