/** The report as HTML: well formed, without scripts or anything from elsewhere, foreign text escaped, every point in its place. */
import { describe, expect, it } from 'vitest';
import { compareRuns } from '../../bench/compare.ts';
import { timingOf } from '../../bench/harness.ts';
import { formatBenchHtml } from '../../bench/html.ts';
import { formatBench } from '../../bench/markdown.ts';
import { rooflinePlot } from '../../pictures/roofline-plot.ts';
import { benchReport, kernelResult, subjectReport } from '../support/bench-report.ts';

const VOID = new Set(['meta']);

/** Names of elements that are not closed in order. */
function unbalanced(html: string): string[] {
  const open: string[] = [];
  for (const [, close, name, attributes] of html.matchAll(
    /<(\/?)([a-z][a-z0-9]*)((?:\s+[\w:-]+(?:="[^"<]*")?)*\s*\/?)>/gi,
  )) {
    if (close) {
      if (open.pop() !== name) return [...open, `/${name}`];
    } else if (!attributes!.endsWith('/') && !VOID.has(name!)) open.push(name!);
  }
  return open;
}

const evil = `<script>alert("1")</script> & 'more'`;
const report = benchReport({
  note: evil,
  command: `odelt bench kernels --note '${evil}'`,
  subjects: [subjectReport({ adapter: { ...subjectReport().adapter, name: evil } })],
  kernels: [
    kernelResult(),
    kernelResult({ pass: 'backward', flops: 4e10, gflops: 20, roofline: 0.2, bound: 'compute' }),
    kernelResult({ kernel: 'patchify', flops: 0, gflops: null }),
    kernelResult({ kernel: evil, checked: 2 }),
  ],
});

describe('the document', () => {
  const html = formatBenchHtml(report);
  it('is well formed', () => {
    expect(unbalanced('<p><b></p></b>')).not.toEqual([]);
    expect(unbalanced(html)).toEqual([]);
    // Every < begins an element that was seen: no text holds one.
    const elements = [...html.matchAll(/<\/?[a-z][a-z0-9]*(?:\s+[\w:-]+(?:="[^"<]*")?)*\s*\/?>/gi)].length;
    expect((html.match(/</g) ?? []).length).toBe(elements + 1); // and the doctype
    expect(html.match(/&(?!(amp|lt|gt|quot);)/g)).toBeNull();
  });

  it('runs nothing and fetches nothing', () => {
    expect(html).not.toMatch(
      /<(script|link|img|iframe|object|embed)\b|\bon[a-z]+="|\bstyle="|\bhref=|url\(|@import|https?:\/\/(?!www\.w3\.org\/2000\/svg")/i,
    );
    expect(html).toContain(
      `content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"`,
    );
  });

  it('is for light and dark, wide and narrow', () => {
    expect(html).toContain('<meta name="color-scheme" content="light dark">');
    expect(html).toContain('@media (prefers-color-scheme: dark)');
    expect(html).toContain('width=device-width');
    expect([...html.matchAll(/<svg [^>]*width="(\d+)"/g)].map(([, width]) => width)).toEqual(['860', '358']);
  });

  it('shows foreign text as text', () => {
    expect(html).toContain('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp;');
    expect(html).toContain('<p>Made by <code>odelt bench kernels --note ');
  });

  it('has every result in the table and every one with operations in the plots', () => {
    expect(html.match(/<tr><td>/g)!.length).toBe(4);
    expect(html).toContain('<td>20 % compute</td>');
    expect(html).toContain('<td>1.0e-7*</td>'); // compared in part
    expect(
      html.match(/<title>linear forward: size 4; 500 ms, 40.0 GFLOP\/s, 5.00 GB\/s, 50 % memory<\/title>/g)!.length,
    ).toBe(2);
    expect(html).not.toContain('<title>patchify');
    expect(html).toContain('<p>1 passes that compute nothing');
  });

  it('shows a comparison with its warnings', () => {
    const slow = kernelResult({ timing: timingOf([1, 1, 1]) });
    const now = { ...report, kernels: [slow] };
    const against = compareRuns(now, benchReport({ machine: 'other' }), 'before.json');
    const text = formatBenchHtml({ ...now, against });
    expect(unbalanced(text)).toEqual([]);
    expect(text).toContain('<h2>Against before.json</h2>');
    expect(text).toContain('<li>Warning: another machine: 2 x CPU, was other</li>');
    expect(text).toContain('<tr class="slower"><td>linear</td>');
    expect(text).toContain('<td>2.00 (2.00 to 2.00)</td>');
    const markdown = formatBench({ ...now, against });
    expect(markdown).toContain('Warning: another machine: 2 x CPU, was other');
    expect(markdown).toMatch(
      /\| linear \| size 4 \| fwd +\| 1000 \| 500 \| 2\.00 \(2\.00 to 2\.00\) \|.*\| slower +\|/,
    );
  });
});

describe('rooflinePlot', () => {
  const chart = { title: 'T', gbytes: 10, gflops: 100, filledName: 'f', hollowName: 'h' };
  const point = { name: 'a', title: 'a forward', hollow: false, intensity: 10, gflops: 100 };
  const centre = (svg: string, title: string) => {
    const [, x, y] = new RegExp(`cx="([\\d.]+)" cy="([\\d.]+)"[^>]*><title>${title}`).exec(svg)!;
    return [Number(x), Number(y)];
  };
  it('puts what reaches both ceilings where they meet, and half of that as far below on a logarithmic axis', () => {
    const half = { ...point, title: 'half', gflops: 50 };
    const quarter = { ...point, title: 'quarter', gflops: 25 };
    const svg = rooflinePlot({ ...chart, points: [point, half, quarter] });
    const [, roof] = /<path d="M([^"]*)" fill="none" stroke="currentColor" stroke-width="2"/.exec(svg)!;
    const [, ridge, end] = roof!.split('L').map((pair) => pair.split(' ').map(Number));
    expect(centre(svg, 'a forward')).toEqual(ridge);
    expect(end![1]).toBe(ridge![1]); // flat
    const [first, second, third] = ['a forward', 'half', 'quarter'].map((title) => centre(svg, title)[1]!);
    expect(second! - first!).toBeGreaterThan(5);
    expect(Math.abs(third! - second! - (second! - first!))).toBeLessThan(0.3);
    expect(svg).toContain('>10 GB/s</text>');
    expect(svg).toContain('>100 GFLOP/s</text>');
  });

  it('leaves out what has no place, and gives each name its own mark', () => {
    const names = Array.from({ length: 9 }, (_, i) => ({ ...point, name: `k${i}`, title: `k${i}` }));
    const svg = rooflinePlot({
      ...chart,
      points: [...names, { ...point, name: 'zero', gflops: 0 }, { ...point, intensity: Number.NaN }],
    });
    expect(svg).not.toContain('zero');
    expect(svg.match(/<circle/g)!.length).toBe(14);
    expect(svg.match(/<path d="M[^"]*z"/g)!.length).toBe(4);
    expect(rooflinePlot({ ...chart, points: [] })).not.toContain('NaN');
  });
});
