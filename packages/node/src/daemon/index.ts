export type { Cluster, ClusterStatus } from '../cluster/cluster.js';
export type { FetchChain } from '../fetch/fetch-chain.js';
export { createGate } from './gate.js';
export { type Host, type OpenHostOptions, openHost } from './host.js';
export { createLog } from './log.js';
export { openLogFile } from './log-file.js';
export { readableLog } from './readable-log.js';
export * from './run-daemon.js';
export { createTurns, type Turns } from './turns.js';
