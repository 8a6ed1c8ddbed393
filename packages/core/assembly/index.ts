/** What runs in WebAssembly: one module, so that its parts work on one memory. */
export { findCut, gearAddress } from './chunker';
export { encode, freeAddress, inputRoom, outputRoom, reserve } from './snappy';
