/** Steps of a diffusion on the straight path: against the products of DDPM, in float64, and between whole steps. */
import { expect, it } from 'vitest';
import { linearDiffusion } from '../../model/diffusion.ts';

/** alpha and sigma of DDPM's steps (arXiv 2006.11239, section 4: variances from 0.0001 to 0.02 in 1,000 steps). */
function ddpm(steps = 1000): { alpha: number; sigma: number }[] {
  let product = 1;
  return Array.from({ length: steps }, (_, s) => {
    product *= 1 - (1000 / steps) * (1e-4 + ((0.02 - 1e-4) * s) / (steps - 1));
    return { alpha: Math.sqrt(product), sigma: Math.sqrt(1 - product) };
  });
}

it('a whole step is found at its own ratio of data to noise, and scales the path to its input', () => {
  const at = linearDiffusion(1000);
  const all = ddpm();
  // The product of all of them, as it is known for this schedule.
  expect(all[999]!.alpha ** 2).toBeCloseTo(4.0358e-5, 9);
  for (const [s, { alpha, sigma }] of all.entries()) {
    const { step, t, scale } = at(alpha / (alpha + sigma));
    expect(Math.abs(step - s)).toBeLessThan(1e-8);
    expect(Math.abs(scale * t - alpha)).toBeLessThan(1e-12);
    expect(Math.abs(scale * (1 - t) - sigma)).toBeLessThan(1e-12);
  }
});

it('between steps the time is kept and steps fall evenly; beyond the first and the last they are those', () => {
  const at = linearDiffusion(1000);
  const all = ddpm();
  const times = Array.from({ length: 99 }, (_, i) => (i + 1) / 100);
  const steps = times.map((time) => at(time).step);
  for (const [i, time] of times.entries()) {
    if (i > 0) expect(steps[i]!).toBeLessThan(steps[i - 1]!);
    if (time < 0.99) expect(at(time).t).toBe(time);
  }
  for (const time of [1, 0.9999]) {
    const { alpha, sigma } = all[0]!;
    expect(at(time).step).toBe(0);
    expect(at(time).t).toBeCloseTo(alpha / (alpha + sigma), 12);
  }
  for (const time of [0, 1e-5]) {
    const { alpha, sigma } = all[999]!;
    expect(at(time).step).toBe(999);
    expect(at(time).t).toBeCloseTo(alpha / (alpha + sigma), 12);
  }
});

it('another number of steps stretches the variances; none that makes no sense', () => {
  const [first] = ddpm(100);
  const { step } = linearDiffusion(100)(first!.alpha / (first!.alpha + first!.sigma));
  expect(Math.abs(step)).toBeLessThan(1e-9);
  for (const steps of [1, 20, 99.5]) {
    expect(() => linearDiffusion(steps)).toThrow(`its timeScale is ${steps}: no number of steps`);
  }
});
