/** The page of the studio: its tabs, the address, and the model that they share, with the files that are chosen for it. */
import { createWorker } from '../web/client.ts';
import { createAddressBar } from './address-bar.ts';
import { byId } from './dom.ts';
import { drawingMaker } from './drawings.ts';
import { createSharedModel } from './shared-model.ts';
import { startTabs } from './tabs.ts';

const startWorker = () => createWorker();
const shared = createSharedModel(startWorker);
const files = byId('file', 'input');
files.addEventListener('change', () => {
  const chosen = [...(files.files ?? [])];
  files.value = '';
  // What cannot be opened is told by the tab in view.
  if (chosen.length > 0) void shared.open(chosen);
});
startTabs({
  startWorker,
  drawing: drawingMaker(),
  shared,
  ...createAddressBar(window),
  onLoading: (hasFailed) => {
    byId('not-loaded', 'p').hidden = !hasFailed;
  },
});
