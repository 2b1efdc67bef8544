/** The box that says what went wrong in a tab and what can be done, with a button to try again, or to open the file that is missing. */
import { DeviceLostError, InterruptedError } from '../engine/errors.ts';
import { byId, make } from './dom.ts';
import { troubleText } from './words.ts';

export interface Trouble {
  /** Whether there was something to show: an interruption is none. `isFileWanted`: what helps is another file. */
  show(error: unknown, isFileWanted?: boolean): boolean;
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
    show(error, isFileWanted = false) {
      if (error instanceof InterruptedError) return false;
      const { isSecureContext } = globalThis;
      asks = isFileWanted && !(error instanceof DeviceLostError);
      again.textContent = asks ? 'Open its autoencoder' : 'Try again';
      text.textContent = troubleText(error, { isSecureContext, hasWebGPU: 'gpu' in navigator });
      box.hidden = false;
      return true;
    },
    hide,
  };
}
