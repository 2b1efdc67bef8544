/**
 * Autoencoders as workloads: their layers, and these in float64 and plain loops. Pictures are [1, height, width, channels].
 *   decoder  of the TAESD family: a soft clamp, then blocks relu(x + conv(relu(conv(relu(conv x))))) and doublings, to a picture;
 *   stage    of Stable Diffusion's decoder: two residual blocks x + conv(act(norm(conv(act(norm x))))), act SiLU, then a doubling.
 *
 * @typedef {{ op: 'clamp' | 'block' | 'residual' | 'conv', name: string, input: number, output: number, relu?: boolean, double?: boolean,
 *   bias?: boolean }} Layer
 */

/** Latents stay nearly as they are within it. */
export const CLAMP = 3;
/** Of group norms. */
export const GROUPS = 32;
export const GROUP_EPSILON = 1e-6;

/** The layers of a workload, in order. @returns {Layer[]} */
export function layersOf({ kind, size }) {
  const make = (list) => list.map((layer, i) => ({ ...layer, name: `${i}` }));
  const same = (op, channels) => ({ op, input: channels, output: channels });
  if (kind === 'stage') {
    const { input, output } = size;
    const doubled = { ...same('conv', output), double: true, bias: true };
    return make([{ op: 'residual', input, output }, same('residual', output), doubled]);
  }
  const { latent, width, blocks, doublings } = size;
  const level = [
    ...Array.from({ length: blocks }, () => same('block', width)),
    { ...same('conv', width), double: true, bias: false },
  ];
  return make([
    same('clamp', latent),
    { op: 'conv', input: latent, output: width, relu: true, bias: true },
    ...Array.from({ length: doublings }, () => level).flat(),
    same('block', width),
    { op: 'conv', input: width, output: 3, bias: true },
  ]);
}

/** Names and shapes of the weights: convolutions `.w` [taps * in, out] and `.b`, norms `.g` and `.b`. @returns {[string, number[]][]} */
export function layerWeights({ op, name, input, output, bias }) {
  const conv = (part, from, to, taps = 9) => [
    [`${part}.w`, [taps * from, to]],
    [`${part}.b`, [to]],
  ];
  const norm = (part, channels) => [
    [`${part}.g`, [channels]],
    [`${part}.b`, [channels]],
  ];
  switch (op) {
    case 'clamp':
      return [];
    case 'conv':
      return bias ? conv(name, input, output) : conv(name, input, output).slice(0, 1);
    case 'block':
      return [0, 1, 2].flatMap((i) => conv(`${name}.conv${i}`, input, input));
    case 'residual':
      return [
        ...norm(`${name}.norm1`, input),
        ...conv(`${name}.conv1`, input, output),
        ...norm(`${name}.norm2`, output),
        ...conv(`${name}.conv2`, output, output),
        ...(input === output ? [] : conv(`${name}.short`, input, output, 1)),
      ];
    default:
      throw new Error(`unknown layer '${op}'`);
  }
}

/** Shape of the input. */
export const inputShape = ({ kind, size }) => [1, size.side, size.side, kind === 'stage' ? size.input : size.latent];

/** Shape of the result. */
export function outputShape({ kind, size }) {
  const side = size.side * (kind === 'stage' ? 2 : 2 ** size.doublings);
  return [1, side, side, kind === 'stage' ? size.output : 3];
}

/** A layer of x by a library's operations: `conv(x, part, { input, output, taps, relu, residual, double, bias })`, `norm(x, part)`, `clamp(x)`. */
export function applyLayer({ op, name, input, output, relu, double, bias }, x, { conv, norm, clamp }) {
  switch (op) {
    case 'clamp':
      return clamp(x);
    case 'conv':
      return conv(x, name, { input, output, taps: 9, relu, double, bias });
    case 'block': {
      const each = { input, output, taps: 9, relu: true, bias: true };
      const h = conv(conv(x, `${name}.conv0`, each), `${name}.conv1`, each);
      return conv(h, `${name}.conv2`, { ...each, residual: x });
    }
    case 'residual': {
      const h = conv(norm(x, `${name}.norm1`, input), `${name}.conv1`, { input, output, taps: 9, bias: true });
      const short = input === output ? x : conv(x, `${name}.short`, { input, output, taps: 1, bias: true });
      const normal = norm(h, `${name}.norm2`, output);
      return conv(normal, `${name}.conv2`, { input: output, output, taps: 9, bias: true, residual: short });
    }
    default:
      throw new Error(`unknown layer '${op}'`);
  }
}

/** In float64; `product` is that of matrices. A picture here is { data, side }. */
export function decoded(workload, values, product) {
  const operations = {
    clamp: ({ data, side }) => ({ side, data: data.map((v) => CLAMP * Math.tanh(v / CLAMP)) }),
    conv: (x, part, options) => convolved(x, (which) => values[`${part}.${which}`], options, product),
    norm: ({ data, side }, part, channels) => ({
      side,
      data: normalised(data, values[`${part}.g`], values[`${part}.b`], channels),
    }),
  };
  let x = { data: values.x, side: workload.size.side };
  for (const layer of layersOf(workload)) x = applyLayer(layer, x, operations);
  return x.data;
}

/** Row by row: what each pixel sees, as a matrix, times the weights. */
function convolved({ data, side: small }, weights, { input, output, taps, relu, residual, double, bias }, product) {
  const up = double ? 2 : 1;
  const side = up * small;
  const [across, reach] = taps === 9 ? [3, 1] : [1, 0];
  const [w, b] = [weights('w'), bias ? weights('b') : undefined];
  const y = new Float64Array(side * side * output);
  for (let row = 0; row < side; row++) {
    const seen = new Float64Array(side * taps * input);
    for (let column = 0; column < side; column++) {
      for (let tap = 0; tap < taps; tap++) {
        const iy = row + Math.floor(tap / across) - reach;
        const ix = column + (tap % across) - reach;
        if (iy < 0 || ix < 0 || iy >= side || ix >= side) continue;
        const from = (Math.floor(iy / up) * small + Math.floor(ix / up)) * input;
        seen.set(data.subarray(from, from + input), (column * taps + tap) * input);
      }
    }
    y.set(product(seen, w, side, taps * input, output), row * side * output);
  }
  for (let i = 0; i < y.length; i++) {
    y[i] += (b ? b[i % output] : 0) + (residual ? residual.data[i] : 0);
    if (relu) y[i] = Math.max(0, y[i]);
  }
  return { data: y, side };
}

/** Group norm and SiLU. */
function normalised(x, gain, bias, channels) {
  const size = channels / GROUPS;
  const count = x.length / GROUPS;
  const [means, squares] = [new Float64Array(GROUPS), new Float64Array(GROUPS)];
  const group = (i) => Math.floor((i % channels) / size);
  for (let i = 0; i < x.length; i++) means[group(i)] += x[i] / count;
  for (let i = 0; i < x.length; i++) squares[group(i)] += (x[i] - means[group(i)]) ** 2 / count;
  return x.map((value, i) => {
    const v =
      ((value - means[group(i)]) / Math.sqrt(squares[group(i)] + GROUP_EPSILON)) * gain[i % channels] +
      bias[i % channels];
    return v / (1 + Math.exp(-v));
  });
}
