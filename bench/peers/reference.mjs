/**
 * The workloads in float64 and plain loops: what every peer's result is held to. A DiT block is
 *   shift1, scale1, gate1, shift2, scale2, gate2 = silu(c) mod        (Peebles & Xie 2023)
 *   x1 = x  + gate1 * (attention(h q, h k, h v) o)      h  = norm(x)  (1 + scale1) + shift1
 *   y  = x1 + gate2 * (gelu(h2 up) down)                h2 = norm(x1) (1 + scale2) + shift2
 * where a layer's name means "times its matrix, plus its bias", and gelu is the approximation with tanh.
 */
import { decoded } from './autoencoder.mjs';
import { ADAMW, EPSILON, weightsIn } from './workloads.mjs';

/** a [rows, inner] times b [inner, columns]; four rows at once, so that b is read a quarter as often. */
export function product(a, b, rows, inner, columns) {
  const c = new Float64Array(rows * columns);
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    const c0 = c.subarray(r * columns, (r + 1) * columns);
    const c1 = c.subarray((r + 1) * columns, (r + 2) * columns);
    const c2 = c.subarray((r + 2) * columns, (r + 3) * columns);
    const c3 = c.subarray((r + 3) * columns, (r + 4) * columns);
    for (let k = 0; k < inner; k++) {
      const [a0, a1] = [a[r * inner + k], a[(r + 1) * inner + k]];
      const [a2, a3] = [a[(r + 2) * inner + k], a[(r + 3) * inner + k]];
      for (let j = 0, at = k * columns; j < columns; j++, at++) {
        const v = b[at];
        c0[j] += a0 * v;
        c1[j] += a1 * v;
        c2[j] += a2 * v;
        c3[j] += a3 * v;
      }
    }
  }
  for (; r < rows; r++) {
    for (let k = 0; k < inner; k++) {
      const v = a[r * inner + k];
      for (let j = 0; j < columns; j++) c[r * columns + j] += v * b[k * columns + j];
    }
  }
  return c;
}

export function transposed(a, rows, columns) {
  const t = new Float64Array(a.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) t[c * rows + r] = a[r * columns + c];
  return t;
}

/** x w + b, over all rows of x. */
function dense(x, w, b) {
  const inner = w.length / b.length;
  return product(x, w, x.length / inner, inner, b.length).map((v, i) => v + b[i % b.length]);
}

/** Gradients of `dense` by x, w and b. */
function denseBackward(x, w, dy, columns) {
  const inner = w.length / columns;
  const rows = x.length / inner;
  const db = new Float64Array(columns);
  dy.forEach((v, i) => {
    db[i % columns] += v;
  });
  return {
    dx: product(dy, transposed(w, inner, columns), rows, columns, inner),
    dw: product(transposed(x, rows, inner), dy, inner, rows, columns),
    db,
  };
}

const silu = (x) => x.map((v) => v / (1 + Math.exp(-v)));

const GELU = Math.sqrt(2 / Math.PI);
export const gelu = (x) => x.map((v) => 0.5 * v * (1 + Math.tanh(GELU * (v + 0.044715 * v ** 3))));
function geluBackward(x, dy) {
  return x.map((v, i) => {
    const t = Math.tanh(GELU * (v + 0.044715 * v ** 3));
    return dy[i] * (0.5 * (1 + t) + 0.5 * v * (1 - t * t) * GELU * (1 + 3 * 0.044715 * v * v));
  });
}

/** Part `k` of `count` equal parts of each row of a matrix. */
function part(matrix, count, k, width) {
  return Float64Array.from(
    { length: matrix.length / count },
    (_, i) => matrix[(Math.floor(i / width) * count + k) * width + (i % width)],
  );
}

/** Rows of x normalised to mean 0 and variance 1, and the factors by which it was done. */
function normalise(x, width) {
  const normal = new Float64Array(x.length);
  const factors = new Float64Array(x.length / width);
  for (let r = 0; r < factors.length; r++) {
    const row = x.subarray(r * width, (r + 1) * width);
    const mean = row.reduce((s, v) => s + v, 0) / width;
    const variance = row.reduce((s, v) => s + (v - mean) ** 2, 0) / width;
    factors[r] = 1 / Math.sqrt(variance + EPSILON);
    for (let c = 0; c < width; c++) normal[r * width + c] = (row[c] - mean) * factors[r];
  }
  return { normal, factors };
}

