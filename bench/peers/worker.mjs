/** A peer's process: runs one workload of one library, as often as it is asked. Libraries share neither globals nor crashes so. */
import { inputsOf } from './workloads.mjs';

/** A timed run lasts at least this long: several repeats are submitted, and waited for once. */
const LEAST_SECONDS = 0.05;
const MOST_REPEATS = 64;

let prepared;
let repeats = 1;

async function runSeconds(times) {
  const started = performance.now();
  for (let i = 0; i < times; i++) await prepared.run();
  await prepared.done();
  return (performance.now() - started) / 1000;
}

const ANSWERS = {
  async prepare({ peer: name, adapter, workload }) {
    const { open } = await import(`./peers/${name}.mjs`);
    const peer = await open({ adapter });
    if (peer.cannot) return { answer: 'cannot', reason: peer.cannot };
    const inputs = inputsOf(workload);
    const ready = performance.now();
    prepared = await peer.prepare(workload, inputs);
    if (!prepared) return { answer: 'cannot', reason: 'does not express it' };
    await runSeconds(1);
    const firstSeconds = (performance.now() - ready) / 1000;
    const outputs = await prepared.read();
    const described = [peer.adapter.name, peer.adapter.driver].filter(Boolean).join(', ');
    return { answer: 'prepared', version: peer.version, adapter: described, firstSeconds, outputs };
  },
  async warm() {
    const seconds = await runSeconds(1);
    repeats = Math.min(MOST_REPEATS, Math.max(1, Math.ceil(LEAST_SECONDS / seconds)));
    if (repeats > 1) await runSeconds(repeats);
    return { answer: 'warm', repeats };
  },
  run: async () => ({ answer: 'ran', seconds: (await runSeconds(repeats)) / repeats }),
};

process.on('message', async (question) => {
  try {
    process.send(await ANSWERS[question.ask](question));
  } catch (error) {
    process.send({ answer: 'failed', reason: error instanceof Error ? error.message : String(error) });
  }
});

// The parent has gone.
process.on('disconnect', () => process.exit());
