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
// To import them would load much that they do not need.
const { existsSync } = process.getBuiltinModule('node:fs');
const { enableCompileCache } = process.getBuiltinModule('node:module');
const { homedir } = process.getBuiltinModule('node:os');
const { env } = process;
if (!existsSync(MAIN)) refuse('not built: run npm run build');

// Not where node has it by default: others can write to the system's directory for temporary files, and what is in this
// one is run.
const caches = env.XDG_CACHE_HOME?.startsWith('/') ? env.XDG_CACHE_HOME : `${homedir()}/.cache`;
// What is kept is what the first process that writes it has run, and a daemon runs other functions than a command does.
const [, , command, action] = process.argv;
const part = command === 'daemon' && action === 'run' ? 'daemon' : 'code';
enableCompileCache(env.NODE_COMPILE_CACHE ?? `${caches}/lazytree/${part}`);
await import(MAIN.href);