/** Which element of a [B, D] matrix belongs to element i of a [B, T, D] one. */
const sampleOf = (i, { tokens, width }) => Math.floor(i / (tokens * width)) * width + (i % width);

const modulate = (normal, shift, scale, size) =>
  normal.map((v, i) => v * (1 + scale[sampleOf(i, size)]) + shift[sampleOf(i, size)]);

/** norm(x) (1 + scale) + shift; x [B, T, D], modulation [B, 2 D]: shift, then scale. */
export function layernorm({ x, modulation }, size) {
  const [shift, scale] = [0, 1].map((k) => part(modulation, 2, k, size.width));
  return modulate(normalise(x, size.width).normal, shift, scale, size);
}

/** Gradients of the modulated norm by x, shift and scale. */
function layernormBackward({ normal, factors }, scale, dy, size) {
  const { width } = size;
  const [dshift, dscale] = [new Float64Array(scale.length), new Float64Array(scale.length)];
  const dnormal = dy.map((v, i) => {
    const s = sampleOf(i, size);
    dshift[s] += v;
    dscale[s] += v * normal[i];
    return v * (1 + scale[s]);
  });
  const dx = new Float64Array(dy.length);
  for (let r = 0; r < factors.length; r++) {
    let [mean, along] = [0, 0];
    for (let i = r * width; i < (r + 1) * width; i++) {
      mean += dnormal[i] / width;
      along += (dnormal[i] * normal[i]) / width;
    }
    for (let i = r * width; i < (r + 1) * width; i++) dx[i] = factors[r] * (dnormal[i] - mean - normal[i] * along);
  }
  return { dx, dshift, dscale };
}

/** Head h of sample b of a [B, T, D] matrix, as [T, head]. */
function headOf(x, b, h, { tokens, width, heads }) {
  const head = width / heads;
  return Float64Array.from(
    { length: tokens * head },
    (_, i) => x[(b * tokens + Math.floor(i / head)) * width + h * head + (i % head)],
  );
}

function putHead(into, values, b, h, { tokens, width, heads }) {
  const head = width / heads;
  values.forEach((v, i) => {
    into[(b * tokens + Math.floor(i / head)) * width + h * head + (i % head)] = v;
  });
}

/** softmax(q k^T / sqrt(head)) of one head, [T, T]. */
function weightsOf(q, k, tokens, head) {
  const p = product(q, transposed(k, tokens, head), tokens, head, tokens);
  for (let r = 0; r < tokens; r++) {
    const row = p.subarray(r * tokens, (r + 1) * tokens);
    const most = row.reduce((m, v) => Math.max(m, v), Number.NEGATIVE_INFINITY);
    let sum = 0;
    for (let c = 0; c < tokens; c++) {
      row[c] = Math.exp((row[c] - most) / Math.sqrt(head));
      sum += row[c];
    }
    for (let c = 0; c < tokens; c++) row[c] /= sum;
  }
  return p;
}

/** Calls `body` with every sample and head. */
function eachHead({ heads }, batch, body) {
  for (let b = 0; b < batch; b++) for (let h = 0; h < heads; h++) body(b, h);
}

/** softmax(q k^T / sqrt(head)) v by heads; q, k, v [B, T, D]. */
export function attention({ q, k, v }, size) {
  const { tokens, width, heads } = size;
  const head = width / heads;
  const out = new Float64Array(q.length);
  eachHead(size, q.length / (tokens * width), (b, h) => {
    const [qh, kh, vh] = [q, k, v].map((x) => headOf(x, b, h, size));
    putHead(out, product(weightsOf(qh, kh, tokens, head), vh, tokens, tokens, head), b, h, size);
  });
  return out;
}

