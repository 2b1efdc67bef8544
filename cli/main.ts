#!/usr/bin/env node
/** The `odelt` command. Signals and broken pipes are seen to before anything else is loaded. */
import { endEarly } from './ends.node.ts';

endEarly();
const { main } = await import('./program.node.ts');
await main();
