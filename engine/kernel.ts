/** A kernel: a named WGSL source. A dispatch: one use of one of its entry points. Nothing here touches a GPU. */
import { LimitError, UsageError } from './errors.ts';
import type { Scalar } from './scalar.ts';
import type { Tensor } from './tensor.ts';
import { type Constants, type LinkedWgsl, linkWgsl, type Mirror, type ReflectedEntry } from './wgsl.ts';

/** A named WGSL source, as `defineKernel` makes it. */
export interface Kernel {
  readonly name: string;
  readonly source: string;
  /** @internal Specialisations already linked, by constants and promoted bindings. */
  readonly linked: Map<string, LinkedWgsl>;
}

/** Declares a kernel; its bindings and parameters are read from the WGSL, so they are stated once. */
/* @__NO_SIDE_EFFECTS__ */
export function defineKernel(name: string, ...sources: string[]): Kernel {
  return { name, source: sources.join('\n'), linked: new Map() };
}

/** Workgroups: a count (folded into x and y where it exceeds 65,535) or up to three dimensions. */
export type Grid = Scalar | readonly [Scalar, Scalar?, Scalar?];

/** One use of a kernel's entry point: what is bound, by name, and how many workgroups run. */
export interface Dispatch {
  readonly kernel: Kernel;
  readonly entry: string;
  /** Values for the kernel's `override`s; others keep their defaults. */
  readonly constants?: Constants;
  /** A tensor for every storage buffer or texture, by name. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Names of those mirrored tensors whose lines had better lie apart (engine/mirrors.ts): where the kernel reads many rows side by side. */
  readonly apart?: readonly string[];
  /** A value for every field of the kernel's Params, by name. */
  readonly params?: Readonly<Record<string, Scalar>>;
  readonly grid: Grid;
}

export interface Binding {
  readonly name: string;
  readonly tensor: Tensor;
  readonly writable: boolean;
  readonly mirror: BoundMirror | null;
}

/** A mirror with how its lines lie, which its name says, too. */
export interface BoundMirror extends Mirror {
  readonly apart: boolean;
}

/** A dispatch checked against its kernel's reflection. */
export interface CheckedDispatch {
  readonly dispatch: Dispatch;
  readonly label: string;
  readonly entry: ReflectedEntry;
  readonly bindings: readonly Binding[];
}

export function linkedKernel(kernel: Kernel, constants: Constants = {}, promoted: readonly string[] = []): LinkedWgsl {
  const key = variantKey(constants, promoted);
  let linked = kernel.linked.get(key);
  if (!linked) {
    linked = linkWgsl(kernel.name, kernel.source, constants, promoted);
    kernel.linked.set(key, linked);
  }
  return linked;
}

export const variantKey = (constants: Constants, promoted: readonly string[]): string =>
  `${Object.entries(constants)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([k, v]) => `${k}=${Number(v)}`)
    .join(',')}|${promoted.join(',')}`;

/**
 * Checks a dispatch: every binding and parameter is given and none is unknown; no tensor is written while it is also
 * bound a second time.
 * @throws UsageError
 */
export function checkDispatch(dispatch: Dispatch, scope: string): CheckedDispatch {
  const { kernel, tensors, params = {} } = dispatch;
  const label = `${scope}${kernel.name}/${dispatch.entry}`;
  const entry = linkedKernel(kernel, dispatch.constants).entries.get(dispatch.entry);
  if (!entry) throw new UsageError(`kernel ${kernel.name} has no entry point '${dispatch.entry}'`);
  sameNames(label, 'tensor', entry.bindings, tensors);
  sameNames(label, 'parameter', entry.params, params);
  const bindings: Binding[] = [];
  for (const { name, writable, mirror } of entry.bindings) {
    const tensor = tensors[name]!;
    const apart = dispatch.apart?.includes(name) ?? false;
    // Chunks of one tensor have one mirror.
    const same = bindings.find(({ mirror: m, tensor: t }) => {
      return m?.format === mirror?.format && m?.apart === apart && t.storage === tensor.storage;
    });
    const own = mirror && { ...mirror, name: `${mirror.name}${apart ? '+' : ''}`, apart };
    bindings.push({ name, tensor, writable, mirror: own && (same?.mirror ?? own) });
  }
  for (const a of bindings) {
    for (const b of bindings) {
      if (a !== b && a.writable && a.tensor.storage === b.tensor.storage) {
        throw new UsageError(`${label} writes '${a.tensor.label}' as ${a.name} while it is also bound as ${b.name}`);
      }
    }
  }
  return { dispatch, label, entry, bindings };
}

function sameNames(
  label: string,
  what: string,
  declared: readonly { name: string }[],
  given: Readonly<Record<string, unknown>>,
) {
  const names = declared.map((d) => d.name);
  const missing = names.filter((n) => given[n] === undefined);
  const extra = Object.keys(given).filter((n) => !names.includes(n));
  if (missing.length + extra.length > 0) {
    throw new UsageError(`${label}: ${what} names do not match its WGSL`, {
      hint: `missing: ${missing.join(', ') || 'none'}; unknown: ${extra.join(', ') || 'none'}`,
    });
  }
}

/** Folds a linear count of workgroups into two dimensions below `limit`; kernels undo it with `linear_id` of lib.wgsl. */
export function workgroups(counts: readonly number[], limit: number, label: string): [number, number, number] {
  if (counts.length === 1 && counts[0]! > limit) {
    const y = Math.ceil(counts[0]! / limit);
    return workgroups([Math.ceil(counts[0]! / y), y], limit, label);
  }
  if (!counts.every((n) => Number.isInteger(n) && n >= 0)) {
    throw new UsageError(`${label}: a grid of ${counts.join(' x ')} workgroups; counts are 0, 1, 2, ...`);
  }
  const [x = 1, y = 1, z = 1] = counts;
  const most = Math.max(x, y, z);
  if (most > limit) {
    throw new LimitError(
      `${label} asks for ${x} x ${y} x ${z} workgroups; the device allows ${limit} in a dimension`,
      { asked: most, available: limit },
      { hint: 'use a smaller batch' },
    );
  }
  return [x, y, z];
}

export const gridOf = (grid: Grid): readonly Scalar[] =>
  typeof grid === 'object' && 'length' in grid ? grid.map((g) => g ?? 1) : [grid];
