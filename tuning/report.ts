/** What tuning found, as text: what was gained for which shape, what computes wrong, what was left out. */
import { interval, milliseconds } from '../bench/markdown.ts';
import { table } from '../formats/markdown.ts';
import { problemText } from './problem.ts';
import type { TuningResult } from './table.ts';
import type { Tuned } from './tune.ts';

const each = (seconds: readonly number[]): string => seconds.map(milliseconds).join(' / ');

/** The results as a Markdown table: of those where something was gained, or of all. Times by number of samples. */
export function formatResults(results: readonly TuningResult[], all = true): string {
  const shown = results.filter((r) => all || r.variant !== r.reviewed);
  if (shown.length === 0) return '';
  const head = ['problem', 'samples', 'before ms', 'after ms', 'ratio (99 % interval)', 'variant', 'instead of'];
  const rows = shown.map((r) => {
    const wins = r.variant !== r.reviewed;
    const fastest = r.challenger && (wins ? '' : `${r.challenger.variant}: `) + interval(r.challenger.ratio);
    return [
      problemText(r),
      r.batches.join(' / '),
      r.seconds ? each(r.seconds.reviewed) : '',
      r.seconds && wins ? each(r.seconds.variant) : '',
      fastest ?? '',
      r.variant ?? 'none computes right',
      wins ? r.reviewed : '',
    ];
  });
  return table([head, ...rows]).join('\n');
}

/** Variants that compute wrong or not at all, one line each; empty for none. */
export function formatRejected(results: readonly TuningResult[]): string {
  return results
    .flatMap((r) => r.rejected.map(({ variant, error }) => `${problemText(r)}: ${variant} is not used: ${error}`))
    .join('\n');
}

/** What tuning did, in a few sentences. */
export function summary({ results, known, single, left, uncovered }: Tuned): string {
  const won = results.filter((r) => r.variant !== r.reviewed && r.challenger);
  const count = (n: number, what: string) => (n === 0 ? [] : [`${n} ${what}`]);
  const parts = [
    `${results.length} ${results.length === 1 ? 'problem' : 'problems'} tuned, another variant is faster for ${won.length}`,
    ...count(known.length, 'known from before'),
    ...count(single.length, 'with one variant only'),
    ...count(left.length, 'left for another time, as the budget is spent'),
    ...count(uncovered.length, `that no trial exercises here (${uncovered.map(problemText).join('; ')})`),
  ];
  return `${parts.join('; ')}.`;
}
