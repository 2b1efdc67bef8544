/**
 * What a replay needs beside tensors: the uniform block and the workgroups of every dispatch. Most are constants; what depends on
 * scalar inputs is worked out again only when one of its own inputs has changed since the last replay. Nothing here touches a GPU.
 */
import { type CheckedDispatch, gridOf, workgroups } from './kernel.ts';
import { PARAMS_BYTES } from './pipeline.ts';
import { evaluate, isSym, type Scalar, type ScalarValues } from './scalar.ts';
import { packField, packParams } from './uniforms.ts';

/** Something that depends on scalar inputs, and how to bring it up to date. */
interface Changing {
  readonly inputs: readonly string[];
  refresh(values: ScalarValues): void;
}

export class ReplayState {
  /** Byte offset of each dispatch's block; equal constant blocks are stored once, those that change lie first. */
  readonly offsets: readonly number[];
  /** Workgroups of each dispatch, three numbers each. */
  readonly counts: Uint32Array;
  /** All blocks as they are at first; those that change are not filled in before `update`. */
  readonly blocks: ArrayBuffer;
  /** The leading part of `blocks`, which `update` changes. */
  readonly changing: Uint8Array<ArrayBuffer>;
  readonly #fields: Changing[] = [];
  readonly #grids: Changing[] = [];
  /** Counts updates that changed `counts`. */
  resized = 0;
  /** Values of the last update; null where an update failed or none has been. */
  #last: ScalarValues | null = null;

  /** `limit`: most workgroups in a dimension. @throws UsageError for parameters and grids that cannot be, LimitError. */
  constructor(nodes: readonly CheckedDispatch[], limit: number) {
    const symbolic = (node: CheckedDispatch) => Object.values(node.dispatch.params ?? {}).some(isSym);
    const dynamic = nodes.filter(symbolic);
    const place = new Map(dynamic.map((node, i) => [node, i * PARAMS_BYTES]));
    const shared = new Map<string, number>();
    const constant: Uint8Array[] = [];
    const first = dynamic.length * PARAMS_BYTES;
    this.offsets = nodes.map((node) => {
      const own = place.get(node);
      if (own !== undefined) return own;
      const block = new ArrayBuffer(PARAMS_BYTES);
      packParams(node, new DataView(block), 0);
      const text = new Uint32Array(block).join();
      const offset = shared.get(text) ?? first + constant.length * PARAMS_BYTES;
      if (!shared.has(text)) constant.push(new Uint8Array(block));
      shared.set(text, offset);
      return offset;
    });
    this.blocks = new ArrayBuffer(Math.max(PARAMS_BYTES, first + constant.length * PARAMS_BYTES));
    const bytes = new Uint8Array(this.blocks);
    constant.forEach((block, i) => {
      bytes.set(block, first + i * PARAMS_BYTES);
    });
    this.changing = bytes.subarray(0, first);
    const view = new DataView(this.blocks);
    for (const [node, offset] of place) {
      packParams(node, view, offset);
      for (const field of node.entry.params) {
        const scalar = node.dispatch.params![field.name]!;
        if (!isSym(scalar)) continue;
        const refresh = (values: ScalarValues) => packField(node, field, scalar.evaluate(values), view, offset);
        this.#fields.push({ inputs: scalar.inputs, refresh });
      }
    }
    this.counts = new Uint32Array(3 * nodes.length);
    nodes.forEach((node, i) => {
      const grid = gridOf(node.dispatch.grid);
      const count = (values: ScalarValues) => {
        const counts = grid.map((g: Scalar) => evaluate(g, values));
        this.counts.set(workgroups(counts, limit, node.label), 3 * i);
      };
      const inputs = grid.flatMap((g) => (isSym(g) ? g.inputs : []));
      if (inputs.length > 0) this.#grids.push({ inputs, refresh: count });
      else count({});
    });
  }

  /**
   * Brings blocks and workgroups up to date with `values`; tells whether `changing` has changed.
   * @throws UsageError for a value that is missing or does not fit, LimitError; the next update then starts afresh.
   */
  update(values: ScalarValues): boolean {
    const last = this.#last;
    const stale = ({ inputs }: Changing) =>
      last === null || inputs.some((name) => !Object.is(values[name], last[name]));
    const fields = this.#fields.filter(stale);
    const grids = this.#grids.filter(stale);
    if (fields.length + grids.length === 0) return false;
    this.#last = null;
    for (const { refresh } of fields) refresh(values);
    for (const { refresh } of grids) refresh(values);
    if (grids.length > 0) this.resized++;
    this.#last = { ...values };
    return fields.length > 0;
  }
}
