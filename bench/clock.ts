/** Which clock to trust on an engine: the driver's timestamps are held against the host's clock before anything is measured by them. */
import type { Engine } from '../engine/engine.ts';
import { type Clock, compileRepeated, type Repeated, runSeconds } from './harness.ts';
import { arithmetic } from './roofline.ts';

/** A clock, and why it was taken. */
export interface ClockChoice {
  readonly clock: Clock;
  readonly reason: string;
  /** Seconds by timestamps over seconds by the host, of two submissions, the second twice as long. Empty without timestamps. */
  readonly agreement: readonly number[];
}

/** What timestamps may say of work that the host sees take one second. Submitting, waiting and waking up are the host's own. */
export const PLAUSIBLE = { least: 0.7, most: 1.05 } as const;

/**
 * Timestamps where the device has them and they agree with the host's clock, which a driver that writes them when it queues the
 * work, or in another unit, does not. Lavapipe (Mesa 25.0) and SwiftShader write them where they should.
 */
export async function chooseClock(engine: Engine): Promise<ClockChoice> {
  if (!engine.device.features.has('timestamp-query'))
    return { clock: 'wall', reason: 'the device has no timestamps', agreement: [] };
  const agreement: number[] = [];
  for (const times of [1, 2]) {
    const program = await compileRepeated(engine, `clock x ${times}`, 'wall', (ctx) => {
      for (let i = 0; i < times; i++) arithmetic(ctx);
    });
    try {
      agreement.push(await ratio(program));
    } finally {
      program.program.dispose();
    }
  }
  const agrees = agreement.every((r) => r >= PLAUSIBLE.least && r <= PLAUSIBLE.most);
  const shares = agreement.map((r) => r.toFixed(2)).join(' and ');
  return agrees
    ? { clock: 'timestamp', reason: `timestamps are ${shares} of the host's seconds`, agreement }
    : {
        clock: 'wall',
        reason: `timestamps are ${shares} of the host's seconds, not between ${PLAUSIBLE.least} and ${PLAUSIBLE.most}`,
        agreement,
      };
}

/** By the fastest of several runs each: what disturbs one clock's run does not disturb the other's. */
async function ratio(timed: Repeated): Promise<number> {
  let [stamped, wall] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let run = 0; run < 5; run++) {
    stamped = Math.min(stamped, await runSeconds({ ...timed, clock: 'timestamp' }));
    wall = Math.min(wall, await runSeconds({ ...timed, clock: 'wall' }));
  }
  return stamped / wall;
}
