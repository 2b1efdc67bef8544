/** odelt by its public interface: every workload recorded once as a program and replayed. */
import { createNodeEngine, Program, record, scalarInput } from '../../../dist/node.js';
import * as ops from '../../../dist/ops.js';
import { applyLayer, CLAMP, GROUP_EPSILON, GROUPS, layersOf } from '../autoencoder.mjs';
import { odeltVersion } from '../versions.mjs';
import { asleep } from '../webgpu.mjs';
import { ADAMW, weightsIn } from '../workloads.mjs';

/** One DiT block, as model/block.ts composes it; `c` [B, D] is activated already. */
function block(ctx, x, c, dense, { width, heads }) {
  const [shift1, scale1, gate1, shift2, scale2, gate2] = ops.chunk(ctx, ops.linear(ctx, c, dense('mod')), 6);
  const h1 = ops.layernorm(ctx, x, shift1, scale1);
  const [q, k, v] = ['q', 'k', 'v'].map((name) => ops.linear(ctx, h1, dense(name)));
  const o = ops.attention(ctx, q, k, v, { heads, scale: Math.sqrt(heads / width) });
  const x1 = ops.gatedLinear(ctx, o, dense('o'), x, gate1);
  const h2 = ops.layernorm(ctx, x1, shift2, scale2);
  return ops.gatedLinear(ctx, ops.linear(ctx, h2, dense('up'), 'gelu'), dense('down'), x1, gate2);
}

function blocks(ctx, t, size) {
  const c = ops.silu(ctx, t.c);
  const dense = (i) => (name) => ({ kernel: t[`${i}.${name}.w`], bias: t[`${i}.${name}.b`] });
  let { x } = t;
  for (let i = 0; i < size.depth; i++) x = block(ctx, x, c, dense(i), size);
  return x;
}

/** The layers of an autoencoder, as model/autoencoder/layers.ts records them. */
function decoded(ctx, t, workload) {
  const operations = {
    clamp: (x) => ops.softClamp(ctx, x, CLAMP),
    conv: (x, part, { relu, residual, double, bias }) =>
      ops.convolution(
        ctx,
        x,
        { kernel: t[`${part}.w`], ...(bias && { bias: t[`${part}.b`] }) },
        { activation: relu ? 'relu' : 'none', upsample: double ?? false, ...(residual && { residual }) },
      ),
    norm: (x, part) =>
      ops.groupnorm(
        ctx,
        x,
        { gain: t[`${part}.g`], bias: t[`${part}.b`] },
        { groups: GROUPS, eps: GROUP_EPSILON, activation: 'silu' },
      ),
  };
  let { x } = t;
  for (const layer of layersOf(workload)) x = applyLayer(layer, x, operations);
  return x;
}

/** Tensors shaped as those of `like`, as views of one, on which AdamW runs at once. */
function together(engine, label, like) {
  const aligned = ({ data }) => Math.ceil(data.length / 64) * 64;
  const all = Object.entries(like);
  const whole = engine.tensor(label, [all.reduce((sum, [, input]) => sum + aligned(input), 0)]);
  let at = 0;
  const views = all.map(([name, input]) => {
    const view = engine.slice(whole, at, `${label}/${name}`, input.shape);
    at += aligned(input);
    return [name, view];
  });
  return { whole, views: Object.fromEntries(views) };
}

/** What each kind of workload records: from tensors by name to its outputs by name. */
const RECORD = {
  product: (ctx, t) => ({ y: ops.linear(ctx, t.a, { kernel: t.b, bias: t.zero }) }),
  attention: (ctx, { q, k, v }, { heads, width }) => ({
    y: ops.attention(ctx, q, k, v, { heads, scale: Math.sqrt(heads / width) }),
  }),
  layernorm(ctx, { x, modulation }) {
    const [shift, scale] = ops.chunk(ctx, modulation, 2);
    return { y: ops.layernorm(ctx, x, shift, scale) };
  },
  block: (ctx, t, size) => ({ y: blocks(ctx, t, size) }),
  decoder: (ctx, t, size) => ({ y: decoded(ctx, t, { kind: 'decoder', size }) }),
  stage: (ctx, t, size) => ({ y: decoded(ctx, t, { kind: 'stage', size }) }),
  gradient(ctx, t, size, engine, inputs) {
    const wanted = ['x', ...Object.keys(weightsIn(inputs))];
    const gradients = wanted.map((name) => [name, engine.tensor(`d(${name})`, inputs[name].shape)]);
    const tape = ops.createTape();
    for (const [name, gradient] of gradients) tape.watch(t[name], gradient);
    ctx.tape = tape;
    const y = blocks(ctx, t, size);
    tape.backward(ctx, [[y, t.dy]]);
    return Object.fromEntries(gradients);
  },
  train(ctx, t, size, engine, inputs) {
    const weights = weightsIn(inputs);
    const [gradients, m, v, ema] = ['gradients', 'm', 'v', 'ema'].map((label) => together(engine, label, weights));
    const tape = ops.createTape();
    for (const name of Object.keys(weights)) tape.watch(t[name], gradients.views[name]);
    ctx.tape = tape;
    const y = blocks(ctx, t, size);
    const loss = ctx.withoutTape(() => ops.mse(ctx, y, t.target).loss);
    tape.backward(ctx, [[y, ops.mseSeed(ctx, y, t.target)]]);
    ctx.tape = null;
    const state = { params: t.weights, gradient: gradients.whole, m: m.whole, v: v.whole, ema: ema.whole };
    ops.adamw(ctx, state, { ...ADAMW, count: scalarInput('count') });
    return { loss, ...Object.fromEntries(Object.keys(weights).map((name) => [name, t[name]])) };
  },
};

export async function open({ adapter }) {
  const { engine, node } = await createNodeEngine({ adapter });
  return {
    version: odeltVersion(),
    adapter: node.adapterReport.adapter,
    async prepare({ kind, size }, inputs) {
      const weights = kind === 'train' ? together(engine, 'weights', weightsIn(inputs)) : undefined;
      const tensors = { weights: weights?.whole };
      if (kind === 'product') tensors.zero = engine.tensor('zero', [size.columns]);
      for (const [name, { shape, data }] of Object.entries(inputs)) {
        tensors[name] = weights?.views[name] ?? engine.tensor(name, shape);
        engine.write(tensors[name], data);
      }
      const { recording, result } = record(engine, kind, (ctx, keep) => {
        const outputs = RECORD[kind](ctx, tensors, size, engine, inputs);
        for (const output of Object.values(outputs)) if (!output.storage.place) keep(output);
        return outputs;
      });
      const program = await Program.compile(engine, recording);
      let count = 0;
      return {
        run: () => program.run({ count: ++count }),
        done: () => asleep(engine.device.queue.onSubmittedWorkDone()),
        async read() {
          const values = await engine.readAll(Object.values(result));
          return Object.fromEntries(Object.keys(result).map((name, i) => [name, values[i]]));
        },
      };
    },
  };
}
