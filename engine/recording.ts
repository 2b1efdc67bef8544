/** Recordings: the operations of a body as a list of dispatches, with the tensors that are still to be given memory. No GPU. */
import { Context } from './context.ts';
import type { Engine } from './engine.ts';
import { UsageError } from './errors.ts';
import type { CheckedDispatch } from './kernel.ts';
import { type Plan, plan } from './memory/planner.ts';
import { type Storage, storageBytes, type Tensor, tensor } from './tensor.ts';

const HINT = 'await what the body needs before recording it';

/** A recorded list of dispatches and the storages that it needs placed. */
export interface Recording {
  readonly name: string;
  /** @internal */
  readonly nodes: readonly CheckedDispatch[];
  readonly storages: readonly Storage[];
  /** Storages whose contents must last until the end of the run. */
  readonly kept: ReadonlySet<Storage>;
}

/**
 * Records what `body` dispatches before it returns. `keep` marks the planned tensors to be read after a run.
 * @throws UsageError for an asynchronous body; its context throws it for what is dispatched later
 */
export function record<T>(engine: Engine, name: string, body: (ctx: Context, keep: (t: Tensor) => void) => T) {
  let ended = false;
  const open = () => {
    if (ended) throw new UsageError(`the recording '${name}' has ended`, { hint: HINT });
  };
  const nodes: CheckedDispatch[] = [];
  const storages: Storage[] = [];
  const kept = new Set<Storage>();
  const started = performance.now();
  const ctx = new Context(engine, {
    empty(label, shape, dtype) {
      open();
      const storage: Storage = { label, bytes: storageBytes({ shape, dtype }), place: null };
      storages.push(storage);
      return tensor(label, shape, dtype, storage);
    },
    dispatch(checked) {
      open();
      nodes.push(checked);
    },
  });
  const result = body(ctx, (t) => void kept.add(t.storage));
  ended = true;
  if (result instanceof Promise) {
    result.catch(() => null); // what it throws from now on follows from this
    throw new UsageError(`the body of the recording '${name}' is asynchronous`, { hint: HINT });
  }
  engine.did('record', name, started);
  const recording: Recording = { name, nodes, storages, kept };
  return { recording, result };
}

/** Where each planned storage of a recording goes, without needing a GPU's memory. */
export function planRecording(recording: Recording, slabLimit: number): { plan: Plan; used: Storage[] } {
  const planned = new Set(recording.storages);
  const first = new Map<Storage, number>();
  const last = new Map<Storage, number>();
  recording.nodes.forEach((node, i) => {
    for (const { tensor: t, writable } of node.bindings) {
      if (!planned.has(t.storage)) continue;
      if (!first.has(t.storage)) {
        if (!writable) throw new UsageError(`${node.label} reads '${t.label}', which nothing has written`);
        first.set(t.storage, i);
      }
      last.set(t.storage, i);
    }
  });
  const used = recording.storages.filter((s) => first.has(s));
  const lifetimes = used.map((s) => ({
    label: s.label,
    bytes: s.bytes,
    first: first.get(s)!,
    last: recording.kept.has(s) ? recording.nodes.length : last.get(s)!,
  }));
  return { plan: plan(lifetimes, slabLimit), used };
}
