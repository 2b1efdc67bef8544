/** What a draw took, as numbers and bars beside those of all blocks and the most steps; and which blocks run. */
import { usualSteps } from '../model/config.ts';
import type { LoadedDecoder, LoadedModel, Sampled } from '../web/protocol.ts';
import { byId, make } from './dom.ts';
import { STEPS } from './state.ts';
import { bytes, count, time } from './words.ts';

/** What was drawn with what. */
export interface Cost {
  readonly model: LoadedModel;
  readonly steps: number;
  readonly blocks: number;
  /** Whether each step asks the network twice. */
  readonly guided: boolean;
  readonly pictures: Sampled;
  /** What made pictures of latents. */
  readonly decoder: LoadedDecoder | null;
}

/** What all blocks took, once they have been drawn with: per picture and step, and at peak. */
interface Full {
  readonly msPerStep: number;
  readonly peakBytes: number;
}

const blocksOf = ({ lengths }: LoadedModel): number => lengths.at(-1)!.blocks;

export interface Costs {
  show(cost: Cost): void;
  /** Before anything is measured of a model: what is known of its file, and which blocks have yet to come. */
  showModel(model: LoadedModel, blocks: number): void;
  /** The blocks that were shown last are on the GPU. */
  loaded(): void;
}

export function createCosts(): Costs {
  let measured = new Map<boolean, Full>();
  let of: LoadedModel | null = null;
  let by: LoadedDecoder | null = null;
  /** Blocks of it that run or are to run, and those of them that are on the GPU. */
  let [wanted, resident] = [0, 0];
  const rows = {
    time: row('Time per picture'),
    memory: row('GPU memory at peak'),
    weights: row('Weights to download'),
    decoding: row('Decoding, of that time'),
  };
  byId('costs', 'dl').replaceChildren(...Object.values(rows).map(({ element }) => element));
  rows.decoding.element.hidden = true;

  function showDecoding(ms: number, whole: number, decoder: LoadedDecoder | null): void {
    rows.decoding.element.hidden = !decoder;
    if (!decoder) return;
    const { bands, precision, peakBytes } = decoder;
    const how = bands === 1 ? precision : `${precision}, in ${bands} bands of rows`;
    rows.decoding.show(time(ms), `a decoder of ${bytes(peakBytes)} (${how})`, ms / whole);
  }

  function showModel(model: LoadedModel, blocks: number): void {
    if (of !== model) {
      measured = new Map();
      resident = 0;
    }
    of = model;
    wanted = blocks;
    // What is not needed is freed.
    resident = Math.min(resident, wanted);
    const bytesFor = (n: number) => model.lengths.find((length) => length.blocks === n)!.weightBytes;
    const all = model.lengths.at(-1)!;
    rows.weights.show(
      bytes(bytesFor(blocks)),
      `of ${bytes(all.weightBytes)} at L ${all.blocks}`,
      bytesFor(blocks) / all.weightBytes,
    );
    showBlocks(model.config.depth);
  }

  function showBlocks(depth: number): void {
    const bar = byId('network', 'div');
    const stateOf = (i: number) => (i < resident ? 'runs' : i < wanted ? 'coming' : '');
    bar.replaceChildren(...Array.from({ length: depth }, (_, i) => make('span', { className: stateOf(i) })));
    const coming = wanted === resident ? '' : `, ${wanted - resident} on the way`;
    const text = `${count(resident, 'block')} on the GPU${coming}, ${wanted === depth ? 'none left out' : `${depth - wanted} not needed`}.`;
    bar.setAttribute('aria-label', text);
    byId('network-text', 'p').textContent = text;
  }

  function loaded(): void {
    if (resident === wanted) return;
    resident = wanted;
    showBlocks(of!.config.depth);
  }

  return {
    showModel,
    loaded,
    show({ model, steps, blocks, guided, pictures, decoder }) {
      showModel(model, blocks);
      loaded();
      if (by !== decoder) measured = new Map();
      by = decoder;
      const ms = pictures.milliseconds / pictures.shape[0];
      // The same for any number of steps and blocks.
      const decoding = (pictures.decoded?.milliseconds ?? 0) / pictures.shape[0];
      showDecoding(decoding, ms, decoder);
      if (blocks === blocksOf(model)) {
        measured.set(guided, { msPerStep: (ms - decoding) / steps, peakBytes: pictures.peakBytes });
      }
      const full = measured.get(guided);
      if (full) {
        const most = usualSteps(model.config, STEPS).at(-1)!;
        const whole = Math.max(ms, full.msPerStep * most + decoding);
        rows.time.show(time(ms), `of about ${time(whole)} at T ${most}, L ${blocksOf(model)}`, ms / whole);
        const peak = Math.max(full.peakBytes, pictures.peakBytes);
        rows.memory.show(
          bytes(pictures.peakBytes),
          `of ${bytes(peak)} at L ${blocksOf(model)}`,
          pictures.peakBytes / peak,
        );
      } else {
        const unknown = 'draw with all blocks to compare';
        rows.time.show(time(ms), unknown, null);
        rows.memory.show(bytes(pictures.peakBytes), unknown, null);
      }
    },
  };
}

/** A term, its value, a bar of its share and what it is a share of. */
function row(term: string) {
  const value = make('dd', { className: 'value', textContent: '\u2013' });
  const share = make('span');
  const bar = make('dd', { className: 'bar unknown', ariaHidden: 'true' }, share);
  const full = make('dd', { className: 'full', textContent: '\u00a0' });
  return {
    element: make('div', {}, make('dt', { textContent: term }), value, bar, full),
    show(text: string, whole: string, part: number | null) {
      value.textContent = text;
      full.textContent = whole;
      bar.classList.toggle('unknown', part === null);
      share.style.setProperty('--share', `${part ?? 0}`);
    },
  };
}
