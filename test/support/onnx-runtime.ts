/**
 * onnxruntime-node for commands under test: the real package where it is installed, else one that runs the networks of `onnx.ts`,
 * which it reads from their files as ONNX has them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** Flatten and MatMul by the weights in the file, with the output's name; everything else is refused. */
const PROGRAM = `
const { readFileSync } = require('node:fs');
function fields(bytes) {
  const out = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    if (key % 8 === 0) out.push([key >> 3, varint()]);
    else {
      const length = varint();
      out.push([key >> 3, bytes.subarray(at, (at += length))]);
    }
  }
  return out;
}
const one = (list, number) => list.find(([field]) => field === number)[1];
const all = (list, number) => list.filter(([field]) => field === number).map(([, value]) => value);
class Tensor {
  constructor(type, data, dims) {
    Object.assign(this, { type, data, dims });
  }
}
exports.Tensor = Tensor;
exports.InferenceSession = {
  async create(path) {
    const graph = fields(one(fields(readFileSync(path)), 7));
    const ops = all(graph, 1).map((node) => one(fields(node), 4).toString());
    if (ops.join() !== 'Flatten,MatMul') throw new Error('cannot run ' + ops);
    const tensor = fields(one(graph, 5));
    const [inputs, outputs] = all(tensor, 1);
    const weights = new Float32Array(Uint8Array.from(one(tensor, 9)).buffer);
    return {
      async run({ pictures: { data, dims } }) {
        const rows = dims[0];
        if (data.length !== rows * inputs) throw new Error('the weights are for ' + inputs + ' numbers');
        const out = new Float32Array(rows * outputs);
        for (let r = 0; r < rows; r++)
          for (let o = 0; o < outputs; o++) {
            let sum = 0;
            for (let i = 0; i < inputs; i++) sum += data[r * inputs + i] * weights[i * outputs + o];
            out[r * outputs + o] = sum;
          }
        return { features: new Tensor('float32', out, [rows, outputs]) };
      },
    };
  },
};
`;

/** Lets a command that is built in `folder` find onnxruntime-node. */
export function provideOnnxRuntime(folder: string): void {
  try {
    createRequire(join(folder, 'cli.js')).resolve('onnxruntime-node');
    return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
  }
  const place = join(folder, 'node_modules/onnxruntime-node');
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, 'package.json'), JSON.stringify({ name: 'onnxruntime-node', main: 'index.js' }));
  writeFileSync(join(place, 'index.js'), PROGRAM);
}