function attentionBackward({ q, k, v }, dy, size) {
  const { tokens, width, heads } = size;
  const head = width / heads;
  const [dq, dk, dv] = [q, k, v].map((x) => new Float64Array(x.length));
  eachHead(size, q.length / (tokens * width), (b, h) => {
    const [qh, kh, vh, dyh] = [q, k, v, dy].map((x) => headOf(x, b, h, size));
    const p = weightsOf(qh, kh, tokens, head);
    putHead(dv, product(transposed(p, tokens, tokens), dyh, tokens, tokens, head), b, h, size);
    const ds = product(dyh, transposed(vh, tokens, head), tokens, head, tokens);
    for (let r = 0; r < tokens; r++) {
      let along = 0;
      for (let i = r * tokens; i < (r + 1) * tokens; i++) along += p[i] * ds[i];
      for (let i = r * tokens; i < (r + 1) * tokens; i++) ds[i] = (p[i] * (ds[i] - along)) / Math.sqrt(head);
    }
    putHead(dq, product(ds, kh, tokens, tokens, head), b, h, size);
    putHead(dk, product(transposed(ds, tokens, tokens), qh, tokens, tokens, head), b, h, size);
  });
  return { dq, dk, dv };
}

/** One block's output `y`, and all that its backward needs. `w` gives weights by the layer's name and 'w' or 'b'. */
function block(x, c, w, size) {
  const layer = (input, name) => dense(input, w(name, 'w'), w(name, 'b'));
  const condition = silu(c);
  const modulation = layer(condition, 'mod');
  const [shift1, scale1, gate1, shift2, scale2, gate2] = [0, 1, 2, 3, 4, 5].map((k) =>
    part(modulation, 6, k, size.width),
  );
  const norm1 = normalise(x, size.width);
  const h1 = modulate(norm1.normal, shift1, scale1, size);
  const [q, k, v] = ['q', 'k', 'v'].map((name) => layer(h1, name));
  const o = attention({ q, k, v }, size);
  const branch1 = layer(o, 'o');
  const x1 = x.map((value, i) => value + gate1[sampleOf(i, size)] * branch1[i]);
  const norm2 = normalise(x1, size.width);
  const h2 = modulate(norm2.normal, shift2, scale2, size);
  const up = layer(h2, 'up');
  const hidden = gelu(up);
  const branch2 = layer(hidden, 'down');
  const y = x1.map((value, i) => value + gate2[sampleOf(i, size)] * branch2[i]);
  return { y, condition, scale1, gate1, scale2, gate2, norm1, norm2, h1, h2, q, k, v, o, up, hidden, branch1, branch2 };
}

/** Gradients of a block by its input and, through `give(layer, 'w' or 'b', gradient)`, by its weights. */
function blockBackward(kept, dy, w, size, give) {
  const back = (input, name, gradient) => {
    const { dx, dw, db } = denseBackward(input, w(name, 'w'), gradient, w(name, 'b').length);
    give(name, 'w', dw);
    give(name, 'b', db);
    return dx;
  };
  const gated = (gradient, gate, branch) => {
    const dgate = new Float64Array(gate.length);
    const dbranch = gradient.map((v, i) => {
      dgate[sampleOf(i, size)] += v * branch[i];
      return v * gate[sampleOf(i, size)];
    });
    return { dgate, dbranch };
  };
  const plus = (...terms) => terms[0].map((_, i) => terms.reduce((sum, t) => sum + t[i], 0));

  const second = gated(dy, kept.gate2, kept.branch2);
  const dup = geluBackward(kept.up, back(kept.hidden, 'down', second.dbranch));
  const ln2 = layernormBackward(kept.norm2, kept.scale2, back(kept.h2, 'up', dup), size);
  const dx1 = plus(dy, ln2.dx);
  const first = gated(dx1, kept.gate1, kept.branch1);
  const { dq, dk, dv } = attentionBackward(kept, back(kept.o, 'o', first.dbranch), size);
  const dh1 = plus(back(kept.h1, 'q', dq), back(kept.h1, 'k', dk), back(kept.h1, 'v', dv));
  const ln1 = layernormBackward(kept.norm1, kept.scale1, dh1, size);

  const parts = [ln1.dshift, ln1.dscale, first.dgate, ln2.dshift, ln2.dscale, second.dgate];
  const { width } = size;
  const dmodulation = Float64Array.from(
    { length: 6 * ln1.dshift.length },
    (_, i) => parts[Math.floor(i / width) % 6][Math.floor(i / (6 * width)) * width + (i % width)],
  );
  back(kept.condition, 'mod', dmodulation);
  return plus(dx1, ln1.dx);
}

/** Weights of block i among the inputs. */
const layersOf = (inputs, i) => (name, which) => inputs[`${i}.${name}.${which}`];

