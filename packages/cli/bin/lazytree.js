#!/usr/bin/env node
const MAIN = new URL('../dist/bundle/main.js', import.meta.url);
const [major, minor] = process.versions.node.split('.').map(Number);

/** @param {string} line */
function refuse(line) {
  process.stderr.write(`lazytree: ${line}\n`);
  process.exit(1);
}

if (major < 22 || (major === 22 && minor < 15)) {
  refuse(`needs Node.js 22.15 or newer, this is ${process.versions.node}`);
}
// Not imported: an import of a module of Node's reads all of its properties, which loads what they are of.
const { existsSync } = process.getBuiltinModule('node:fs');
if (!existsSync(MAIN)) refuse('not built: run npm run build');

process.getBuiltinModule('node:module').enableCompileCache?.();
await import(MAIN.href);
