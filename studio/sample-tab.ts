/** The tab *Sample*: ties controls, address, worker, pictures, costs and map together. The newest wish ends the one before. */
import { usualLabels } from '../sampling/classes.ts';
import { isGuided } from '../sampling/request.ts';
import type { LoadedModel, Sampled } from '../web/protocol.ts';
import { createControls, nameOf } from './controls.ts';
import { createCosts } from './costs.ts';
import { byId, make } from './dom.ts';
import { drawMap, markMap } from './map.ts';
import { paint } from './paint.ts';
import { createScatter } from './scatter.ts';
import type { Drawn } from './session.ts';
import { AutoencoderWanted, type Opened } from './shared-model.ts';
import { changesOf, fitted, type State, stateOf } from './state.ts';
import type { Tab, TabContext } from './tab.ts';
import { createTrouble } from './trouble.ts';
import { count, modelText } from './words.ts';

/** Pictures in the row where all are of one class or of none, and most where there is one of each. */
const ROW = 10;

export function mountTab(root: HTMLElement, { params, write, shared }: TabContext): Tab {
  let state: State = stateOf(params());
  let known: Opened | null = null;
  /** What was drawn last, or is being drawn. */
  let drawn = '';
  let drawing = new AbortController();
  let mapping: AbortController | null = null;
  let inView = false;

  const costs = createCosts();
  const scatter = createScatter((cell) => choose({ ...state, ...cell }));
  const controls = createControls((change) => choose({ ...state, ...change }));
  const [status, progress] = [byId('status', 'p'), byId('progress', 'progress')];
  const trouble = createTrouble(byId('trouble', 'div'), () => void shared.again());
  const mapButton = byId('map-button', 'button');
  const say = (text: string) => {
    status.textContent = text;
  };
  const working = (share: number | null) => {
    progress.classList.toggle('idle', share === null);
    progress.value = share ?? 0;
  };

  function choose(next: State): void {
    state = next;
    write(changesOf(next));
    controls.show(known ? own(state, known.model) : state);
    void follow(shared.get());
  }

  /** Draws the state with the model that is being opened, in place of what was under way. */
  async function follow(opening: Promise<Opened>): Promise<void> {
    drawing.abort();
    drawing = new AbortController();
    const { signal } = drawing;
    trouble.hide();
    try {
      if (!shared.opened || shared.opened !== known) {
        say('Reading the model.');
        root.dataset.state = 'loading';
      }
      const opened = await opening;
      if (signal.aborted) return;
      if (opened !== known) adopt(opened);
      await draw(opened, signal);
    } catch (error) {
      if (!signal.aborted) fail(error);
    }
    if (!signal.aborted) working(null);
  }

  function fail(error: unknown): void {
    if (!trouble.show(error, shared.waiting === null ? 'again' : 'autoencoder')) return;
    if (shared.waiting) forget(shared.waiting);
    drawn = '';
    say(error instanceof AutoencoderWanted ? 'Waiting for its autoencoder.' : 'Nothing could be drawn.');
    root.dataset.state = 'failed';
  }

  /** Shows a model that has been opened. */
  function adopt(opened: Opened): void {
    known = opened;
    mapping?.abort();
    const { model, fileName } = opened;
    byId('model-text', 'p').textContent = modelText(opened);
    byId('shipped', 'button').hidden = fileName === null;
    byId('map', 'div').replaceChildren();
    mapButton.disabled = false;
    controls.offer(model);
    scatter.show(model.evaluation);
  }

  /** Takes down what was shown of a model whose place another has taken, of which nothing can be shown yet. */
  function forget(fileName: string): void {
    known = null;
    mapping?.abort();
    for (const id of ['pictures', 'map']) byId(id, 'div').replaceChildren();
    scatter.show(undefined);
    mapButton.disabled = true;
    byId('model-text', 'p').textContent = `${fileName}: nothing to be shown yet.`;
    byId('shipped', 'button').hidden = false;
  }

  async function draw({ model, session, decoder }: Opened, signal: AbortSignal): Promise<void> {
    const shown = own(state, model);
    controls.show(shown);
    markMap({ steps: shown.steps, blocks: shown.blocks! });
    scatter.mark({ steps: shown.steps, blocks: shown.blocks! }, shown.guidance);
    costs.showModel(model, shown.blocks!);
    root.dataset.state = 'drawing';
    drawn = JSON.stringify(state);
    const request = requestOf(shown, model);
    const { steps, blocks, labels, guidance } = request;
    say(`Drawing in ${count(steps, 'step')}, ${count(blocks, 'block')} each.`);
    working(0);
    const canvases = frames(model, labels);
    const onPictures = (pictures: Sampled, rung: number) => {
      if (signal.aborted) return;
      canvases.forEach((canvas, i) => void paint(canvas, pictures, i));
      if (rung < steps) say(`In ${count(rung, 'step')}; ${steps} are coming.`);
    };
    const onProgress = (share: number) => {
      if (signal.aborted) return;
      working(share);
      // Nothing is computed before all of its blocks are there.
      if (share > 0) costs.loaded();
    };
    const pictures = await session.draw(request, { signal, onPictures, onProgress });
    if (signal.aborted) return;
    costs.show({ model, steps, blocks, guided: isGuided(guidance), pictures, decoder });
    const warning = pictures.decoded?.warning;
    say(`Drawn in ${count(steps, 'step')}, ${count(blocks, 'block')} each.${warning ? ` Note: ${warning}.` : ''}`);
    root.dataset.state = 'drawn';
  }

  async function map({ model, session }: Opened): Promise<void> {
    mapping = new AbortController();
    const { signal } = mapping;
    const { guidance, seed, label } = own(state, model);
    // Of one of each, the last of the row that is easy to recognise; the same noise as there.
    const index = label === null ? Math.min(7, model.config.classes - 1) : 0;
    const of = label ?? usualLabels(model.config, 1, index)[0]!;
    mapButton.textContent = 'Stop';
    trouble.hide();
    try {
      await drawMap({
        model,
        caption: `${nameOf(model, of)}, seed ${seed}: the time of one picture alone.`,
        draw: (cell) => session.draw({ ...cell, labels: [of], guidance, seed, first: index }, { signal }),
        onChoose: (cell) => choose({ ...state, ...cell }),
      });
      const now = own(state, model);
      markMap({ steps: now.steps, blocks: now.blocks! });
      say('The map is drawn.');
    } catch (error) {
      if (!signal.aborted) fail(error);
    } finally {
      mapping = null;
      mapButton.textContent = 'Draw the map';
    }
  }

  byId('shipped', 'button').addEventListener('click', () => void shared.open([]));
  mapButton.disabled = true;
  mapButton.addEventListener('click', () => {
    if (mapping) mapping.abort();
    else if (known && known === shared.opened) void map(known);
    else void follow(shared.get());
  });
  shared.onOpening((opening) => {
    if (inView) void follow(opening);
  });
  controls.show(state);

  return {
    show() {
      inView = true;
      state = stateOf(params());
      // What is being opened may have been chosen in another tab.
      const isShown = known && known === shared.opened && !shared.isOpening;
      if (!isShown || JSON.stringify(state) !== drawn) void follow(shared.get());
    },
    hide() {
      inView = false;
      if (root.dataset.state === 'drawn') return;
      drawing.abort();
      drawn = '';
    },
    drop({ files }) {
      if (files.length > 0) void shared.open([...files]);
    },
  };
}

