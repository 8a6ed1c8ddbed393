export * from './held-roots.js';
export * from './home.js';
export * from './home-directory.js';
export type { MountRecord, MountStatus, MountUse } from './mounts/mount-table.js';
export * from './tree-spec.js';
export * from './workspaces/thinning.js';
export type { WorkspaceRecord } from './workspaces/workspace-record.js';
export type { Saved, WorkspaceStatus } from './workspaces/workspaces.js';
