/** One workload on several peers: each is checked, then all of them are timed in turn, round after round. */
import { startPeer } from './process.mjs';
import { compare, TOLERANCE } from './reference.mjs';

/**
 * @typedef {object} Result  of one peer in one workload
 * @property {'timed' | 'wrong' | 'cannot' | 'failed'} status
 * @property {string} [version]
 * @property {string} [adapter]
 * @property {string} [reason]        why it cannot, or failed
 * @property {number} [error]         largest difference from float64, relative to the root mean square
 * @property {string} [output]        the output that has it
 * @property {number} [firstSeconds]  from the inputs in memory to the first result: uploading and compiling
 * @property {number} [repeats]       submitted at once in a timed run
 * @property {number[]} [seconds]     of one repeat, by round
 */

/** Prepares one peer and holds its outputs to the reference. */
async function check(process, peer, { workload, inputs, expected, adapter, timeout }) {
  const answer = await process.ask({ ask: 'prepare', peer, adapter, workload }, timeout);
  if (answer.answer !== 'prepared') return { status: answer.answer, reason: answer.reason };
  const { version, adapter: described, firstSeconds } = answer;
  const { error, output } = compare(workload, inputs, expected, answer.outputs);
  const found = { version, adapter: described, error, output, firstSeconds };
  if (!(error <= TOLERANCE)) return { status: 'wrong', ...found };
  const warm = await process.ask({ ask: 'warm' }, timeout);
  if (warm.answer !== 'warm') return { status: 'failed', reason: warm.reason };
  return { status: 'timed', ...found, repeats: warm.repeats, seconds: [] };
}

/**
 * Results by peer. Every round runs every peer once, beginning with another one each time; a peer that fails is left out from then on.
 * @param {string[]} peers
 * @returns {Promise<Record<string, Result>>}
 */
export async function measure(peers, { rounds, onProgress, ...task }) {
  const running = peers.map((peer) => ({ peer, process: startPeer(), result: undefined }));
  try {
    for (const r of running) {
      r.result = await check(r.process, r.peer, task);
      onProgress(r.peer, r.result);
    }
    for (let round = 0; round < rounds; round++) {
      for (let k = 0; k < running.length; k++) {
        const r = running[(round + k) % running.length];
        if (r.result.status !== 'timed') continue;
        const answer = await r.process.ask({ ask: 'run' }, task.timeout);
        if (answer.answer === 'ran') r.result.seconds.push(answer.seconds);
        else {
          r.result = { status: 'failed', reason: answer.reason };
          onProgress(r.peer, r.result);
        }
      }
    }
    return Object.fromEntries(running.map(({ peer, result }) => [peer, result]));
  } finally {
    for (const { process } of running) await process.end();
  }
}
