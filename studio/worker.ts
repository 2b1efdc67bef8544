/** The workers that the page starts, one after the other, from an address that its policy of trusted types lets pass. */
import { createWorker, type OdeltWorker, type TrustedTypes } from '../web/client.ts';

/** To be called once, as a policy's name can be taken once; what it gives starts a worker as often as it is called. */
export function workerStarter(): () => OdeltWorker {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  const address = new URL('module.js', document.baseURI).href;
  const policy = trustedTypes?.createPolicy('odelt-studio', { createScriptURL: () => address });
  return () => createWorker(new Worker((policy?.createScriptURL(address) ?? address) as string, { type: 'module' }));
}
