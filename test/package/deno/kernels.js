/** Each contract's smallest case, by the variants that GPUs take: what failed, as JSON. */
import { createEngine, Engine } from 'odelt';
import { checkCase, contracts } from 'odelt/bench';

const { device } = await createEngine();
const engine = new Engine(device, 'gpu');
const elements = (contract, k) =>
  Object.values(contract.inputs(k)).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

const failed = {};
for (const contract of contracts) {
  const [smallest] = [...contract.cases].sort((a, b) => elements(contract, a) - elements(contract, b));
  await checkCase(engine, contract, smallest).catch((error) => {
    failed[contract.name] = error.message;
  });
}
console.log(JSON.stringify({ checked: contracts.length, failed }));
