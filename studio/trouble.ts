/** The box that says what went wrong in a tab and what can be done, with a button to try again, or to open the file that is missing, or none. */
import { DeviceLostError, InterruptedError } from '../engine/errors.ts';
import { byId, make } from './dom.ts';
import { troubleText } from './words.ts';

/** What its button does. A lost GPU is tried again in place of the file. */
export type Remedy = 'again' | 'autoencoder' | 'none';

export interface Trouble {
  /** Whether there was something to show: an interruption is none. `remedy`: what helps. Default 'again'. */
  show(error: unknown, remedy?: Remedy): boolean;
  hide(): void;
}

/** Fills `box`, an empty element of class "trouble" and role "alert". */
export function createTrouble(box: HTMLElement, onAgain: () => void): Trouble {
  const text = make('p');
  const again = make('button', { type: 'button' });
  let asks = false;
  again.addEventListener('click', () => (asks ? byId('file', 'input').click() : onAgain()));
  box.replaceChildren(text, again);
  const hide = () => {
    box.hidden = true;
  };
  hide();
  return {
    show(error, remedy = 'again') {
      if (error instanceof InterruptedError) return false;
      const { isSecureContext } = globalThis;
      asks = remedy === 'autoencoder' && !(error instanceof DeviceLostError);
      again.hidden = remedy === 'none';
      again.textContent = asks ? 'Open its autoencoder' : 'Try again';
      text.textContent = troubleText(error, { isSecureContext, hasWebGPU: 'gpu' in navigator });
      box.hidden = false;
      return true;
    },
    hide,
  };
}
