/**
 * The kernel of square.mjs held to its contract: against float64, central differences and a replay; then timed.
 *   npm run build && node examples/own-kernel.mjs
 */
import { createEngine, Program, record } from 'odelt';
import { caseInputs, checkCase, interleave, tolerance, uploadCase } from 'odelt/bench';
import { squareContract } from './square.mjs';

const engine = await createEngine();
try {
  for (const k of squareContract.cases) {
    const { forward, backward } = await checkCase(engine, squareContract, k); // throws where something is wrong
    console.log(JSON.stringify(k), forward <= tolerance(squareContract, k), backward);
  }

  const large = { size: 1 << 20 };
  const inputs = uploadCase(engine, squareContract, large, caseInputs(squareContract, large));
  const { recording } = record(engine, 'square', (ctx) => squareContract.run(ctx, inputs, large));
  const program = await Program.compile(engine, recording);
  const [{ median }] = await interleave([{ engine, program, repeats: 1 }], 5);
  console.log(`${large.size} elements in ${(median * 1e3).toFixed(2)} ms`);
} finally {
  engine.dispose();
}
