/** The page of the studio: its tabs, the address, and the model that they share. */
import { createWorker } from '../web/client.ts';
import { changedHash, paramsOf } from './address.ts';
import { byId } from './dom.ts';
import { drawingMaker } from './drawings.ts';
import { createSharedModel } from './shared-model.ts';
import { startTabs } from './tabs.ts';

const startWorker = () => createWorker();
startTabs({
  startWorker,
  drawing: drawingMaker(),
  shared: createSharedModel(startWorker),
  params: () => paramsOf(location.hash),
  write: (changes) => history.replaceState(null, '', changedHash(location.hash, changes)),
  onFailure: () => {
    byId('not-loaded', 'p').hidden = false;
  },
});
