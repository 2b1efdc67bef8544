/** The tab *Sample*: ties controls, URL, worker, pictures, costs and map together. The newest wish ends the one before. */
import { ConfigError, InterruptedError } from '../engine/errors.ts';
import { isGuided } from '../sampling/request.ts';
import type { LoadedModel, Sampled } from '../web/protocol.ts';
import { createControls, nameOf } from './controls.ts';
import { createCosts } from './costs.ts';
import { byId, make } from './dom.ts';
import { drawMap, markMap } from './map.ts';
import { paint } from './paint.ts';
import { createSession, type Drawn, type Session, type Source } from './session.ts';
import { fitted, hashOf, parseHash, type State } from './state.ts';
import { count, troubleText } from './words.ts';
import { workerStarter } from './worker.ts';

const SHIPPED = 'models/fashion-mnist.safetensors';
/** Pictures in the row where all are of one class, and most where there is one of each. */
const ROW = 10;

function start(): void {
  let state: State = parseHash(location.hash);
  const startWorker = workerStarter();
  let session: Session | null = null;
  let model: LoadedModel | null = null;
  /** What is loaded, or was to be. */
  let source: Source = new URL(SHIPPED, document.baseURI).href;
  let drawing = new AbortController();
  let mapping: AbortController | null = null;

  const costs = createCosts();
  const controls = createControls((change) => choose({ ...state, ...change }));
  const [status, progress, trouble] = [byId('status', 'p'), byId('progress', 'progress'), byId('trouble', 'div')];
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
    history.replaceState(null, '', hashOf(state));
    refresh();
  }

  /** Shows the state, and draws it. */
  function refresh(): void {
    const shown = model ? own(state, model) : state;
    controls.show(shown);
    if (!model) return;
    markMap({ steps: shown.steps, blocks: shown.blocks! });
    costs.showModel(model, shown.blocks!);
    void attempt((signal) => draw(shown, model!, signal));
  }

  /** Runs work in place of what was under way; an error is shown. */
  async function attempt(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    drawing.abort();
    drawing = new AbortController();
    const { signal } = drawing;
    trouble.hidden = true;
    try {
      await work(signal);
    } catch (error) {
      if (!signal.aborted) fail(error);
    }
    if (!signal.aborted) working(null);
  }

  function fail(error: unknown): void {
    if (error instanceof InterruptedError) return;
    const { isSecureContext } = globalThis;
    byId('trouble-text', 'p').textContent = troubleText(error, { isSecureContext, hasWebGPU: 'gpu' in navigator });
    trouble.hidden = false;
    say('Nothing could be drawn.');
    document.body.dataset.state = 'failed';
  }

  async function draw(shown: State, model: LoadedModel, signal: AbortSignal): Promise<void> {
    document.body.dataset.state = 'drawing';
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
      if (!signal.aborted) working(share);
    };
    const pictures = await session!.draw(request, { signal, onPictures, onProgress });
    if (signal.aborted) return;
    costs.show({ model, steps, blocks, guided: isGuided(guidance), pictures });
    say(`Drawn in ${count(steps, 'step')}, ${count(blocks, 'block')} each.`);
    document.body.dataset.state = 'drawn';
  }

  async function open(wanted: Source): Promise<void> {
    mapping?.abort();
    await attempt(async () => {
      say('Reading the model.');
      document.body.dataset.state = 'loading';
      session ??= createSession(startWorker());
      const loaded = await session.load(wanted);
      const { channels } = loaded.config;
      if (channels !== 1 && channels !== 3) {
        throw new ConfigError(`this model makes latents of ${channels} channels; pictures have 1 or 3`);
      }
      [model, source] = [loaded, wanted];
    });
    if (!trouble.hidden || !model) return;
    const shipped = !(source instanceof File);
    const { imageSize, depth, classes } = model.config;
    const name = source instanceof File ? source.name : 'The shipped model, Fashion-MNIST';
    byId('model-text', 'p').textContent =
      `${name}: ${imageSize} \u00d7 ${imageSize} pixels, ${count(depth, 'block')}, ${classes} classes.`;
    byId('shipped', 'button').hidden = shipped;
    byId('map', 'div').replaceChildren();
    mapButton.disabled = false;
    controls.offer(model);
    refresh();
  }

  async function map(model: LoadedModel): Promise<void> {
    mapping = new AbortController();
    const { signal } = mapping;
    const { guidance, seed, label } = own(state, model);
    // Of one of each, the last of the row that is easy to recognise; the same noise as there.
    const index = label === null ? Math.min(7, model.config.classes - 1) : 0;
    const drawn = label ?? index;
    mapButton.textContent = 'Stop';
    trouble.hidden = true;
    try {
      await drawMap({
        model,
        caption: `${nameOf(model, drawn)}, seed ${seed}: the time of one picture alone.`,
        draw: (cell) => session!.draw({ ...cell, labels: [drawn], guidance, seed, first: index }, { signal }),
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

  /** A new worker for what is loaded, whatever became of the one before. */
  async function again(): Promise<void> {
    await session?.dispose();
    session = null;
    await open(source);
  }

  byId('again', 'button').addEventListener('click', () => void again());
  byId('shipped', 'button').addEventListener('click', () => void open(new URL(SHIPPED, document.baseURI).href));
  mapButton.disabled = true;
  mapButton.addEventListener('click', () => {
    if (mapping) mapping.abort();
    else if (model) void map(model);
  });
  window.addEventListener('hashchange', () => {
    state = parseHash(location.hash);
    refresh();
  });
  const files = byId('file', 'input');
  files.addEventListener('change', () => {
    const [file] = files.files ?? [];
    files.value = '';
    if (file) void open(file);
  });
  acceptDrops((file) => void open(file));
  controls.show(state);
  void open(source);
}

const own = (state: State, { lengths, config }: LoadedModel): State =>
  fitted(
    state,
    lengths.map(({ blocks }) => blocks),
    config.classes,
  );

function requestOf({ steps, blocks, label, guidance, seed }: State, { config }: LoadedModel): Drawn {
  const labels = Array.from({ length: label === null ? Math.min(ROW, config.classes) : ROW }, (_, i) => label ?? i);
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

/** Files that are dropped anywhere on the page. */
function acceptDrops(onFile: (file: File) => void): void {
  const over = (is: boolean) => document.body.classList.toggle('dropping', is);
  window.addEventListener('dragover', (event) => {
    event.preventDefault();
    over(true);
  });
  window.addEventListener('dragleave', () => over(false));
  window.addEventListener('drop', (event) => {
    event.preventDefault();
    over(false);
    const [file] = event.dataTransfer?.files ?? [];
    if (file) onFile(file);
  });
}

start();
