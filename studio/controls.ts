/** The controls of what is drawn: they show a state, and tell of another one. */
import { usualSteps } from '../model/config.ts';
import type { LoadedModel } from '../web/protocol.ts';
import { byId, make } from './dom.ts';
import { fitted, STEPS, type State } from './state.ts';

/** The names of the classes that a model knows. */
export const names = ({ config, classNames }: LoadedModel): string[] =>
  Array.from(
    { length: config.unconditional ? 0 : config.classes },
    (_, label) => classNames?.[label] ?? `class ${label}`,
  );

/** The name of a class. */
export const nameOf = (model: LoadedModel, label: number | null): string =>
  label === null ? 'no class' : names(model)[label]!;

export interface Controls {
  /** Sets what there is to choose from. */
  offer(model: LoadedModel): void;
  show(state: State): void;
}

/** @param onChange told of what the user has chosen. */
export function createControls(onChange: (change: Partial<State>) => void): Controls {
  const steps = byId('steps', 'input');
  const blocks = byId('blocks', 'input');
  const label = byId('label', 'select');
  const guidance = byId('guidance', 'input');
  const seed = byId('seed', 'input');
  let lengths: readonly number[] = [];
  const say = (slider: HTMLInputElement, value: number, text: string) => {
    byId(`${slider.id}-value`, 'output').textContent = `${value}`;
    slider.setAttribute('aria-valuetext', text);
  };
  steps.addEventListener('input', () => onChange({ steps: STEPS[Number(steps.value)]! }));
  blocks.addEventListener('input', () => onChange({ blocks: lengths[Number(blocks.value)]! }));
  label.addEventListener('change', () => onChange({ label: label.value === '' ? null : Number(label.value) }));
  const changed = (input: HTMLInputElement, key: 'guidance' | 'seed') =>
    input.addEventListener('change', () => {
      if (input.value !== '' && input.checkValidity()) onChange({ [key]: input.valueAsNumber });
      else input.reportValidity();
    });
  changed(guidance, 'guidance');
  changed(seed, 'seed');
  byId('noise', 'button').addEventListener('click', () => {
    onChange({ seed: Math.floor(Math.random() * 2 ** 16) });
  });
  byId('controls', 'form').addEventListener('submit', (event) => event.preventDefault());
  return {
    offer(model) {
      lengths = model.lengths.map((length) => length.blocks);
      steps.max = `${usualSteps(model.config, STEPS).length - 1}`;
      blocks.max = `${lengths.length - 1}`;
      blocks.disabled = lengths.length === 1;
      const options = names(model).map((text, value) => make('option', { value: `${value}`, textContent: text }));
      const { unconditional = false } = model.config;
      const first = unconditional ? 'No class' : 'One of each';
      label.replaceChildren(make('option', { value: '', textContent: first }), ...options);
      // A model without classes leaves no choice.
      label.disabled = unconditional;
      guidance.disabled = unconditional;
    },
    show(state) {
      steps.value = `${STEPS.indexOf(state.steps as (typeof STEPS)[number])}`;
      say(steps, state.steps, `${state.steps} steps`);
      if (lengths.length > 0) {
        const { blocks: now } = fitted(state, lengths, { classes: Number.POSITIVE_INFINITY, ignoreDt: true });
        blocks.value = `${lengths.indexOf(now!)}`;
        say(blocks, now!, `${now} of ${lengths.at(-1)} blocks`);
      }
      label.value = state.label === null ? '' : `${state.label}`;
      guidance.value = `${state.guidance}`;
      seed.value = `${state.seed}`;
    },
  };
}
