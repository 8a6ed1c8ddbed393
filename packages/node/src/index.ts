export * from './home.js';
export * from './home-directory.js';
export * from './tree-spec.js';
