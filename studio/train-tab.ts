/** The tab *Train*: ties sources, run, curves, planes and tables together. */
import type { ModelConfig } from '../model/config.ts';
import type { TrainConfig } from '../training/config.ts';
import { droppedFiles, type FileAt, fileAt } from '../web/files.ts';
import type { Shown } from '../web/protocol.ts';
import { byId, make } from './dom.ts';
import type { Tab, TabContext } from './tab.ts';
import { type Cell, createCells } from './train-cells.ts';
import { createCurves } from './train-curves.ts';
import { createFlowView } from './train-flow.ts';
import {
  cellsOf,
  classesOf,
  fashionLesson,
  filesLesson,
  isPlane,
  type Lesson,
  pointsLesson,
  requestOf,
  type Size,
  SOURCES,
  type Source,
  showOf,
  sourceOf,
} from './train-request.ts';
import { createRun, isBusy, type Phase, underWay } from './train-run.ts';
import { createSquare } from './train-square.ts';
import { plainly } from './train-words.ts';
import { createTrouble } from './trouble.ts';
import { count, time } from './words.ts';

/** Milliseconds between two drawings of the numbers of a run: updates come faster than anybody reads. */
const OFTEN = 100;

/** Where nothing is chosen. */
const STEPS: Readonly<Record<Source, number>> = { points: 2000, fashion: 3000, pictures: 3000 };

