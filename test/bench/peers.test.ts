/** bench/peers without its peers: its arithmetic, its messages and its float64 references. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Inputs, type PeersReport, peersModule, type Workload } from '../support/peers.ts';

const { quantile, ratio, milliseconds, cell, overview, reasons, markdown, withWorkload } = await peersModule('table');
const { parseAnswer } = await peersModule('messages');
const { startPeer, lastWords } = await peersModule('process');
const { product, gelu, layernorm, attention, reference, compare, TOLERANCE } = await peersModule('reference');
const { inputsOf, weightShapes, WORKLOADS } = await peersModule('workloads');

describe('figures of the comparison', () => {
  it('are medians and quartiles, interpolated', () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([4, 1, 3, 2], 0.25)).toBe(1.75);
    expect(quantile([7], 0.75)).toBe(7);
  });

  it('compare within rounds: a slow round slows both', () => {
    // The medians of the columns (2 and 6) would say 3.
    expect(ratio([1, 2, 10], [2, 4, 20])).toBe(2);
    expect(ratio([1, 2, 10], [2, 6])).toBe(2.5);
  });

  it('have three digits', () => {
    expect([0.0001234, 0.001234, 0.01234, 1.234].map(milliseconds)).toEqual(['0.123', '1.23', '12.3', '1234']);
  });
});

const timed = (seconds: number[]) => ({
  status: 'timed' as const,
  version: '1.2.3',
  adapter: 'a GPU',
  error: 2e-6,
  output: 'y',
  firstSeconds: 0.5,
  repeats: 4,
  seconds,
});

const report: PeersReport = {
  adapter: 'lavapipe',
  machine: '2 x CPU',
  workloads: [
    {
      name: 'product',
      workload: { kind: 'product', size: { rows: 2, inner: 3, columns: 4 } },
      date: '2026-01-02',
      rounds: 2,
      results: {
        odelt: timed([0.01, 0.02]),
        jax: timed([0.02, 0.06]),
        tfjs: { status: 'wrong', error: 0.05, output: 'y' },
        'ort-web': { status: 'failed', reason: 'ended by SIGSEGV' },
        openblas: { status: 'cannot', reason: 'OpenBLAS is not installed' },
      },
    },
  ],
};
const ORDER = ['odelt', 'jax', 'tfjs', 'ort-web', 'ort-native', 'openblas'];

describe('the table', () => {
  it('says times and ratios, wrong, failed and -', () => {
    const { results } = report.workloads[0]!;
    expect(ORDER.map((peer) => cell(results, peer))).toEqual([
      '15.0 ms',
      '40.0 ms (2.50x)',
      'wrong (5e-2)',
      'failed',
      '-',
      '-',
    ]);
    // Without odelt's time there is nothing to compare with.
    expect(cell({ jax: timed([0.02]) }, 'jax')).toBe('20.0 ms');
    const [head, rule, row] = overview(report, ORDER).split('\n');
    expect(head).toMatch(/^\| workload \| odelt +\| jax +\| tfjs +\| ort-web \| openblas \|$/);
    expect(rule).toMatch(/^\|[-|]+\|$/);
    expect(row).toMatch(/^\| product +\| 15.0 ms \| 40.0 ms \(2.50x\) \| wrong \(5e-2\) \| failed +\| - +\|$/);
  });

  it('comes with the reasons, versions, quartiles and what the workloads are', () => {
    expect(reasons(report)).toEqual([
      "product, tfjs: wrong, error 5.0e-2 in 'y'",
      'product, ort-web: failed, ended by SIGSEGV',
      'product, openblas: cannot, OpenBLAS is not installed',
    ]);
    const text = markdown(report, ORDER);
    expect(text).toContain('f32 product, 2 x 3 by 3 x 4');
    expect(text).toContain('jax: 1.2.3, on a GPU');
    expect(text).toMatch(/\| product +\| jax +\| 40.0 \(30.0 to 50.0\) +\| 2 x 4 +\| 2.0e-6 +\| 0.5 +\| 2026-01-02 \|/);
    expect(text).toContain('openblas: not had');
  });

  it('is added to, and what is measured again takes the place of what was', () => {
    const [first] = report.workloads;
    const added = withWorkload(report, { ...first!, name: 'attention-b1' }, ['attention-b1', 'product']);
    expect(added.workloads.map(({ name }) => name)).toEqual(['attention-b1', 'product']);
    const again = withWorkload(added, { ...first!, rounds: 9 }, ['attention-b1', 'product']);
    expect(again.workloads.map(({ name, rounds }) => [name, rounds])).toEqual([
      ['attention-b1', 2],
      ['product', 9],
    ]);
  });
});

describe('answers of a peer', () => {
  const outputs = { y: new Float32Array(2) };
  it('are taken as they are', () => {
    for (const answer of [
      { answer: 'prepared', version: '1', adapter: 'a', firstSeconds: 1, outputs },
      { answer: 'warm', repeats: 3 },
      { answer: 'ran', seconds: 0.1 },
      { answer: 'cannot', reason: 'no gradients' },
    ]) {
      expect(parseAnswer(answer)).toBe(answer);
    }
  });

  it('are refused where they are none, or lack something', () => {
    expect(() => parseAnswer('hello')).toThrow('no answer: "hello"');
    expect(() => parseAnswer(undefined)).toThrow('no answer: undefined');
    expect(() => parseAnswer({ answer: 'toString' })).toThrow('no answer');
    expect(() => parseAnswer({ answer: 'ran', seconds: Number.NaN })).toThrow(
      "an answer 'ran' with wrong fields: answer, seconds",
    );
    expect(() => parseAnswer({ answer: 'warm', repeats: 0.5 })).toThrow('wrong fields');
    expect(() =>
      parseAnswer({ answer: 'prepared', version: '1', adapter: 'a', firstSeconds: 1, outputs: { y: [1] } }),
    ).toThrow('wrong fields');
  });
});

describe("a peer's process", () => {
  const folder = mkdtempSync(join(tmpdir(), 'odelt-peers-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const program = (name: string, text: string) => {
    const path = join(folder, `${name}.mjs`);
    writeFileSync(path, text);
    return path;
  };

  it('is failed, with its last words, when it dies', async () => {
    const dying = program('dying', `process.on('message', () => { console.error('no memory'); process.exit(3); });`);
    const peer = startPeer(dying);
    expect(await peer.ask({ ask: 'run' }, 60)).toEqual({
      answer: 'failed',
      reason: 'ended with exit code 3: no memory',
    });
    // And it stays so.
    expect(await peer.ask({ ask: 'run' }, 60)).toMatchObject({ answer: 'failed' });
    await peer.end();
  });

  it('is failed when it does not answer in time, and ended', async () => {
    const peer = startPeer(program('silent', `process.on('message', () => {});`));
    expect(await peer.ask({ ask: 'run' }, 0.5)).toEqual({ answer: 'failed', reason: 'no answer within 0.5 s' });
    await peer.end();
  });

  it('gives arrays as they are', async () => {
    const peer = startPeer(
      program(
        'answering',
        `process.on('message', ({ ask }) => process.send(ask === 'run' ? { answer: 'ran', seconds: 1 }
          : { answer: 'prepared', version: '1', adapter: 'a', firstSeconds: 1, outputs: { y: Float32Array.of(1.5, NaN) } }));`,
      ),
    );
    expect(await peer.ask({ ask: 'prepare' }, 60)).toMatchObject({ outputs: { y: Float32Array.of(1.5, Number.NaN) } });
    expect(await peer.ask({ ask: 'run' }, 60)).toEqual({ answer: 'ran', seconds: 1 });
    await peer.end();
  });

  it("says nothing of drivers' usual warnings", () => {
    const warning = 'Warning: maxDynamicUniformBuffersPerPipelineLayout artificially reduced from 1 to 0';
    expect(lastWords(`${warning}\na\nb\n\nc\nd\n`)).toBe('b / c / d');
  });
});

describe('float64 references', () => {
  it('of products, GELU, norm and attention are what one computes by hand', () => {
    // Five rows: four at once and one alone.
    const a = Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    const b = Float64Array.of(1, 0, 2, 0, 1, 3);
    expect([...product(a, b, 5, 2, 3)]).toEqual([1, 2, 8, 3, 4, 18, 5, 6, 28, 7, 8, 38, 9, 10, 48]);
    expect(gelu(Float64Array.of(0, 1))[1]).toBeCloseTo(0.8411919906, 9);
    // Rows 1, 3 and 2, 6: normalised -1, 1; shift 10, 20; scale 1, 2.
    const norm = layernorm(
      { x: Float64Array.of(1, 3, 2, 6), modulation: Float64Array.of(10, 20, 1, 2) },
      { tokens: 2, width: 2 },
    );
    [8, 23, 8, 23].forEach((v, i) => {
      expect(norm[i]).toBeCloseTo(v, 5);
    });
    // Two tokens, two heads of one: the first head's logits are q k, the second's are zero.
    const y = attention(
      { q: Float64Array.of(1, 0, 2, 0), k: Float64Array.of(0, 5, Math.log(3), 7), v: Float64Array.of(1, 2, 5, 4) },
      { tokens: 2, width: 2, heads: 2 },
    );
    [4, 3, 4.6, 3].forEach((v, i) => {
      expect(y[i]).toBeCloseTo(v, 12);
    });
  });

  const size = { batch: 2, tokens: 3, width: 4, heads: 2, depth: 2 };
  const gradient: Workload = { kind: 'gradient', size };

  it('of gradients are the slopes of the forward pass', () => {
    const inputs = inputsOf(gradient);
    const gradients = reference(gradient, inputs);
    expect(Object.keys(gradients).toSorted()).toEqual(['x', ...weightShapes(size).map(([name]) => name)].toSorted());
    const along = (changed: Inputs) => {
      const { y } = reference({ kind: 'block', size }, changed);
      return y!.reduce((sum, v, i) => sum + v * inputs.dy!.data[i]!, 0);
    };
    const step = 2 ** -10;
    for (const [name, slope] of Object.entries(gradients)) {
      for (const at of [0, slope.length - 1]) {
        const [up, down] = [step, -step].map((by) => {
          const data = inputs[name]!.data.slice();
          data[at]! += by;
          return { value: data[at]!, sum: along({ ...inputs, [name]: { shape: inputs[name]!.shape, data } }) };
        });
        const found = (up!.sum - down!.sum) / (up!.value - down!.value);
        expect(Math.abs(found - slope[at]!), `${name}[${at}]`).toBeLessThan(1e-4 * (1 + Math.abs(slope[at]!)));
      }
    }
  });

  it('of training move every weight against its gradient, by the learning rate and the decay', () => {
    const train: Workload = { kind: 'train', size };
    const inputs = inputsOf(train);
    const { loss, ...weights } = reference(train, inputs);
    const { y } = reference({ kind: 'block', size }, inputs);
    const want = y!.reduce((sum, v, i) => sum + (v - inputs.target!.data[i]!) ** 2, 0) / y!.length;
    expect(loss![0]).toBeCloseTo(want, 12);
    const dy = {
      shape: inputs.x!.shape,
      data: Float32Array.from(y!, (v, i) => (2 * (v - inputs.target!.data[i]!)) / y!.length),
    };
    const gradients = reference(gradient, { ...inputs, dy });
    for (const [name, stepped] of Object.entries(weights)) {
      const [p, g] = [inputs[name]!.data[1]!, gradients[name]![1]!];
      expect(stepped[1]).toBeCloseTo(p - 1e-3 * (g / (Math.abs(g) + 1e-4) + 0.1 * p), 7);
    }
  });

  it('are what results are held to: differences count by the size of what is compared', () => {
    const workload = WORKLOADS['attention-b1']!;
    const of = (...values: number[]) => ({ y: Float64Array.from(values) });
    expect(compare(workload, {}, of(3, -3), of(3, -3))).toEqual({ error: 0, output: 'y' });
    expect(compare(workload, {}, of(3, -3), of(3, -3.3)).error).toBeCloseTo(0.1, 12);
    expect(compare(workload, {}, of(3, -3), of(3, Number.NaN)).error).toBe(Number.POSITIVE_INFINITY);
    expect(compare(workload, {}, of(3, -3), of(3)).error).toBe(Number.POSITIVE_INFINITY);
    expect(compare(workload, {}, of(3, -3), {})).toEqual({ error: Number.POSITIVE_INFINITY, output: 'y' });
    // A weight after a step: it moved by 0.1, and by 0.05 too much.
    const inputs = { w: { shape: [1], data: Float32Array.of(1) } };
    const moved = compare({ kind: 'train', size: {} }, inputs, { w: Float64Array.of(1.1) }, { w: [1.15] });
    expect(moved.error).toBeCloseTo(0.5, 6);
    expect(TOLERANCE).toBeLessThan(0.01);
  });
});
