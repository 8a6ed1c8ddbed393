export * from './daemon/control-client.js';
export type { ProgressEvent, ProgressState } from './daemon/frames.js';
export * from './daemon/log-level.js';
export * from './daemon/paths.js';
export type { CommandOutput, CommandRequest, DaemonStatus, ExecuteCommand } from './daemon/protocol.js';
export * from './daemon/start-daemon.js';
export * from './home.js';
export * from './home-directory.js';
export * from './tree-spec.js';