const own = (state: State, { lengths, config }: LoadedModel): State =>
  fitted(
    state,
    lengths.map(({ blocks }) => blocks),
    config,
  );

function requestOf({ steps, blocks, label, guidance, seed }: State, { config }: LoadedModel): Drawn {
  const each = config.unconditional ? ROW : Math.min(ROW, config.classes);
  const labels = label === null ? usualLabels(config, each) : new Array<number>(ROW).fill(label);
  return { steps, blocks: blocks!, labels, guidance, seed };
}

/** Canvases for these classes: those that are there where they are as many, so that pictures change in place. */
function frames(model: LoadedModel, labels: readonly (number | null)[]): HTMLCanvasElement[] {
  const row = byId('pictures', 'div');
  if (row.childElementCount !== labels.length) {
    row.replaceChildren(
      ...labels.map(() =>
        make('figure', {}, make('canvas', { width: 1, height: 1, role: 'img' }), make('figcaption', {})),
      ),
    );
  }
  return [...row.querySelectorAll('figure')].map((figure, i) => {
    const name = nameOf(model, labels[i]!);
    const canvas = figure.querySelector('canvas')!;
    canvas.setAttribute('aria-label', name);
    figure.querySelector('figcaption')!.textContent = name;
    return canvas;
  });
}
