/** Labels and guidance: what they are where nobody says, and what is refused of a model that has learned no classes. */
import { ConfigError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';

/** The guidance weight where none is asked for: 0 ("no class") of an unconditional model, `otherwise` of others. */
export const usualGuidance = ({ unconditional }: Pick<ModelConfig, 'unconditional'>, otherwise = 1): number =>
  unconditional ? 0 : otherwise;

/**
 * Labels of samples `first`, `first` + 1, ... where none are asked for: all classes in turn, or `null` ("no class") for each of an unconditional
 * model. For `Sampler.sample`.
 */
export const usualLabels = (
  { unconditional, classes }: Pick<ModelConfig, 'unconditional' | 'classes'>,
  count: number,
  first = 0,
): (number | null)[] => Array.from({ length: count }, (_, i) => (unconditional ? null : (first + i) % classes));

/** @throws ConfigError for a class, or a guidance weight other than 0, that is asked of an unconditional model. */
export function checkClasses(
  { unconditional }: Pick<ModelConfig, 'unconditional'>,
  { labels = [], guidance = 0 }: { readonly labels?: readonly (number | null)[]; readonly guidance?: number },
): void {
  if (!unconditional) return;
  const at = labels.findIndex((label) => label !== null);
  if (at >= 0) {
    throw new ConfigError(`class ${labels[at]} was asked for (label ${at}); this model was trained without labels`, {
      hint: 'give every sample no class: null, or --labels none',
    });
  }
  if (guidance !== 0) {
    throw new ConfigError(`guidance ${guidance} was asked for; this model was trained without labels to guide by`, {
      hint: 'leave guidance out, or give 0',
    });
  }
}
