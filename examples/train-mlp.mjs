/**
 * Training with the tape: two layers with the kernel of square.mjs between them learn to multiply two numbers.
 *   npm run build && node examples/train-mlp.mjs
 */
import { createEngine, Program, record, scalarInput } from 'odelt';
import { jaxNormal, prngKey } from 'odelt/jax';
import { adamw, createTape, linear, mse } from 'odelt/ops';
import { square } from './square.mjs';

const [BATCH, HIDDEN] = [64, 8];

const engine = await createEngine();
try {
  const points = jaxNormal(prngKey(0), { count: 2 * BATCH });
  const x = engine.tensor('x', [BATCH, 2], { data: points });
  const products = Float32Array.from({ length: BATCH }, (_, i) => points[2 * i] * points[2 * i + 1]);
  const y = engine.tensor('y', [BATCH, 1], { data: products });

  // A parameter with its gradient and AdamW's state: persistent tensors, which outlast runs and programs.
  const parameter = (name, shape, seed) => {
    const data = jaxNormal(prngKey(seed), { count: shape.reduce((a, b) => a * b) }).map((v) => 0.5 * v);
    const params = engine.tensor(name, shape, { data });
    const zero = (what) => engine.tensor(`${name}.${what}`, shape);
    return { params, gradient: zero('gradient'), m: zero('m'), v: zero('v'), ema: zero('ema') };
  };
  const parameters = [
    parameter('w1', [2, HIDDEN], 1),
    parameter('b1', [HIDDEN], 2),
    parameter('w2', [HIDDEN, 1], 3),
    parameter('b2', [1], 4),
  ];
  const [w1, b1, w2, b2] = parameters.map(({ params }) => params);
  const network = (ctx) => linear(ctx, square(ctx, linear(ctx, x, { kernel: w1, bias: b1 })), { kernel: w2, bias: b2 });

  const one = engine.tensor('one', [1], { data: Float32Array.of(1) });
  const count = scalarInput('count');
  const { recording, result: loss } = record(engine, 'update', (ctx, keep) => {
    const tape = createTape();
    ctx.tape = tape;
    for (const { params, gradient } of parameters) tape.watch(params, gradient);
    const { loss } = mse(ctx, network(ctx), y);
    tape.backward(ctx, [[loss, one]]);
    for (const each of parameters) adamw(ctx, each, { lr: 0.02, count, decay: 0 });
    keep(loss);
    return loss;
  });
  const update = await Program.compile(engine, recording);
  for (let n = 1; n <= 200; n++) {
    update.run({ count: n });
    if (n === 1 || n % 50 === 0) {
      const [[value]] = await update.read(loss);
      console.log(`update ${n}: loss ${value.toExponential(3)}`);
    }
  }

  // Without a tape the same operations record no gradients.
  const { recording: forward, result: prediction } = record(engine, 'predict', (ctx, keep) => {
    const out = network(ctx);
    keep(out);
    return out;
  });
  const predict = await Program.compile(engine, forward);
  predict.run();
  const [predicted] = await predict.read(prediction);
  for (let i = 0; i < 3; i++) {
    const [a, b, c] = [points[2 * i], points[2 * i + 1], predicted[i]].map((v) => v.toFixed(3));
    console.log(`${a} * ${b} = ${c}`);
  }
} finally {
  engine.dispose();
}
