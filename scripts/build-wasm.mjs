// Compiles packages/core/assembly to WebAssembly, beside the JavaScript that loads it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CORE = fileURLToPath(new URL('../packages/core', import.meta.url));
const MODULES = ['snappy', 'unsnappy'];

/** @param {string} file */
const modified = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

const assemblyscript = dirname(
  createRequire(join(CORE, 'package.json')).resolve('assemblyscript/package.json'),
);
const OPTIONS = [
  ...['--optimizeLevel', '3', '--shrinkLevel', '0', '--noAssert', '--runtime', 'stub'],
  ...['--enable', 'simd', '--enable', 'bulk-memory'],
];

for (const name of MODULES) {
  const source = join(CORE, 'assembly', `${name}.ts`);
  const target = join(CORE, 'dist', 'snappy', `${name}.wasm`);
  if (modified(target) >= modified(source)) continue;
  mkdirSync(dirname(target), { recursive: true });
  const arguments_ = [join(assemblyscript, 'bin', 'asc.js'), source, '--outFile', target, ...OPTIONS];
  execFileSync(process.execPath, arguments_, { stdio: 'inherit' });
}
