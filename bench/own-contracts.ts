/** Contracts that somebody else's module exports, told from whatever else it does. */
import { ConfigError } from '../engine/errors.ts';
import type { Contract } from '../kernels/contract.ts';

const isContract = (value: unknown): value is Contract => {
  if (typeof value !== 'object' || value === null) return false;
  const { name, cases, inputs, run, reference, differentiable, reduction } = value as Record<string, unknown>;
  const functions = [inputs, run, reference, reduction].every((f) => typeof f === 'function');
  return typeof name === 'string' && functions && Array.isArray(cases) && Array.isArray(differentiable);
};

/**
 * The contracts among a module's exports, each by itself or in arrays. `module` is what to call it.
 * @throws ConfigError for none, two of one name, none with cases to time, or a `cost` that is no number of operations and bytes.
 */
export function contractsOf(exports: Readonly<Record<string, unknown>>, module: string): Contract[] {
  const found = [...new Set(Object.values(exports).flat().filter(isContract))];
  const names = found.map(({ name }) => name);
  if (found.length === 0) {
    const exported = Object.keys(exports).join(', ') || 'nothing';
    throw new ConfigError(`${module} exports no contract; it exports ${exported}`, {
      hint: `export what contract() of 'odelt/bench' gives`,
    });
  }
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) throw new ConfigError(`${module} exports two contracts that are named '${twice}'`);
  const timed = found.filter((c) => c.bench);
  if (timed.length === 0) {
    throw new ConfigError(`${module}: no cases to time in ${names.map((name) => `'${name}'`).join(', ')}`, {
      hint: 'give the contract bench: { cases, cost }',
    });
  }
  for (const c of timed) for (const k of c.bench!.cases) checkCost(c, k, module);
  return timed;
}

function checkCost(c: Contract, k: object, module: string): void {
  const cost = c.bench!.cost(k);
  for (const work of [cost, ...(cost?.backward ? [cost.backward] : [])]) {
    for (const field of ['flops', 'bytes'] as const) {
      const value: unknown = work?.[field];
      if (typeof value === 'number' && Number.isFinite(value) && value >= 0) continue;
      throw new ConfigError(`${module}: the cost of ${c.name} ${JSON.stringify(k)} has ${field} of ${value}`, {
        hint: 'give flops and bytes, each a number from 0 on',
      });
    }
  }
}
