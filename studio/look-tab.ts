/** The tab *Look inside*: ties the address, the worker, the pictures, the attention and the times together. The newest wish ends the one before. */

import { usualSteps } from '../model/config.ts';
import { usualLabels } from '../sampling/classes.ts';
import type { Inspection } from '../sampling/inspect.ts';
import type { LoadedModel } from '../web/protocol.ts';
import { nameOf, names } from './controls.ts';
import { byId, make } from './dom.ts';
import { createAttentionMap } from './look-attention.ts';
import { decodedInspection, showPictures } from './look-pictures.ts';
import { fittedLook, type Look, lookChanges, lookOf } from './look-state.ts';
import { showTimes } from './look-times.ts';
import { paint } from './paint.ts';
import type { Opened } from './shared-model.ts';
import { changesOf, fitted, STEPS, type State, stateOf } from './state.ts';
import type { Tab, TabContext } from './tab.ts';
import { createTrouble } from './trouble.ts';
import { count } from './words.ts';

/** Of one of each class the one that is shown, with its noise in Sample's row. */
const SHOWN_CLASS = 7;

export function mountTab(root: HTMLElement, { params, write, shared }: TabContext): Tab {
  let state: State = stateOf(params());
  let look: Look = lookOf(params());
  let known: Opened | null = null;
  let seen: { readonly inspection: Inspection; readonly of: string } | null = null;
  let looking = new AbortController();
  let timing: AbortController | null = null;
  let inView = false;

  const inputs = {
    step: byId('look-step', 'input'),
    steps: byId('look-steps', 'select'),
    blocks: byId('look-blocks', 'select'),
    label: byId('look-label', 'select'),
    guidance: byId('look-guidance', 'input'),
    seed: byId('look-seed', 'input'),
    shown: byId('look-shown', 'select'),
    block: byId('look-block', 'select'),
    head: byId('look-head', 'select'),
  };
  const trouble = createTrouble(byId('look-trouble', 'div'), () => void shared.again());
  const map = createAttentionMap((patch) => choose({}, { patch }));
  const timeButton = byId('look-times-button', 'button');
  const working = (is: boolean) => byId('look-progress', 'progress').classList.toggle('idle', !is);
  const say = (text: string) => {
    byId('look-status', 'p').textContent = text;
  };

  function choose(what: Partial<State>, where: Partial<Look>): void {
    state = { ...state, ...what };
    look = { ...look, ...where };
    write({ ...changesOf(state), ...lookChanges(look) });
    void follow(shared.get());
  }

  /** What is asked of the worker, and the choices that it follows from. */
  function wanted({ model, decoder }: Opened) {
    const shown = fitted(state, lengthsOf(model), model.config);
    const { heads, imageSize, patch } = model.config;
    const blocks = shown.blocks!;
    const running = runningOf(model, blocks);
    // A velocity of latents is no picture, and cannot be decoded.
    const of: Look = decoder ? { ...look, shown: 'picture' } : look;
    const at = fittedLook(of, { steps: shown.steps, blocks: running, heads, patches: (imageSize / patch) ** 2 });
    const first = shown.label === null ? Math.min(SHOWN_CLASS, model.config.classes - 1) : 0;
    const { steps, guidance, seed } = shown;
    const label = shown.label ?? usualLabels(model.config, 1, first)[0]!;
    const request = { label, steps, blocks, guidance, seed, first, at: at.step, block: at.block };
    return { shown, at, running, request };
  }

  /** Looks with the model that is being opened, in place of what was under way, or shows anew what has been seen. */
  async function follow(opening: Promise<Opened>): Promise<void> {
    looking.abort();
    looking = new AbortController();
    const { signal } = looking;
    trouble.hide();
    try {
      if (!shared.opened || shared.opened !== known) {
        say('Reading the model.');
        working(true);
      }
      const opened = await opening;
      if (signal.aborted) return;
      if (opened !== known) adopt(opened);
      const { shown, at, running, request } = wanted(opened);
      fill(opened.model, { shown, at, running });
      const key = JSON.stringify(request);
      if (seen?.of !== key) {
        root.dataset.state = 'looking';
        say('Looking.');
        working(true);
        const inspection = await opened.session.inspect(request, signal);
        if (signal.aborted) return;
        seen = { inspection: decodedInspection(inspection), of: key };
      }
      show(seen.inspection, at);
      const name = nameOf(opened.model, request.label);
      say(`${name}, step ${at.step + 1} of ${shown.steps}, on its way with ${count(request.blocks, 'block')}.`);
      root.dataset.state = 'seen';
    } catch (error) {
      if (!signal.aborted) fail(error);
    }
    if (!signal.aborted) working(false);
  }

  function fail(error: unknown): void {
    if (!trouble.show(error, shared.waiting === null ? 'again' : 'autoencoder')) return;
    seen = null;
    if (shared.waiting) known = null;
    say('Nothing could be seen.');
    root.dataset.state = 'failed';
  }

  /** Offers what a model has. */
  function adopt(opened: Opened): void {
    known = opened;
    seen = null;
    const { model } = opened;
    timing?.abort();
    byId('look-times-table', 'table').hidden = true;
    byId('look-times-text', 'p').textContent = '';
    offer(
      inputs.steps,
      usualSteps(model.config, STEPS).map((steps) => [`${steps}`, `${steps}`]),
    );
    offer(
      inputs.blocks,
      lengthsOf(model).map((blocks) => [`${blocks}`, `${blocks}`]),
    );
    offer(
      inputs.label,
      model.config.unconditional ? [['', nameOf(model, null)]] : names(model).map((name, label) => [`${label}`, name]),
    );
    for (const input of [inputs.label, inputs.guidance]) input.disabled = model.config.unconditional ?? false;
    const heads = Array.from({ length: model.config.heads }, (_, i): [string, string] => [`${i}`, `head ${i + 1}`]);
    offer(inputs.head, [['', 'mean of all heads'], ...heads]);
    inputs.shown.disabled = opened.decoder !== null;
  }

  /** Shows the choices. */
  function fill(model: LoadedModel, { shown, at, running }: Omit<ReturnType<typeof wanted>, 'request'>): void {
    const first = Math.min(SHOWN_CLASS, model.config.classes - 1);
    offer(
      inputs.block,
      Array.from({ length: running }, (_, i) => [`${i}`, `block ${i + 1}`]),
    );
    inputs.step.max = `${shown.steps - 1}`;
    inputs.step.disabled = shown.steps === 1;
    const label = shown.label ?? usualLabels(model.config, 1, first)[0] ?? '';
    const values = { ...shown, ...at, label, head: at.head ?? '' };
    for (const [name, input] of Object.entries(inputs)) input.value = `${values[name as keyof typeof inputs]}`;
    const said = `${at.step + 1} of ${shown.steps}`;
    byId('look-step-value', 'output').textContent = said;
    inputs.step.setAttribute('aria-valuetext', `step ${said}`);
  }

  function show(inspection: Inspection, at: ReturnType<typeof wanted>['at']): void {
    showPictures(byId('look-pictures', 'div'), inspection, at.shown);
    const [height, width, channels] = inspection.shape;
    const longest = inspection.lengths.at(-1)!;
    paint(byId('look-canvas', 'canvas'), { values: longest.picture, shape: [1, height, width, channels] }, 0);
    map.show(inspection.attention, at.patch, at.head);
  }

  async function measure({ model, session }: Opened): Promise<void> {
    timing = new AbortController();
    const { signal } = timing;
    const { blocks, guidance } = fitted(state, lengthsOf(model), model.config);
    timeButton.textContent = 'Stop';
    trouble.hide();
    byId('look-times-text', 'p').textContent = 'Measuring.';
    try {
      const breakdown = await session.breakdown({ blocks: blocks!, guidance }, signal);
      if (!signal.aborted) showTimes(breakdown, `One evaluation for one picture, ${count(blocks!, 'block')}`);
    } catch (error) {
      byId('look-times-text', 'p').textContent = '';
      if (!signal.aborted) fail(error);
    } finally {
      timing = null;
      timeButton.textContent = 'Measure';
    }
  }

  const number = (input: HTMLInputElement | HTMLSelectElement) => Number(input.value);
  inputs.step.addEventListener('input', () => choose({}, { step: number(inputs.step) }));
  inputs.steps.addEventListener('change', () => choose({ steps: number(inputs.steps) }, { step: null }));
  inputs.blocks.addEventListener('change', () => choose({ blocks: number(inputs.blocks) }, {}));
  inputs.label.addEventListener('change', () => choose({ label: number(inputs.label) }, {}));
  inputs.block.addEventListener('change', () => choose({}, { block: number(inputs.block) }));
  inputs.head.addEventListener('change', () =>
    choose({}, { head: inputs.head.value === '' ? null : number(inputs.head) }),
  );
  inputs.shown.addEventListener('change', () =>
    choose({}, { shown: inputs.shown.value === 'velocity' ? 'velocity' : 'picture' }),
  );
  for (const key of ['guidance', 'seed'] as const) {
    const input = inputs[key];
    input.addEventListener('change', () => {
      if (input.value !== '' && input.checkValidity()) choose({ [key]: input.valueAsNumber }, {});
      else input.reportValidity();
    });
  }
  byId('look-controls', 'form').addEventListener('submit', (event) => event.preventDefault());
  timeButton.addEventListener('click', () => {
    if (timing) timing.abort();
    else if (known) void measure(known);
  });
  shared.onOpening((opening) => {
    if (inView) void follow(opening);
  });

  return {
    show() {
      inView = true;
      [state, look] = [stateOf(params()), lookOf(params())];
      void follow(shared.get());
    },
    hide() {
      inView = false;
      looking.abort();
    },
    drop({ files }) {
      if (files.length > 0) void shared.open([...files]);
    },
  };
}

const lengthsOf = ({ lengths }: LoadedModel): number[] => lengths.map(({ blocks }) => blocks);

/** Blocks that change the output at a length: whole groups. */
const runningOf = ({ config }: LoadedModel, blocks: number): number =>
  config.lengths ? blocks - (blocks % config.lengths.group) : config.depth;

/** Sets what a list offers, where that is not what it offers already. */
function offer(select: HTMLSelectElement, options: readonly (readonly [value: string, text: string])[]): void {
  const now = [...select.options].map(({ value, text }) => `${value}=${text}`).join();
  if (now === options.map(([value, text]) => `${value}=${text}`).join()) return;
  select.replaceChildren(...options.map(([value, textContent]) => make('option', { value, textContent })));
}
