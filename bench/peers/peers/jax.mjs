/** jax-js: functions under jit, with arrays that stay on its WebGPU device. What a function is given, it consumes: hence `.ref`. */
import { versionOf } from '../versions.mjs';
import { asleep, provideWebGpu, setGlobal } from '../webgpu.mjs';
import { ADAMW, EPSILON, weightsIn } from '../workloads.mjs';

/** What it takes for granted and Node 20 lacks. */
async function polyfill() {
  const { Float16Array } = await import('@petamoriken/float16');
  if (!('Float16Array' in globalThis)) setGlobal('Float16Array', Float16Array);
  await import('core-js/actual/iterator/index.js');
}

/** A tree of arrays, each to be consumed once more. */
const refs = (tree) => Object.fromEntries(Object.entries(tree).map(([name, array]) => [name, array.ref]));

const pick = (tree, names) => Object.fromEntries(names.map((name) => [name, tree[name]]));

export async function open({ adapter }) {
  await polyfill();
  const described = await provideWebGpu(adapter);
  const jax = await import('@jax-js/jax');
  const { numpy: np, nn, jit } = jax;
  const available = await jax.init('webgpu');
  if (!available.includes('webgpu')) throw new Error('jax-js found no WebGPU');
  jax.defaultDevice('webgpu');
  const { queue } = jax.getWebGPUDevice();

  /** softmax(q k^T / sqrt(head)) v; [B, T, D]. */
  function attention(q, k, v, { batch, tokens, width, heads }) {
    const [qh, kh, vh] = [q, k, v].map((x) => x.reshape([batch, tokens, heads, width / heads]));
    return nn.dotProductAttention(qh, kh, vh).reshape([batch, tokens, width]);
  }

  /** norm(x) (1 + scale) + shift; x [B, T, D], the others [B, 1, D]. */
  const modulate = (x, shift, scale) => nn.standardize(x, -1, { epsilon: EPSILON }).mul(scale.add(1)).add(shift);

  /** Consumes the block's input, and of the weights what it takes. */
  function block(x, c, w, i, size) {
    const dense = (input, name) => np.matmul(input, w[`${i}.${name}.w`].ref).add(w[`${i}.${name}.b`].ref);
    const modulation = dense(nn.silu(c), 'mod').reshape([size.batch, 1, 6 * size.width]);
    const [shift1, scale1, gate1, shift2, scale2, gate2] = np.split(modulation, 6, -1);
    const h1 = modulate(x.ref, shift1, scale1);
    const [q, k, v] = [dense(h1.ref, 'q'), dense(h1.ref, 'k'), dense(h1, 'v')];
    const x1 = x.add(gate1.mul(dense(attention(q, k, v, size), 'o')));
    const hidden = nn.gelu(dense(modulate(x1.ref, shift2, scale2), 'up'), { approximate: true });
    return x1.add(gate2.mul(dense(hidden, 'down')));
  }

  /** All blocks; consumes its arguments. */
  function blocks(w, x, c, size) {
    for (let i = 0; i < size.depth; i++) x = block(x, c.ref, w, i, size);
    c.dispose();
    for (const array of Object.values(w)) array.dispose();
    return x;
  }

  /** AdamW of all weights; `rest` holds 1 - beta^count for both betas. */
  function adamw(w, gradients, m, v, rest1, rest2) {
    const { lr, beta1, beta2, eps, decay } = ADAMW;
    const next = { w: {}, m: {}, v: {} };
    for (const name of Object.keys(w)) {
      const g = gradients[name];
      const m1 = m[name].mul(beta1).add(g.ref.mul(1 - beta1));
      const v1 = v[name].mul(beta2).add(np.square(g).mul(1 - beta2));
      const step = m1.ref.div(rest1.ref).div(np.sqrt(v1.ref.div(rest2.ref)).add(eps));
      next.w[name] = w[name].ref.sub(step.add(w[name].mul(decay)).mul(lr));
      next.m[name] = m1;
      next.v[name] = v1;
    }
    rest1.dispose();
    rest2.dispose();
    return next;
  }

  /** Of each kind: makes what runs it once, from its inputs' arrays to its outputs by name. */
  const KINDS = {
    product() {
      const f = jit((a, b) => np.matmul(a, b));
      return ({ a, b }) => ({ y: f(a.ref, b.ref) });
    },
    attention(size) {
      const f = jit((q, k, v) => attention(q, k, v, size));
      return ({ q, k, v }) => ({ y: f(q.ref, k.ref, v.ref) });
    },
    layernorm({ batch, width }) {
      const f = jit((x, modulation) => {
        const [shift, scale] = np.split(modulation.reshape([batch, 1, 2 * width]), 2, -1);
        return modulate(x, shift, scale);
      });
      return ({ x, modulation }) => ({ y: f(x.ref, modulation.ref) });
    },
    block(size, names) {
      const f = jit((w, x, c) => blocks(w, x, c, size));
      return (arrays) => ({ y: f(refs(pick(arrays, names)), arrays.x.ref, arrays.c.ref) });
    },
    gradient(size, names) {
      const along = (w, x, c, dy) => blocks(w, x, c, size).mul(dy).sum();
      const f = jit(jax.grad(along, { argnums: [0, 1] }));
      return (arrays) => {
        const [dw, dx] = f(refs(pick(arrays, names)), arrays.x.ref, arrays.c.ref, arrays.dy.ref);
        return { x: dx, ...dw };
      };
    },
    train(size, names) {
      const loss = (w, x, c, target) => np.square(blocks(w, x, c, size).sub(target)).mean();
      const f = jit((w, m, v, x, c, target, rest1, rest2) => {
        const [value, gradients] = jax.valueAndGrad(loss)(refs(w), x, c, target);
        return { loss: value, ...adamw(w, gradients, m, v, rest1, rest2) };
      });
      let state;
      let count = 0;
      return (arrays) => {
        const zeros = () => Object.fromEntries(names.map((name) => [name, np.zeros(arrays[name].shape)]));
        state ??= { w: refs(pick(arrays, names)), m: zeros(), v: zeros() };
        count++;
        const rests = [ADAMW.beta1, ADAMW.beta2].map((beta) => np.array(1 - beta ** count));
        const next = f(state.w, state.m, state.v, arrays.x.ref, arrays.c.ref, arrays.target.ref, ...rests);
        state = { w: next.w, m: next.m, v: next.v };
        return { loss: next.loss, ...refs(next.w) };
      };
    },
  };

  return {
    version: versionOf('@jax-js/jax'),
    adapter: described,
    async prepare({ kind, size }, inputs) {
      if (!(kind in KINDS)) return undefined;
      const arrays = {};
      for (const [name, { shape, data }] of Object.entries(inputs)) arrays[name] = np.array(data).reshape(shape);
      await jax.blockUntilReady(arrays);
      const once = KINDS[kind](size, Object.keys(weightsIn(inputs)));
      let outputs = {};
      return {
        run() {
          for (const array of Object.values(outputs)) array.dispose();
          outputs = once(arrays);
        },
        async done() {
          await asleep(jax.blockUntilReady(outputs));
          await asleep(queue.onSubmittedWorkDone());
        },
        async read() {
          const values = await Promise.all(Object.values(outputs).map((array) => array.ref.data()));
          return Object.fromEntries(Object.keys(outputs).map((name, i) => [name, values[i]]));
        },
      };
    },
  };
}
