/** A worker that says what the test makes it say, and keeps what it is sent. */
import type { WorkerPort } from '../../web/client.ts';
import type { Answer, Question } from '../../web/protocol.ts';

export function silentPort() {
  const target = new EventTarget();
  const sent: Question[] = [];
  const handed: Transferable[][] = [];
  const port = {
    sent,
    /** What went with each message. */
    handed,
    /** How often it was ended. */
    ends: 0,
    postMessage(message: unknown, transfer: Transferable[]): void {
      sent.push(structuredClone(message) as Question);
      handed.push(transfer);
    },
    addEventListener: (type: string, listener: (event: Event) => void) => target.addEventListener(type, listener),
    terminate(): void {
      port.ends++;
    },
    answer: (data: Answer) => target.dispatchEvent(new MessageEvent('message', { data })),
    /** An event of its own, such as that it could not be started. */
    tell: (event: Event) => target.dispatchEvent(event),
  };
  return port satisfies WorkerPort;
}
