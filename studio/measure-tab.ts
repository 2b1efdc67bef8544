/** The tab *Measure*: checks this browser's GPU against the reference's recordings, times kernels, and describes the adapter. */
import { passName, rate, share, sizes } from '../bench/markdown.ts';
import type { BenchReport } from '../bench/report.ts';
import { rooflineChart } from '../bench/roofline-chart.ts';
import type { AdapterDescription } from '../engine/device.ts';
import { rooflinePlot } from '../pictures/roofline-plot.ts';
import type { CaseResult } from '../verify/case.ts';
import type { OdeltWorker } from '../web/client.ts';
import type { BenchRequest } from '../web/protocol.ts';
import { byId, make } from './dom.ts';
import { errorText, kindsOf, type MeasureReport } from './measure-report.ts';
import type { Tab, TabContext } from './tab.ts';
import { createTrouble } from './trouble.ts';
import { count, time } from './words.ts';

/** Put there by the build. */
declare const ODELT_VERSION: string;

const GOLDEN = 'golden/';
/** What a step of training and sampling spends most of its time in, and what moves most bytes. */
const FEW = ['linear', 'attention', 'layernorm', 'columnSum', 'adamw', 'euler'];

export function mountTab(root: HTMLElement, { params, write, startWorker, drawing }: TabContext): Tab {
  let worker: OdeltWorker | null = null;
  let adapter: AdapterDescription | null = null;
  let verified: MeasureReport['verify'] = null;
  let bench: BenchReport | null = null;

  const trouble = createTrouble(byId('measure-trouble', 'div'), () => void again());
  const only = byId('measure-only', 'input');
  const set = byId('measure-set', 'select');
  const saves = [byId('measure-copy', 'button'), byId('measure-download', 'button')];

  /** Describes the adapter, with a worker where there is none. */
  async function describe(): Promise<void> {
    if (adapter) return;
    trouble.hide();
    try {
      worker ??= startWorker();
      adapter = await worker.adapter();
      showAdapter(adapter);
      for (const button of saves) button.disabled = false;
      root.dataset.state = 'described';
    } catch (error) {
      fail(error);
    }
  }

  function fail(error: unknown): void {
    if (trouble.show(error)) root.dataset.state = 'failed';
  }

  async function again(): Promise<void> {
    await worker?.dispose();
    [worker, adapter] = [null, null];
    await describe();
  }

  const verify = createJob('verify', fail, async ({ signal, say, advance }) => {
    const results: CaseResult[] = [];
    verified = null;
    showVerified([]);
    say('Reading the recordings.');
    const call = worker!.verify({ url: GOLDEN, only: only.value.trim() || undefined }, { signal });
    for await (const { done, total, ...result } of call) {
      results.push(result);
      advance(done / total);
      say(`${done} of ${total}: ${result.model}/${result.kind}/${result.name}`);
    }
    verified = { ...(await call), results };
    showVerified(results);
    const { cases, failed } = verified;
    const right = `${count(cases, 'case')}, all within their tolerances: this GPU computes what the reference computed.`;
    return failed === 0 ? right : `${failed} of ${count(cases, 'case')} failed.`;
  });

  const measure = createJob('bench', fail, async ({ signal, say, advance }) => {
    bench = null;
    const call = worker!.bench(requestOf(set.value, adapter!), { signal });
    for await (const { text, done, total } of call) {
      advance(done / total);
      const what = text.replace(/[{}"]/g, '').replaceAll(',', ', ');
      say(text.startsWith('clock') ? 'First, what this GPU can do at most.' : `${done + 1} of ${total}: ${what}`);
    }
    bench = await call;
    showBench(bench, drawing);
    const [{ clock, ceilings }] = bench.subjects as [BenchReport['subjects'][0]];
    return (
      `This GPU copies ${rate(ceilings.copy.rate)} GB/s and computes ${rate(ceilings.multiplyAdd.rate)} GFLOP/s: no kernel is faster ` +
      `than the nearer of the two. ${clock.clock === 'wall' ? 'By the clock of this machine' : 'By timestamps of the GPU'}: ${clock.reason}.`
    );
  });

  const report = (): string => {
    const about = { format: 'odelt-studio 1', odelt: ODELT_VERSION, date: new Date().toISOString() } as const;
    const all: MeasureReport = { ...about, browser: navigator.userAgent, adapter: adapter!, verify: verified, bench };
    return `${JSON.stringify(all, null, 1)}\n`;
  };
  const told = (text: string) => {
    byId('measure-saved', 'p').textContent = text;
  };
  byId('measure-copy', 'button').addEventListener('click', () => {
    navigator.clipboard.writeText(report()).then(
      () => told('Copied.'),
      () => told('This browser did not let it be copied; download it instead.'),
    );
  });
  byId('measure-download', 'button').addEventListener('click', () => {
    const href = URL.createObjectURL(new Blob([report()], { type: 'application/json' }));
    make('a', { href, download: 'odelt-measured.json' }).click();
    // Not at once: some browsers read it only after the click.
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
    told('Downloaded.');
  });
  only.addEventListener('change', () => write({ cases: only.value.trim() || null }));
  set.addEventListener('change', () => write({ kernels: set.value === 'few' ? null : set.value }));
  byId('measure-options', 'form').addEventListener('submit', (event) => event.preventDefault());
  for (const [job, begin] of [
    ['verify', verify],
    ['bench', measure],
  ] as const) {
    byId(`measure-${job}`, 'button').addEventListener('click', async () => {
      await describe();
      if (!adapter) return;
      trouble.hide();
      await begin();
    });
  }

  return {
    show() {
      only.value = params().get('cases') ?? '';
      const kernels = params().get('kernels') ?? 'few';
      // Of an address that names kernels.
      if (![...set.options].some(({ value }) => value === kernels)) {
        set.append(make('option', { value: kernels, textContent: kernels }));
      }
      set.value = kernels;
      void describe();
    },
  };
}

/** Most operations of a case on a CPU: more takes minutes. */
const CPU_FLOPS = 1e8;

/** What a choice of kernels asks for: the small cases, of a few kernels in few rounds. */
const requestOf = (choice: string, { software }: AdapterDescription): BenchRequest => {
  if (choice === 'all') return { shapes: ['small'] };
  const kernels = choice === 'few' ? FEW : choice.split(',');
  return { shapes: ['small'], kernels, mostRounds: 5, ...(software ? { mostFlops: CPU_FLOPS } : {}) };
};

interface Working {
  readonly signal: AbortSignal;
  say(text: string): void;
  /** From 0 to 1. */
  advance(share: number): void;
}

/**
 * Work that a button begins and stops; `name` is part of its elements' ids. `work` gives what is said at its end.
 * @returns begins it, or stops it where it is under way.
 */
function createJob(name: string, fail: (error: unknown) => void, work: (working: Working) => Promise<string>) {
  let under: AbortController | null = null;
  const button = byId(`measure-${name}`, 'button');
  const begin = button.textContent;
  const status = byId(`measure-${name}-status`, 'p');
  const progress = byId(`measure-${name}-progress`, 'progress');
  return async (): Promise<void> => {
    if (under) return under.abort();
    under = new AbortController();
    const { signal } = under;
    button.textContent = 'Stop';
    status.dataset.state = 'working';
    progress.value = 0;
    progress.classList.remove('idle');
    const say = (text: string) => {
      if (!signal.aborted) status.textContent = text;
    };
    const advance = (share: number) => {
      progress.value = share;
    };
    try {
      say('Starting.');
      status.textContent = await work({ signal, say, advance });
      status.dataset.state = 'done';
    } catch (error) {
      status.textContent = signal.aborted ? 'Stopped.' : '';
      status.dataset.state = 'stopped';
      fail(error);
    }
    under = null;
    button.textContent = begin;
    progress.classList.add('idle');
  };
}

/** A row of a table; `classes` by the number of the cell: 'wide' is left out on narrow screens, 'word' aligned left. */
const row = (cells: readonly string[], classes: Readonly<Record<number, string>> = {}) =>
  make(
    'tr',
    {},
    ...cells.map((textContent, i) =>
      i === 0 ? make('th', { scope: 'row', textContent }) : make('td', { textContent, className: classes[i] ?? '' }),
    ),
  );

function showVerified(results: readonly CaseResult[]): void {
  byId('measure-verify-table', 'table').hidden = results.length === 0;
  const rows = kindsOf(results).map(({ kind, cases, failed, worst }) =>
    row([kind, `${cases}`, `${failed}`, errorText(worst), `${worst.model}/${worst.name}`], { 4: 'wide word' }),
  );
  byId('measure-verify-rows', 'tbody').replaceChildren(...rows);
  const failures = results.filter(({ ok }) => !ok);
  const text = (result: CaseResult) =>
    `${result.model}/${result.kind}/${result.name}: error ${errorText(result)}${result.detail ? `; ${result.detail}` : ''}`;
  byId('measure-failures', 'ul').replaceChildren(
    ...failures.map((result) => make('li', { textContent: text(result) })),
  );
}

function showBench({ subjects: [subject], kernels }: BenchReport, drawing: TabContext['drawing']): void {
  const chart = rooflineChart(subject!, kernels);
  const plots = [
    ['wide', rooflinePlot(chart)],
    ['narrow', rooflinePlot({ ...chart, width: 350, height: 340 })],
  ] as const;
  byId('measure-roofline', 'div').replaceChildren(
    ...plots.map(([className, svg]) => make('div', { className }, drawing(svg))),
  );
  const rows = kernels.map((r) =>
    row(
      [
        `${r.kernel}, ${passName(r.pass)}`,
        sizes(r.case),
        time(1000 * r.timing.median),
        rate(r.gflops),
        rate(r.gbytes),
        share(r),
      ],
      { 1: 'wide word', 4: 'wide' },
    ),
  );
  byId('measure-bench-rows', 'tbody').replaceChildren(...rows);
  byId('measure-bench-table', 'table').hidden = false;
}

/** A limit as people write it: powers of two of bytes by their unit. */
function limitText(name: string, value: number): string {
  if (!/Size$/.test(name) || /Workgroup(Size|Invocations)/.test(name)) return value.toLocaleString('en');
  const units = ['bytes', 'KiB', 'MiB', 'GiB'];
  let [n, unit] = [value, 0];
  while (n >= 1024 && n % 1024 === 0 && unit < 3) [n, unit] = [n / 1024, unit + 1];
  return `${n.toLocaleString('en', { maximumFractionDigits: 2 })} ${units[unit]}`;
}

function showAdapter({ name, vendor, architecture, driver, kind, subgroupSize, features, limits }: AdapterDescription) {
  const facts: Readonly<Record<string, string>> = {
    Name: name,
    Vendor: [vendor, architecture].filter(Boolean).join(', '),
    Driver: driver,
    Kind: kind === 'gpu' ? 'a GPU' : `${kind}: computes on the CPU`,
    Subgroups: subgroupSize ? [...new Set([subgroupSize.min, subgroupSize.max])].join(' to ') : '',
    Features: features.join(', ') || 'none',
  };
  byId('measure-adapter', 'dl').replaceChildren(
    ...Object.entries(facts).map(([term, text]) =>
      make('div', {}, make('dt', { textContent: term }), make('dd', { textContent: text || 'not told' })),
    ),
  );
  const rows = Object.entries(limits).map(([limit, value]) => row([limit, limitText(limit, value)]));
  byId('measure-limits', 'tbody').replaceChildren(...rows);
}
