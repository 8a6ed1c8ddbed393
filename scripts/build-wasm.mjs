// Compiles packages/core/assembly to WebAssembly, beside the JavaScript that loads it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CORE = fileURLToPath(new URL('../packages/core', import.meta.url));
const SOURCES = join(CORE, 'assembly');
const TARGET = join(CORE, 'dist', 'wasm', 'kernels.wasm');

/** @param {string} file */
const modified = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

const newest = Math.max(...readdirSync(SOURCES).map((name) => modified(join(SOURCES, name))));
if (modified(TARGET) < newest) {
  const assemblyscript = dirname(
    createRequire(join(CORE, 'package.json')).resolve('assemblyscript/package.json'),
  );
  mkdirSync(dirname(TARGET), { recursive: true });
  execFileSync(
    process.execPath,
    [
      join(assemblyscript, 'bin', 'asc.js'),
      join(SOURCES, 'index.ts'),
      ...[
        '--outFile',
        TARGET,
        '--optimizeLevel',
        '3',
        '--shrinkLevel',
        '0',
        '--noAssert',
        '--runtime',
        'stub',
      ],
      ...['--enable', 'simd', '--enable', 'bulk-memory'],
    ],
    { stdio: 'inherit' },
  );
}
