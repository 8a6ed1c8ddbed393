export * from './home.js';
export * from './tree-spec.js';
