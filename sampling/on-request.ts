/**
 * What only some requests need, as one module that samplers load when the first of them asks: a page that takes Euler steps with
 * everything resident does without. One module, because bundlers make a file of whatever two such modules share.
 */
export { jaxNoise } from './jax-draws.ts';
export { ModulationTables } from './modulation-tables.ts';
export { adaptive, rungeKutta } from './solvers/staged.ts';
export { Stages } from './solvers/stages.ts';
export { StreamedEvaluation } from './streamed.ts';
