/** How a program is parted into submissions, by measurements that are given: no GPU, no clock. */
import { describe, expect, it } from 'vitest';
import { Submissions } from '../../engine/submissions.ts';

/** Workgroups of dispatches along x. */
const groups = (...counts: number[]): Uint32Array => Uint32Array.from(counts.flatMap((n) => [n, 1, 1]));

/** What each submission is to take when a dispatch takes `each` milliseconds a workgroup; told to `parts`, and what it makes then. */
function measured(parts: Submissions, counts: Uint32Array, each: (dispatch: number) => number): readonly number[] {
  let begin = 0;
  for (const end of parts.ends(counts)) {
    let sum = 0;
    for (let i = begin; i < end; i++) sum += each(i) * counts[3 * i]!;
    parts.took(parts.submitted(begin, end), sum);
    begin = end;
  }
  return parts.ends(counts);
}

const of = (counts: Uint32Array, budget: number): Submissions => {
  const parts = new Submissions(counts.length / 3, budget);
  parts.resize(counts);
  return parts;
};

describe('submissions', () => {
  it('are small while nothing is known, and one where all fits', () => {
    const counts = groups(...new Array(40).fill(3));
    const parts = of(counts, 100);
    expect(parts.ends(counts)).toEqual([16, 32, 40]);
    expect(measured(parts, counts, () => 0.1)).toEqual([40]);
  });

  it('hold few workgroups while nothing is known, and a dispatch of many alone', () => {
    const counts = groups(1, 8192, 8192, 2048, 2048, 2048, 1, 1, 0, 0);
    const parts = of(counts, 100);
    expect(parts.ends(counts)).toEqual([1, 2, 3, 5, 10]);
    // Likewise what had nothing to do when the rest was measured.
    expect(measured(parts, counts, () => 1e-3)).toEqual([10]);
    const idle = groups(1, ...new Array(15).fill(0));
    const others = of(idle, 100);
    expect(measured(others, idle, () => 1)).toEqual([16]);
    const busy = groups(1, ...new Array(15).fill(1024));
    const fresh = of(idle, 100);
    fresh.resize(busy);
    expect(fresh.ends(busy)).toEqual([4, 8, 12, 16]);
  });

  it('are no longer than the budget once measured, down to single dispatches', () => {
    const counts = groups(...new Array(40).fill(1));
    const parts = of(counts, 100);
    const each = (i: number) => (i < 20 ? 1 : 50);
    // Unlike dispatches that were measured together are told apart when they are parted.
    for (let run = 0; run < 6; run++) measured(parts, counts, each);
    const ends = parts.ends(counts);
    const taken = ends.map((end, part) => {
      const begin = part === 0 ? 0 : ends[part - 1]!;
      return Array.from({ length: end - begin }, (_, i) => each(begin + i)).reduce<number>((a, b) => a + b, 0);
    });
    expect(Math.max(...taken)).toBeLessThanOrEqual(101);
    expect(ends.length).toBeLessThan(16);
    expect(measured(parts, counts, () => 1000)).toHaveLength(40);
  });

  it('join again where they turn out short', () => {
    const counts = groups(...new Array(32).fill(1));
    const parts = of(counts, 100);
    expect(measured(parts, counts, () => 50)).toHaveLength(16);
    expect(measured(parts, counts, () => 1)).toEqual([32]);
  });

  it('believe what is longer than expected by half: the queue may have been busy', () => {
    const counts = groups(...new Array(16).fill(1));
    const parts = of(counts, 100);
    expect(measured(parts, counts, () => 1)).toEqual([16]);
    parts.took(parts.submitted(0, 16), 144);
    expect(parts.ends(counts)).toEqual([16]);
    parts.took(parts.submitted(0, 16), 144);
    expect(parts.ends(counts)).toHaveLength(2);
  });

  it('that a busy host hears of together are believed together', () => {
    const counts = groups(...new Array(64).fill(100));
    const parts = of(counts, 500);
    // 475 ms each, of which the host hears after 1.9 seconds: all the time is the first one's.
    const ends = parts.ends(counts);
    expect(ends).toEqual([16, 32, 48, 64]);
    const all = ends.map((end, i) => parts.submitted(ends[i - 1] ?? 0, end));
    all.forEach((submitted, i) => {
      parts.took(submitted, i === 0 ? 1900 : 0.02);
    });
    expect(parts.ends(counts)).toEqual(ends);
    // One by one each says its own.
    parts.ends(counts).forEach((end, i, ends) => {
      parts.took(parts.submitted(ends[i - 1] ?? 0, end), i === 0 ? 450 : 20);
    });
    expect(parts.ends(counts)).toEqual([48, 64]);
  });

  it('are learned from by the workgroups that they had, not those of now', () => {
    const counts = groups(...new Array(16).fill(10));
    const parts = of(counts, 100);
    const submitted = parts.submitted(0, 16);
    const more = groups(...new Array(16).fill(100));
    parts.resize(more);
    parts.took(submitted, 32);
    // 0.2 ms a workgroup, 320 ms now.
    expect(parts.ends(more)).toHaveLength(4);
  });

  it('follow the numbers of workgroups, also where there are none', () => {
    const counts = groups(...new Array(32).fill(10));
    const parts = of(counts, 100);
    expect(measured(parts, counts, () => 0.2)).toEqual([32]);
    const more = groups(...new Array(32).fill(20));
    parts.resize(more);
    expect(parts.ends(more)).toEqual([16, 32]);
    const none = groups(...new Array(32).fill(0));
    parts.resize(none);
    expect(parts.ends(none)).toEqual([32]);
  });

  it('are measured at ever longer intervals while there is one, and always where there are several', () => {
    const parts = of(groups(1), 100);
    const measured = Array.from({ length: 20 }, (_, i) => (parts.measures(1) ? i + 1 : 0)).filter((run) => run > 0);
    expect(measured).toEqual([1, 2, 4, 8, 16]);
    expect([parts.measures(2), parts.measures(2)]).toEqual([true, true]);
  });

  it('are one, and never measured, without a budget', () => {
    const counts = groups(...new Array(40).fill(1));
    const parts = of(counts, Number.POSITIVE_INFINITY);
    expect(parts.ends(counts)).toEqual([40]);
    expect(parts.measures(1)).toBe(false);
  });
});
