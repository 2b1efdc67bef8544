/**
 * What the parent and a peer's process say to each other. The parent asks one thing at a time and gets one answer.
 *
 * @typedef {{ ask: 'prepare', peer: string, adapter: string, workload: import('./workloads.mjs').Workload } | { ask: 'warm' } | { ask: 'run' }} Question
 * @typedef {{ answer: 'prepared', version: string, adapter: string, firstSeconds: number, outputs: Record<string, Float32Array> }
 *   | { answer: 'warm', repeats: number }
 *   | { answer: 'ran', seconds: number }
 *   | { answer: 'cannot', reason: string }
 *   | { answer: 'failed', reason: string }} Answer
 */

const isPositive = (value) => Number.isFinite(value) && value > 0;
const isText = (value) => typeof value === 'string';

/** What must be true of each answer. */
const ANSWERS = {
  prepared: ({ version, adapter, firstSeconds, outputs }) =>
    isText(version) &&
    isText(adapter) &&
    isPositive(firstSeconds) &&
    typeof outputs === 'object' &&
    outputs !== null &&
    Object.values(outputs).every((values) => values instanceof Float32Array),
  warm: ({ repeats }) => Number.isInteger(repeats) && repeats > 0,
  ran: ({ seconds }) => isPositive(seconds),
  cannot: ({ reason }) => isText(reason),
  failed: ({ reason }) => isText(reason),
};

/** An answer as it came from a process. @returns {Answer} @throws Error for anything else, in its own words. */
export function parseAnswer(message) {
  const check = typeof message === 'object' && message !== null && Object.hasOwn(ANSWERS, message.answer);
  if (!check) throw new Error(`no answer: ${JSON.stringify(message)?.slice(0, 200)}`);
  if (!ANSWERS[message.answer](message))
    throw new Error(`an answer '${message.answer}' with wrong fields: ${Object.keys(message).join(', ')}`);
  return message;
}
