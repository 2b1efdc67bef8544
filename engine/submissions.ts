/**
 * Where a program's dispatches are parted into submissions, so that none takes longer than a budget: browsers and drivers end a device
 * whose submission does not (Chrome after some ten seconds, Windows after two). What a stretch of dispatches takes is measured while
 * programs run, by when the queue is done, and scales with its workgroups. Nothing here touches a GPU.
 */

/**
 * What is submitted together at most while nothing is known of it. So many workgroups, of 40 million operations each, take an integrated
 * GPU half a second.
 */
const UNKNOWN = { dispatches: 16, workgroups: 4096 } as const;

/** Milliseconds below which a submission was not done by itself: hosts hear of several at once, after they have been busy, or poll. */
const TOGETHER = 1;

/** A stretch of dispatches, up to `end`. */
interface Stretch {
  readonly end: number;
  /** Workgroups now. */
  work: number;
  /** Milliseconds of one workgroup; null before any measurement. */
  rate: number | null;
}

/** What has been submitted: stretches, and the workgroups that they had then. */
export type Submitted = readonly { readonly stretch: Stretch; readonly work: number }[];

const workOf = (counts: Uint32Array, i: number): number => counts[3 * i]! * counts[3 * i + 1]! * counts[3 * i + 2]!;

export class Submissions {
  readonly #dispatches: number;
  readonly #budget: number;
  #stretches: readonly Stretch[];
  #ends: readonly number[] = [];
  #stale = true;
  #runs = 0;
  /** Submissions that were done together, and when that is sure what they took. */
  #done: Submitted = [];
  #took = 0;

  /** `budget`: milliseconds; Infinity parts nothing. */
  constructor(dispatches: number, budget: number) {
    this.#dispatches = dispatches;
    this.#budget = budget;
    this.#stretches = [{ end: dispatches, work: 0, rate: null }];
  }

  /** Says how many workgroups each dispatch has from now on, three numbers each. */
  resize(counts: Uint32Array): void {
    let begin = 0;
    this.#stretches = this.#stretches.flatMap((stretch) => {
      const pieces =
        stretch.rate === null && this.#budget < Number.POSITIVE_INFINITY ? unknown(counts, begin, stretch) : [stretch];
      for (const piece of pieces) {
        piece.work = 0;
        for (; begin < piece.end; begin++) piece.work += workOf(counts, begin);
      }
      return pieces;
    });
    this.#stale = true;
  }

  /** After which dispatches a submission ends, the last one among them. */
  ends(counts: Uint32Array): readonly number[] {
    if (!this.#stale) return this.#ends;
    this.#settle();
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

  /** What dispatches `from` .. `to` - 1 are, to be told to `took`. */
  submitted(from: number, to: number): Submitted {
    const begins = [0, ...this.#stretches.map(({ end }) => end)];
    return this.#stretches
      .filter(({ end, work }, i) => begins[i]! >= from && end <= to && work > 0)
      .map((stretch) => ({ stretch, work: stretch.work }));
  }

  /** Takes how long it took from the submission before it until it was done. It is believed when the next one, or a run, begins. */
  took(submitted: Submitted, milliseconds: number): void {
    if (milliseconds >= TOGETHER) this.#settle();
    this.#done = [...this.#done, ...submitted];
    this.#took += milliseconds;
    this.#stale = true;
  }

  /** Learns from what was done together. */
  #settle(): void {
    const [done, milliseconds] = [this.#done, this.#took];
    this.#done = [];
    this.#took = 0;
    const work = done.reduce((sum, part) => sum + part.work, 0);
    const expected = done.reduce((sum, part) => sum + (part.stretch.rate ?? 0) * part.work, 0);
    if (work === 0) return;
    // A measurement may be too long, by what the queue did before, but not too short.
    const off = milliseconds / expected;
    const factor = off > 1 ? (1 + off) / 2 : off;
    for (const stretch of new Set(done.map((part) => part.stretch))) {
      stretch.rate = expected > 0 && stretch.rate !== null ? stretch.rate * factor : milliseconds / work;
    }
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

/** A stretch that begins at `begin`, in pieces as large as they may be while nothing is known. */
function unknown(counts: Uint32Array, begin: number, stretch: Stretch): Stretch[] {
  const { end } = stretch;
  const ends: number[] = [];
  let [first, sum] = [begin, 0];
  for (let i = begin; i < end; i++) {
    const work = workOf(counts, i);
    if (i > first && (i - first === UNKNOWN.dispatches || sum + work > UNKNOWN.workgroups)) {
      ends.push(i);
      [first, sum] = [i, 0];
    }
    sum += work;
  }
  // What has been submitted keeps its stretch, if it can.
  return ends.length === 0 ? [stretch] : [...ends, end].map((to) => ({ end: to, work: 0, rate: null }));
}