export function mountTab(root: HTMLElement, { params, write, shared, startWorker, open: openTab }: TabContext): Tab {
  let source: Source = SOURCES.find((known) => known === params().get('train-source')) ?? 'points';
  let files: readonly FileAt[] = [];
  /** Of the run that is there. */
  let model: ModelConfig | null = null;
  let steps = 0;
  /** Of the run that is about to begin, until it takes that one's place. */
  let next: { readonly model: ModelConfig; readonly steps: number } | null = null;
  let due: ReturnType<typeof setTimeout> | null = null;

  const square = createSquare(() => offer());
  const curves = createCurves();
  const flow = createFlowView(() => square.points);
  const cells = createCells(choose);
  const trouble = createTrouble(byId('train-trouble', 'div'), () => (keptStep() === null ? begin() : resume()));
  const inputs = {
    steps: byId('train-steps', 'input'),
    batch: byId('train-batch', 'input'),
    lr: byId('train-lr', 'input'),
    size: byId('train-size', 'select'),
    side: byId('train-side', 'select'),
    channels: byId('train-channels', 'select'),
  };
  const [start, pause, stop] = ['train-start', 'train-pause', 'train-stop'].map((id) => byId(id, 'button')) as [
    HTMLButtonElement,
    HTMLButtonElement,
    HTMLButtonElement,
  ];
  const opening = byId('train-open', 'input');
  const progress = byId('train-progress', 'progress');
  const say = (text: string) => {
    byId('train-status', 'p').textContent = text;
  };

  const run = createRun(startWorker, {
    onPhase: showPhase,
    onBegun() {
      if (next) lay(next.model, next.steps);
      next = null;
    },
    onUpdate: () => {
      due ??= setTimeout(showUpdates, OFTEN);
    },
    onShown: (step, shown) => showDrawn(step, shown),
    onRecovered: (step) => say(`The GPU was lost; training has gone on from update ${step}.`),
    onFailure: (error) => trouble.show(plainly(error, keptStep())),
  });

  /** The update from which the run that is there, or about to begin, can go on. */
  const keptStep = (): number | null => (next ? null : (run.kept?.step ?? null));

  /** What is chosen, as a lesson; null where there is nothing to learn yet. */
  function lesson(): Lesson | null {
    const size = inputs.size.value as Size;
    if (source === 'points') return square.points.length > 0 ? pointsLesson(square.points) : null;
    if (source === 'fashion') return fashionLesson(size, document.baseURI);
    if (files.length === 0) return null;
    const channels = inputs.channels.value === '1' ? 1 : 3;
    return filesLesson(files, size, { size: Number(inputs.side.value), channels });
  }

  const chosen = (): Pick<TrainConfig, 'steps' | 'lr' | 'batch'> => ({
    steps: inputs.steps.valueAsNumber,
    batch: inputs.batch.valueAsNumber,
    lr: inputs.lr.valueAsNumber,
  });

  async function begin(): Promise<void> {
    const wanted = lesson();
    if (!wanted || !byId('train-controls', 'form').reportValidity()) return;
    next = { model: wanted.model, steps: chosen().steps };
    await run.begin(requestOf(wanted, chosen()));
  }

  /** Goes on; after the last update for as many again. */
  async function resume(): Promise<void> {
    if (!model || !run.kept || !byId('train-controls', 'form').reportValidity()) return;
    const own = lessonOf(model);
    if (!own && !isPlane(model)) {
      say('Choose the pictures that it was trained on; then it goes on.');
      return;
    }
    next = null;
    if (run.kept.step >= steps) steps = run.kept.step + chosen().steps;
    const { lr } = chosen();
    await run.resume({
      ...(own ? { data: own.data } : {}),
      train: { steps, lr },
      show: showOf(model, steps),
    });
  }

  /** What a run of this model can go on with, as it is chosen now; checkpoints have points in them. */
  function lessonOf(model: ModelConfig): Lesson | null {
    if (isPlane(model) || source === 'points') return null;
    if (source === 'fashion') return lesson();
    const { imageSize, channels } = model;
    return files.length > 0 ? filesLesson(files, 'small', { size: imageSize, channels: channels as 1 | 3 }) : null;
  }

  /** Makes room for what a model draws. */
  function lay(next: ModelConfig, updates: number): void {
    [model, steps] = [next, updates];
    const { blocks, steps: shownSteps } = cellsOf(next);
    cells.lay(blocks, shownSteps, isPlane(next));
    byId('train-cells-text', 'p').textContent = isPlane(next)
      ? 'All from the same noise. Choose one to see its way above.'
      : 'All from the same noise, drawn by the moving average of the weights.';
    flow.clear();
    choose({ steps: shownSteps.at(-1)!, blocks: blocks.at(-1)! });
    curves.show([], updates);
  }

  function choose(cell: Cell): void {
    cells.mark(cell);
    flow.choose(cell);
  }

  function showPhase(phase: Phase): void {
    root.dataset.state = phase;
    const busy = isBusy(phase);
    // What it said was of the phase before.
    trouble.hide();
    const canGoOn = !busy && run.kept !== null;
    start.hidden = busy;
    pause.hidden = !(busy || canGoOn);
    pause.disabled = phase === 'pausing';
    pause.textContent = busy ? 'Pause' : phase === 'done' ? 'Train on' : 'Resume';
    stop.hidden = !busy;
    start.textContent = run.kept ? 'Train anew' : 'Train';
    start.classList.toggle('train-main', !canGoOn);
    pause.classList.toggle('train-main', canGoOn);
    for (const input of [inputs.batch, inputs.size, inputs.side, inputs.channels, inputs.steps, inputs.lr]) {
      input.disabled = busy;
    }
    for (const radio of radios()) radio.disabled = busy;
    opening.disabled = busy;
    byId('train-download', 'button').disabled = busy || !run.kept;
    byId('train-use', 'button').hidden = busy || !run.kept || model === null || isPlane(model);
    progress.classList.toggle('idle', !busy);
    if (phase === 'starting') say('Reading the data and compiling the update.');
    if (phase === 'pausing') say('Pausing after this update.');
    if (phase === 'paused') say(`Paused after ${count(run.kept!.step, 'update')} of ${steps}.`);
    if (phase === 'stopped') say(`Stopped. What is kept is of ${count(run.kept?.step ?? 0, 'update')}.`);
    if (phase === 'done') say(`Trained for ${count(run.kept!.step, 'update')}.`);
    if (phase === 'none') say('Nothing is trained yet.');
    if (phase === 'failed') say('The run has stopped.');
    if (!busy) showUpdates();
  }

  function showUpdates(): void {
    if (due !== null) clearTimeout(due);
    due = null;
    const { updates, phase } = run;
    const last = updates.at(-1);
    if (!last) return;
    curves.show(updates, steps);
    progress.value = last.step / steps;
    if (phase !== 'running') return;
    const some = updates.slice(-20);
    const each = some.reduce((sum, { seconds }) => sum + seconds, 0) / some.length;
    const left = (steps - last.step) * each * 1000;
    const skipped = Math.round((100 * updates.reduce((sum, update) => sum + update.skipped, 0)) / updates.length);
    say(
      `Update ${last.step} of ${steps}, ${time(each * 1000)} each, about ${time(left)} left. ${skipped} % of the work of blocks was spared.`,
    );
  }

  function showDrawn(step: number, shown: Shown): void {
    root.dataset.drawn = `${step}`;
    cells.fill(shown);
    flow.show(shown.flow);
  }

  const radios = () => root.querySelectorAll<HTMLInputElement>('input[name="train-source"]');

  /** Shows what belongs to the source that is chosen. */
  function showSource(): void {
    for (const radio of radios()) radio.checked = radio.value === source;
    for (const name of SOURCES) byId(`train-${name}`, 'div').hidden = name !== source;
    byId('train-size-field', 'div').hidden = source === 'points';
    const { train } = lesson() ?? fashionLesson('small', document.baseURI);
    inputs.steps.value = params().get('train-steps') ?? `${STEPS[source]}`;
    inputs.batch.value = `${train.batch}`;
    inputs.lr.value = `${train.lr}`;
    offer();
  }

  function offer(): void {
    start.disabled = lesson() === null;
  }

  function take(given: readonly FileAt[]): void {
    // Files that lie in no folder are of one class.
    const names = given.map(({ path }) => path.split('/').filter((part) => part !== ''));
    const loose = names.every((parts) => parts.length === 1);
    files = loose ? given.map(({ file, path }) => ({ file, path: `pictures/${path}` })) : given;
    const classes = classesOf(files);
    const shownNames = classes.slice(0, 6).join(', ') + (classes.length > 6 ? ', \u2026' : '');
    byId('train-files-text', 'p').textContent =
      files.length === 0
        ? 'There are no files in what was chosen.'
        : `${count(files.length, 'file')} in ${classes.length === 1 ? '1 class' : `${classes.length} classes`}: ${shownNames}.`;
    offer();
  }

  async function openFile(file: Blob): Promise<void> {
    trouble.hide();
    try {
      const opened = await run.open(file);
      const { config, classNames } = opened;
      const { train, data } = opened.run!;
      next = null;
      source = sourceOf(config, classNames);
      showSource();
      if (data && source === 'points') square.set(data.values);
      lay(config, train.steps);
      inputs.steps.value = `${train.steps}`;
      inputs.batch.value = `${train.batch}`;
      inputs.lr.value = `${train.lr}`;
      showPhase(run.phase);
      await run.look(showOf(config, train.steps));
    } catch (error) {
      // To try again would train instead.
      trouble.show(plainly(error, keptStep()), 'none');
    }
  }

  function download(): void {
    const { step, bytes } = run.kept!;
    const href = URL.createObjectURL(new Blob([bytes], { type: 'application/octet-stream' }));
    make('a', { href, download: `odelt-${step}-updates.safetensors` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  }

  async function use(): Promise<void> {
    const { step, bytes } = run.kept!;
    openTab('sample');
    // What cannot be opened is told there.
    await shared.open([new File([bytes], `trained-${step}-updates.safetensors`)]).catch(() => undefined);
  }

  for (const radio of radios()) {
    radio.addEventListener('change', () => {
      source = radio.value as Source;
      write({ 'train-source': source === 'points' ? null : source });
      showSource();
    });
  }
  byId('train-controls', 'form').addEventListener('submit', (event) => {
    event.preventDefault();
    void begin();
  });
  inputs.steps.addEventListener('change', () => write({ 'train-steps': inputs.steps.value || null }));
  pause.addEventListener('click', () => {
    if (run.phase === 'starting' || run.phase === 'running') run.pause();
    else void resume();
  });
  stop.addEventListener('click', () => run.stop());
  byId('train-download', 'button').addEventListener('click', download);
  byId('train-use', 'button').addEventListener('click', () => void use());
  opening.addEventListener('change', () => {
    const [file] = opening.files ?? [];
    opening.value = '';
    if (file) void openFile(file);
  });
  const choosing = byId('train-files', 'input');
  choosing.addEventListener('change', () => take(Array.from(choosing.files ?? [], fileAt)));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    square.redraw();
    flow.redraw();
    cells.redraw();
  });
  showSource();
  root.dataset.state = 'none';

  return {
    show() {},
    drop(dropped) {
      // Mere text, or a link.
      if (!Array.from(dropped.items).some(({ kind }) => kind === 'file')) return;
      void droppedFiles(dropped).then(
        (found) => {
          if (isBusy(run.phase)) return void trouble.show(underWay(), 'none');
          const [first] = found;
          if (found.length === 1 && first!.path.endsWith('.safetensors')) return openFile(first!.file);
          source = 'pictures';
          showSource();
          take(found);
        },
        (error: unknown) => trouble.show(error, 'none'),
      );
    },
  };
}
