// Compiles packages/core/assembly to WebAssembly, beside the JavaScript that loads it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CORE = fileURLToPath(new URL('../packages/core', import.meta.url));
const SOURCES = join(CORE, 'assembly');
/** A module by its entry point. The kernels share a memory with their caller's data; the decoder has one of its own. */
const MODULES = { 'index.ts': 'kernels.wasm', 'unsnappy.ts': 'unsnappy.wasm' };

/** @param {string} file */
const modified = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

const newest = Math.max(...readdirSync(SOURCES).map((name) => modified(join(SOURCES, name))));
const assemblyscript = dirname(
  createRequire(join(CORE, 'package.json')).resolve('assemblyscript/package.json'),
);
const OPTIONS = [
  ...['--optimizeLevel', '3', '--shrinkLevel', '0', '--noAssert', '--runtime', 'stub'],
  ...['--enable', 'simd', '--enable', 'bulk-memory'],
];

for (const [source, name] of Object.entries(MODULES)) {
  const target = join(CORE, 'dist', 'wasm', name);
  if (modified(target) >= newest) continue;
  mkdirSync(dirname(target), { recursive: true });
  const asc = [join(assemblyscript, 'bin', 'asc.js'), join(SOURCES, source), '--outFile', target];
  execFileSync(process.execPath, [...asc, ...OPTIONS], { stdio: 'inherit' });
}
