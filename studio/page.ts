/** The page of the studio: its tabs, the address, and the model that they share. */
import { changedHash, paramsOf } from './address.ts';
import { byId } from './dom.ts';
import { createSharedModel } from './shared-model.ts';
import { startTabs } from './tabs.ts';
import { createTrusted } from './trusted.ts';

const trusted = createTrusted();
startTabs({
  ...trusted,
  shared: createSharedModel(trusted.startWorker),
  params: () => paramsOf(location.hash),
  write: (changes) => history.replaceState(null, '', changedHash(location.hash, changes)),
  onFailure: () => {
    byId('not-loaded', 'p').hidden = false;
  },
});