/** The output of all blocks, and what their backward needs. */
function forward(inputs, size) {
  const kept = [];
  let { x } = inputs;
  for (let i = 0; i < size.depth; i++) {
    kept.push(block(x, inputs.c, layersOf(inputs, i), size));
    x = kept[i].y;
  }
  return { y: x, kept };
}

/** Gradients of sum(y dy) by x and all weights, each under its input's name. */
function backward(inputs, kept, dy, size) {
  const gradients = {};
  let dx = dy;
  for (let i = size.depth - 1; i >= 0; i--) {
    dx = blockBackward(kept[i], dx, layersOf(inputs, i), size, (name, which, gradient) => {
      gradients[`${i}.${name}.${which}`] = gradient;
    });
  }
  return { x: dx, ...gradients };
}

/** The first step of training: the loss mean((y - target)^2), and every weight after AdamW's first update. */
function train(inputs, size) {
  const { y, kept } = forward(inputs, size);
  const difference = y.map((v, i) => v - inputs.target[i]);
  const loss = Float64Array.of(difference.reduce((s, v) => s + v * v, 0) / y.length);
  const gradients = backward(
    inputs,
    kept,
    difference.map((v) => (2 * v) / y.length),
    size,
  );
  const { lr, eps, decay } = ADAMW;
  const stepped = Object.keys(weightsIn(inputs)).map((name) => {
    // After one step the corrected moments are the gradient and its square.
    const update = (p, i) => p - lr * (gradients[name][i] / (Math.abs(gradients[name][i]) + eps) + decay * p);
    return [name, inputs[name].map(update)];
  });
  return { loss, ...Object.fromEntries(stepped) };
}

/**
 * The outputs of a workload by name, from inputs as `inputsOf` gives them.
 * @returns {Record<string, Float64Array>}
 */
export function reference({ kind, size }, inputs) {
  const values = Object.fromEntries(Object.entries(inputs).map(([name, { data }]) => [name, Float64Array.from(data)]));
  switch (kind) {
    case 'product':
      return { y: product(values.a, values.b, size.rows, size.inner, size.columns) };
    case 'attention':
      return { y: attention(values, size) };
    case 'layernorm':
      return { y: layernorm(values, size) };
    case 'block':
      return { y: forward(values, size).y };
    case 'gradient':
      return backward(values, forward(values, size).kept, values.dy, size);
    case 'train':
      return train(values, size);
    case 'decoder':
    case 'stage':
      return { y: decoded({ kind, size }, values, product) };
    default:
      throw new Error(`unknown kind of workload '${kind}'`);
  }
}

const rootMeanSquare = (values) => Math.sqrt(values.reduce((s, v) => s + v * v, 0) / values.length);

/**
 * The largest difference between a result and the reference, relative to the root mean square of what is compared; the worst of all
 * outputs, and which it was. Weights after a step are compared by how far they moved. A bias is measured by its layer's matrix where
 * that is larger: the gradient of the keys' bias is zero, and what is found there is rounding.
 * @returns {{ error: number, output: string }}
 */
export function compare({ kind }, inputs, expected, found) {
  const size = (name) => {
    const from = kind === 'train' ? inputs[name]?.data : undefined;
    return rootMeanSquare(from ? expected[name].map((v, i) => v - from[i]) : expected[name]);
  };
  let worst = { error: 0, output: '' };
  for (const [name, want] of Object.entries(expected)) {
    const got = found[name];
    if (!got || got.length !== want.length) return { error: Number.POSITIVE_INFINITY, output: name };
    let most = 0;
    for (let i = 0; i < want.length; i++) {
      const difference = Math.abs(got[i] - want[i]);
      if (!(difference <= most)) most = difference; // also where it is no number
    }
    const scale = name.endsWith('.b') ? Math.max(size(name), size(name.replace(/b$/, 'w'))) : size(name);
    const error = Number.isNaN(most) ? Number.POSITIVE_INFINITY : most / scale;
    if (error >= worst.error) worst = { error, output: name };
  }
  return worst;
}

/** Largest error that still counts as right: float32 gives 1e-6 to 1e-5 in all of these, its approximations of exp and tanh up to 1e-4. */
export const TOLERANCE = 1e-3;
