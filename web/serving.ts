/** What a call's handler in the worker is given. */
import type { Engine } from '../engine/engine.ts';
import type { CallName, Calls } from './protocol.ts';

/** What a call is given. */
export interface Serving<Name extends CallName> {
  readonly args: Calls[Name]['args'];
  readonly signal: AbortSignal;
  tell(progress: Calls[Name]['progress']): void;
  /** Runs `body` on the engine; where the GPU is lost, the next one gets a new engine. */
  within<T>(body: (engine: Engine) => Promise<T>): Promise<T>;
}
