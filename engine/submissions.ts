/**
 * Where a program's dispatches are parted into submissions, so that none takes longer than a budget: browsers and drivers end a device
 * whose submission does not (Chrome after some ten seconds, Windows after two). What a stretch of dispatches takes is measured while
 * programs run, by when the queue is done, and scales with its workgroups. Nothing here touches a GPU.
 */

/** Dispatches that are submitted together while nothing is known of them. */
const UNKNOWN = 16;

/** A stretch of dispatches, up to `end`. */
interface Stretch {
  readonly end: number;
  /** Workgroups now. */
  work: number;
  /** Milliseconds of one workgroup; null before any measurement. */
  rate: number | null;
}

export class Submissions {
  readonly #dispatches: number;
  readonly #budget: number;
  #stretches: Stretch[];
  #ends: readonly number[] = [];
  #stale = true;
  #runs = 0;

  /** `budget`: milliseconds; Infinity parts nothing. */
  constructor(dispatches: number, budget: number) {
    this.#dispatches = dispatches;
    this.#budget = budget;
    const count = budget === Number.POSITIVE_INFINITY ? 1 : Math.ceil(dispatches / UNKNOWN);
    const ends = Array.from({ length: count }, (_, i) => (i === count - 1 ? dispatches : (i + 1) * UNKNOWN));
    this.#stretches = ends.map((end) => ({ end, work: 0, rate: null }));
  }

  /** Says how many workgroups each dispatch has from now on, three numbers each. */
  resize(counts: Uint32Array): void {
    let i = 0;
    for (const stretch of this.#stretches) {
      stretch.work = 0;
      for (; i < stretch.end; i++) stretch.work += counts[3 * i]! * counts[3 * i + 1]! * counts[3 * i + 2]!;
    }
    this.#stale = true;
  }

  /** After which dispatches a submission ends, the last one among them. */
  ends(counts: Uint32Array): readonly number[] {
    if (!this.#stale) return this.#ends;
    this.#stale = false;
    this.#divide(counts);
    const ends: number[] = [];
    let sum = 0;
    let before = 0;
    for (const { end, work, rate } of this.#stretches) {
      const milliseconds = work === 0 ? 0 : rate === null ? this.#budget : rate * work;
      if (before > 0 && sum + milliseconds > this.#budget) {
        ends.push(before);
        sum = 0;
      }
      sum += milliseconds;
      before = end;
    }
    ends.push(this.#dispatches);
    this.#ends = ends;
    return ends;
  }

  /** Whether a run is to be measured that makes so many submissions: rarely where it fits into one. */
  measures(submissions: number): boolean {
    if (this.#budget === Number.POSITIVE_INFINITY) return false;
    this.#runs++;
    return submissions > 1 || (this.#runs & (this.#runs - 1)) === 0;
  }

  /** Takes what dispatches `from` .. `to` - 1 took, submitted together. */
  took(from: number, to: number, milliseconds: number): void {
    const within = this.#stretches.filter(({ end, work }, i) => {
      const begin = i === 0 ? 0 : this.#stretches[i - 1]!.end;
      return begin >= from && end <= to && work > 0;
    });
    const work = within.reduce((sum, stretch) => sum + stretch.work, 0);
    const expected = within.reduce((sum, stretch) => sum + (stretch.rate ?? 0) * stretch.work, 0);
    if (work === 0) return;
    // A measurement may be too long, by what the queue did before, but not too short.
    const off = milliseconds / expected;
    const factor = off > 1 ? (1 + off) / 2 : off;
    for (const stretch of within) {
      stretch.rate = expected > 0 && stretch.rate !== null ? stretch.rate * factor : milliseconds / work;
    }
    this.#stale = true;
  }

  /** Parts stretches that take longer than the budget by themselves, down to single dispatches. */
  #divide(counts: Uint32Array): void {
    let divided = false;
    const stretches: Stretch[] = [];
    let begin = 0;
    for (const stretch of this.#stretches) {
      const tooLong = stretch.rate !== null && stretch.rate * stretch.work > this.#budget;
      const pieces = tooLong ? Math.ceil((stretch.rate! * stretch.work) / this.#budget) : 1;
      const count = Math.min(pieces, stretch.end - begin);
      for (let i = 1; i < count; i++) {
        const end = begin + Math.floor((i * (stretch.end - begin)) / count);
        stretches.push({ end, work: 0, rate: stretch.rate });
        divided = true;
      }
      stretches.push(stretch);
      begin = stretch.end;
    }
    if (!divided) return;
    this.#stretches = stretches;
    this.resize(counts);
    this.#stale = false;
  }
}
