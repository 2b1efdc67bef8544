/** Code blocks of Markdown pages, for tests that run what the documentation shows. */

export interface Fenced {
  readonly language: string;
  readonly code: string;
  /** The nearest heading above. */
  readonly heading: string;
}

/** The fenced blocks of a page, in order. */
export function fencedBlocks(page: string): Fenced[] {
  const blocks: Fenced[] = [];
  let heading = '';
  for (const [, title, language, code] of page.matchAll(/^#+ (.*)$|^```(\w*)\n([\s\S]*?)^```$/gm)) {
    if (title !== undefined) heading = title;
    else blocks.push({ language: language!, code: code!, heading });
  }
  return blocks;
}

/** The commands of a shell block, without the remarks behind them. */
export function commandsOf({ code }: Fenced): string[] {
  return code
    .split('\n')
    .map((line) => line.replace(/\s+#.*$/, '').trim())
    .filter((line) => line !== '');
}
