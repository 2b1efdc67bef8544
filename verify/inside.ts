/** What the parts of the network give, against the activations that the reference recorded: a fault is found where it is made. */
import type { Tensors } from '../formats/safetensors.ts';
import { blocksThatRun } from '../model/config.ts';
import { paramsByName } from '../model/params.ts';
import { type Case, relativeError, shared, TOLERANCES, worst } from './case.ts';
import { formulaParams } from './formula-params.ts';
import type { GoldenModel } from './golden.ts';
import type { Network, Rows } from './network.ts';

/** The scope that makes what the reference calls by these names (verify/network.ts, `inside`). */
const SCOPES: Readonly<Record<string, string>> = {
  time_embed: 'condition/time',
  dt_embed: 'condition/step',
  label_embed: 'condition/label',
  block_embed: 'condition/length',
  conditioning: 'condition/sum',
  patch_embed: 'patches/embedded',
  pos_embed: 'positions',
  final_layer: 'head/patches',
};

const BLOCK = /^dit_block_(\d+)$/;

const scopeOf = (activation: string): string | undefined => {
  const block = BLOCK.exec(activation)?.[1];
  return block === undefined ? SCOPES[activation] : `block${block}`;
};

/**
 * Cases `act_blocks/...` and `act_conventional/...` of a forward file; `rowsOf` gives the inputs of one of these two. The reference
 * runs every block for every sample and leaves out the results of those beyond a sample's length: ours are compared where they run.
 */
export function insideCases(
  golden: GoldenModel,
  f: Tensors,
  load: () => Network,
  rowsOf: (call: string) => Rows | undefined,
): Record<string, Case> {
  const cases: Record<string, Case> = {};
  const runs = new Map<string, () => Promise<ReadonlyMap<string, Float32Array>>>();
  for (const tensor of f.names()) {
    const [, call, activation] = /^act_([a-z]+)\/(.+)$/.exec(tensor) ?? [];
    const scope = activation && scopeOf(activation);
    const rows = call && rowsOf(call);
    if (!scope || !rows) continue;
    const run = runs.get(call) ?? shared(() => load().inside(rows));
    runs.set(call, run);
    const block = BLOCK.exec(activation)?.[1];
    const runsIn = (sample: number) =>
      block === undefined || !rows.lengths || Number(block) < blocksThatRun(golden.config, rows.lengths[sample]!);
    cases[tensor] = {
      kind: 'forward',
      name: `inside_${call}/${activation}`,
      tolerance: scope.startsWith('condition/') ? TOLERANCES.embeddings : TOLERANCES.forward,
      run: async () => {
        const got = (await run()).get(scope) ?? new Float32Array();
        const wanted = f.floats(tensor);
        const samples = scope === 'positions' ? 1 : rows.t.length;
        const of = (values: Float32Array, i: number) =>
          values.subarray((i * values.length) / samples, ((i + 1) * values.length) / samples);
        const compared = Array.from({ length: samples }, (_, i) => i).filter(runsIn);
        return worst(compared.map((i) => [`sample ${i}`, relativeError(of(got, i), of(wanted, i))]));
      },
    };
  }
  return { ...cases, ...logVarianceCase(golden, f) };
}

/** Entries of the table of log-variances, which the reference's network carries along: its times in [0, 1) in as many steps. */
const LOG_VARIANCES = 256;

/** The log-variances that the reference reads beside the velocity. They change nothing, but must survive a conversion. */
function logVarianceCase(golden: GoldenModel, f: Tensors): Record<string, Case> {
  const tensor = 'act_blocks_logvars';
  if (!f.has(tensor)) return {};
  const run = async () => {
    const table = paramsByName(formulaParams(golden.config, golden.seed)).get('Embed_0/embedding')!;
    const ours = Float32Array.from(f.floats('t'), (t) => 100 * table[Math.floor(t * LOG_VARIANCES)]!);
    return { error: relativeError(ours, f.floats(tensor)) };
  };
  return { [tensor]: { kind: 'forward', name: 'inside_blocks/log_variances', tolerance: 0, run } };
}
