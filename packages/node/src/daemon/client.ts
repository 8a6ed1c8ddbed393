/** What callers of a daemon need. Loads nothing of the engine: most commands that use it do nothing else. */

export { originEnv } from '../origins/origin-variables.js';
export { type CredentialEnv, credentialEnv } from '../remotes/credential-variables.js';
export * from './control-client.js';
export type { ProgressEvent } from './frames.js';
export * from './log-options.js';
export type { CommandOutput, CommandRequest, DaemonStatus, ExecuteCommand } from './protocol.js';
export * from './start-daemon.js';
