/** From measurements to choices: which results of a table an engine may go by, with the kernels as they are now. */
import type { Engine } from '../engine/engine.ts';
import { TuningError } from '../engine/errors.ts';
import type { TuningChoice } from '../engine/tuning.ts';
import type { TunedFamily } from '../kernels/families.ts';
import { fingerprint } from './fingerprint.ts';
import { problemText, type Subject, subjectOf } from './problem.ts';
import type { TuningResult } from './table.ts';

/** Whether a result is about the kernels as they are now: the same reviewed choice, and the same WGSL behind it and behind the winner. */
export async function isFresh(engine: Engine, subject: Subject, result: TuningResult): Promise<boolean> {
  if (result.reviewed !== subject.reviewed.id) return false;
  return result.kernels === (await fingerprint(engine, subject, measuredIds(result)));
}

/** The variants that a result's digest covers: they must be there still. */
export const measuredIds = ({ reviewed, variant }: Pick<TuningResult, 'reviewed' | 'variant'>): string[] =>
  variant === null ? [reviewed] : [reviewed, variant];

/**
 * The choices that differ from what the engine would take anyway. What is not known here, or was measured with other kernels, is left
 * out, and `onNotice` told, one sentence each.
 */
export async function choicesOf(
  engine: Engine,
  families: readonly TunedFamily[],
  results: readonly TuningResult[],
  onNotice: (text: string) => void = () => {},
): Promise<TuningChoice[]> {
  const choices: TuningChoice[] = [];
  for (const result of results) {
    const { family, shape, variant, reviewed } = result;
    if (variant === null || variant === reviewed) continue;
    const left = (why: string) => onNotice(`tuning of ${problemText(result)} is left out: ${why}`);
    if (!families.some((f) => f.family.name === family)) {
      left(`there is no family '${family}'`);
      continue;
    }
    const subject = subjectOf(engine, families, { ...result, uses: 1 });
    const ids = subject.candidates.map((v) => v.id);
    if (!ids.includes(variant)) left(`its variant '${variant}' is none of ${ids.join(', ')}`);
    else if (!(await isFresh(engine, subject, result))) left('the kernels have changed since; tune again');
    else choices.push({ family, shape, variant });
  }
  return choices;
}

/**
 * Holds choices to what there is on an engine: those of a run that goes on must be made again, all of them. `whose`: what to call them.
 * @throws TuningError naming the first variant that is not there.
 */
export function checkChoices(
  engine: Engine,
  families: readonly TunedFamily[],
  choices: readonly TuningChoice[],
  whose: string,
): void {
  for (const choice of choices) {
    const found = families.find(({ family }) => family.name === choice.family);
    const ids = found?.candidates(engine, choice.shape).map((v) => v.id) ?? [];
    if (ids.includes(choice.variant)) continue;
    throw new TuningError(
      `${whose} has the variant '${choice.variant}' for ${problemText(choice)}, which is not there on this adapter`,
      {
        details: ids.length > 0 ? `there are ${ids.join(', ')}` : `there is no such family`,
        hint: 'go on on the adapter and with the version that it began with, or choose: --tuning off, auto or FILE; the last bits will differ',
      },
    );
  }
}
