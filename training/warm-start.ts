/** Starting from the weights of another model: what has the same name and shape is copied, the rest starts as in any new model. */
import { CheckpointError } from '../engine/errors.ts';
import { firstNonFinite } from '../formats/finite.ts';
import type { ModelConfig } from '../model/config.ts';
import {
  initialValues,
  type ParamSet,
  type ParamSpec,
  paramEntries,
  paramLayout,
  type TensorSource,
} from '../model/params.ts';

/** Which parameters came from where. */
export interface WarmStart {
  readonly params: ParamSet;
  /** Names of the parameters that were copied. */
  readonly copied: readonly string[];
  /** Of those that start as in any new model, and why. */
  readonly initialised: readonly { readonly name: string; readonly reason: string }[];
  /** Of the file's tensors that the model has no place for. */
  readonly ignored: readonly string[];
}

/**
 * Initial parameters of a model (`seed` as in initParams), with those of a file in the place of each that has its name and shape.
 * @throws CheckpointError where none fits, naming what the file holds, and for values that are not finite.
 */
export function warmStart(
  model: ModelConfig,
  seed: number,
  source: TensorSource & { readonly names: readonly string[] },
  label = 'the weights',
): WarmStart {
  const shapeThere = (name: string) => (source.has(name) ? source.shape(name) : null);
  const fits = ({ name, shape }: ParamSpec) => shapeThere(name)?.join() === shape.join();
  // Of a large model, drawing what is copied over takes minutes.
  const params = initialValues(paramLayout(model), seed, (spec) => !fits(spec));
  const copied: string[] = [];
  const initialised: { name: string; reason: string }[] = [];
  for (const { spec, values } of paramEntries(params)) {
    const { name, shape } = spec;
    if (fits(spec)) {
      const given = source.floats(name);
      const at = firstNonFinite(given);
      if (at >= 0) {
        throw new CheckpointError(`${label}: ${name} holds ${given[at]} at element ${at}`, {
          hint: 'the run that made it diverged: take an earlier checkpoint of it',
        });
      }
      values.set(given);
      copied.push(name);
    } else {
      const found = shapeThere(name);
      initialised.push({ name, reason: found ? `[${found}] there, [${shape}] here` : 'not there' });
    }
  }
  if (copied.length === 0) {
    const some = source.names.slice(0, 3).join(', ');
    const held = source.names.length > 0 ? `it holds ${some}${source.names.length > 3 ? ', ...' : ''}` : 'it is empty';
    throw new CheckpointError(`${label}: no parameter of it has a name and shape of this model; ${held}`, {
      hint: 'give weights of a similar model, or change --preset, --width or --depth to those that they were trained with',
    });
  }
  const known = new Set([...copied, ...initialised.map(({ name }) => name)]);
  return { params, copied, initialised, ignored: source.names.filter((name) => !known.has(name)) };
}

/** What became of the parameters, one sentence per kind. */
export function warmStartText({ copied, initialised, ignored }: WarmStart): string[] {
  const list = (names: readonly string[]) =>
    names.length > 4 ? `${names.slice(0, 4).join('; ')}; and ${names.length - 4} more` : names.join('; ');
  const counted = (n: number) => `${n} ${n === 1 ? 'parameter' : 'parameters'}`;
  return [
    `copied ${counted(copied.length)}`,
    ...(initialised.length > 0
      ? [
          `initialised ${counted(initialised.length)}: ${list(initialised.map(({ name, reason }) => `${name} (${reason})`))}`,
        ]
      : []),
    ...(ignored.length > 0 ? [`ignored ${counted(ignored.length)} that the model has not: ${list(ignored)}`] : []),
  ];
}
