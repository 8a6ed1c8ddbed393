export * from './fuse/device/mount-fuse.js';
export * from './fuse/session/session.js';
export * from './home.js';
export * from './tree-spec.js';
