/** TensorFlow.js on its WebGPU backend: eager operations, tidied; it has no jit. */

import { applyLayer, CLAMP, GROUP_EPSILON, GROUPS, layersOf } from '../autoencoder.mjs';
import { versionOf } from '../versions.mjs';
import { asleep, provideWebGpu } from '../webgpu.mjs';
import { ADAMW, EPSILON, weightsIn } from '../workloads.mjs';

const GELU = Math.sqrt(2 / Math.PI);

export async function open({ adapter }) {
  const described = await provideWebGpu(adapter);
  const tf = await import('@tensorflow/tfjs');
  await import('@tensorflow/tfjs-backend-webgpu');
  if (!(await tf.setBackend('webgpu'))) throw new Error('TensorFlow.js found no WebGPU');
  await tf.ready();
  const backend = tf.backend();

  /** softmax(q k^T / sqrt(head)) v; [B, T, D]. */
  function attention(q, k, v, { batch, tokens, width, heads }) {
    const split = (x) => tf.transpose(tf.reshape(x, [batch, tokens, heads, width / heads]), [0, 2, 1, 3]);
    const logits = tf.mul(tf.matMul(split(q), split(k), false, true), Math.sqrt(heads / width));
    const y = tf.matMul(tf.softmax(logits), split(v));
    return tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [batch, tokens, width]);
  }

  /** norm(x) (1 + scale) + shift; x [B, T, D], the others [B, 1, D]. */
  function modulate(x, shift, scale) {
    const { mean, variance } = tf.moments(x, -1, true);
    const normal = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, EPSILON)));
    return tf.add(tf.mul(normal, tf.add(scale, 1)), shift);
  }

  function gelu(x) {
    const inner = tf.mul(tf.add(x, tf.mul(tf.mul(tf.mul(x, x), x), 0.044715)), GELU);
    return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
  }

  /** Rows of x, [..., in], through a dense layer. */
  function dense(x, w, b) {
    const y = tf.fused.matMul({ a: tf.reshape(x, [-1, w.shape[0]]), b: w, bias: b });
    return tf.reshape(y, [...x.shape.slice(0, -1), w.shape[1]]);
  }

  function block(x, c, layer, { batch, width, ...size }) {
    const modulation = tf.reshape(layer(tf.mul(c, tf.sigmoid(c)), 'mod'), [batch, 1, 6 * width]);
    const [shift1, scale1, gate1, shift2, scale2, gate2] = tf.split(modulation, 6, -1);
    const h1 = modulate(x, shift1, scale1);
    const [q, k, v] = ['q', 'k', 'v'].map((name) => layer(h1, name));
    const x1 = tf.add(x, tf.mul(gate1, layer(attention(q, k, v, { batch, width, ...size }), 'o')));
    const hidden = gelu(layer(modulate(x1, shift2, scale2), 'up'));
    return tf.add(x1, tf.mul(gate2, layer(hidden, 'down')));
  }

  function blocks(t, x, size) {
    for (let i = 0; i < size.depth; i++) {
      x = block(x, t.c, (input, name) => dense(input, t[`${i}.${name}.w`], t[`${i}.${name}.b`]), size);
    }
    return x;
  }

  /** The layers of an autoencoder; pictures are NHWC, which the backend has kernels for, with bias and ReLU fused. */
  function decoded(t, workload) {
    const operations = {
      clamp: (x) => tf.mul(tf.tanh(tf.div(x, CLAMP)), CLAMP),
      conv(x, part, { input, output, taps, relu, residual, double, bias }) {
        const [, height, width] = x.shape;
        const side = Math.sqrt(taps);
        const y = tf.fused.conv2d({
          x: double ? tf.image.resizeNearestNeighbor(x, [2 * height, 2 * width]) : x,
          filter: tf.reshape(t[`${part}.w`], [side, side, input, output]),
          ...{ strides: 1, pad: 'same', activation: relu && !residual ? 'relu' : 'linear' },
          ...(bias && { bias: t[`${part}.b`] }),
        });
        if (!residual) return y;
        return relu ? tf.relu(tf.add(y, residual)) : tf.add(y, residual);
      },
      norm(x, part, channels) {
        const [batch, height, width] = x.shape;
        const grouped = tf.reshape(x, [batch, height * width, GROUPS, channels / GROUPS]);
        const { mean, variance } = tf.moments(grouped, [1, 3], true);
        const normal = tf.mul(tf.sub(grouped, mean), tf.rsqrt(tf.add(variance, GROUP_EPSILON)));
        const v = tf.add(tf.mul(tf.reshape(normal, x.shape), t[`${part}.g`]), t[`${part}.b`]);
        return tf.mul(v, tf.sigmoid(v));
      },
    };
    let { x } = t;
    for (const layer of layersOf(workload)) x = applyLayer(layer, x, operations);
    return x;
  }

  /** Of each kind: what runs it once, from its inputs' tensors to its outputs by name. */
  const KINDS = {
    product: () => (t) => ({ y: tf.matMul(t.a, t.b) }),
    attention: (size) => (t) => ({ y: attention(t.q, t.k, t.v, size) }),
    layernorm({ batch, width }) {
      return (t) => ({
        y: modulate(t.x, ...tf.split(tf.reshape(t.modulation, [batch, 1, 2 * width]), 2, -1)),
      });
    },
    block: (size) => (t) => ({ y: blocks(t, t.x, size) }),
    decoder: (size) => (t) => ({ y: decoded(t, { kind: 'decoder', size }) }),
    stage: (size) => (t) => ({ y: decoded(t, { kind: 'stage', size }) }),
    gradient(size, names) {
      return (t) => {
        const along = (x, ...weights) => {
          const w = Object.fromEntries(names.map((name, i) => [name, weights[i]]));
          return tf.sum(tf.mul(blocks({ ...w, c: t.c }, x, size), t.dy));
        };
        const [dx, ...dw] = tf.grads(along)([t.x, ...names.map((name) => t[name])]);
        return { x: dx, ...Object.fromEntries(names.map((name, i) => [name, dw[i]])) };
      };
    },
    train(size, names, t) {
      const { lr, beta1, beta2, eps, decay } = ADAMW;
      const adam = tf.train.adam(lr, beta1, beta2, eps);
      const weights = names.map((name) => tf.variable(t[name], true, name));
      const w = { ...t, ...Object.fromEntries(names.map((name, i) => [name, weights[i]])) };
      const loss = () => tf.mean(tf.square(tf.sub(blocks(w, t.x, size), t.target)));
      return () => {
        const { value, grads } = tf.variableGrads(loss, weights);
        // Decoupled decay: of the weights as they were when the gradient was taken.
        for (const weight of weights) weight.assign(tf.mul(weight, 1 - lr * decay));
        adam.applyGradients(grads);
        return { loss: value, ...Object.fromEntries(names.map((name, i) => [name, tf.clone(weights[i])])) };
      };
    },
  };

  return {
    version: versionOf('@tensorflow/tfjs-backend-webgpu'),
    adapter: described,
    async prepare({ kind, size }, inputs) {
      const tensors = {};
      for (const [name, { shape, data }] of Object.entries(inputs)) {
        const onHost = tf.tensor(data, shape);
        tensors[name] = tf.mul(onHost, 1); // on the GPU from here on
        onHost.dispose();
      }
      const once = KINDS[kind](size, Object.keys(weightsIn(inputs)), tensors);
      let outputs = {};
      return {
        run() {
          tf.dispose(outputs);
          outputs = tf.tidy(() => once(tensors));
          // What reading a tensor does before it copies: submits what has been gathered so far.
          backend.ensureCommandEncoderReady();
          backend.endComputePassEncoder();
          backend.submitQueue();
        },
        done: () => asleep(backend.queue.onSubmittedWorkDone()),
        async read() {
          const values = await Promise.all(Object.values(outputs).map((tensor) => tensor.data()));
          return Object.fromEntries(Object.keys(outputs).map((name, i) => [name, values[i]]));
        },
      };
    },
  };
}
