// Bundles the command with all it imports, native addons apart: one file to find and parse instead of hundreds,
// which is most of a command's start-up time. What a command loads later is in that file, too, and is run when it is
// asked for: a file more costs a millisecond. The threads of core are entry points of their own.
import { copyFileSync, existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const PACKAGES = fileURLToPath(new URL('../packages', import.meta.url));
const PLACE = join(PACKAGES, 'cli', 'dist', 'bundle');
/** Filled, then moved into place: a command that starts meanwhile finds the old one or the new one. */
const OUT = `${PLACE}.new`;

/**
 * LevelDB's JavaScript goes into the bundle, its addon stays where npm has put it.
 * @type {import('esbuild').Plugin}
 */
const levelAddon = {
  name: 'level-addon',
  setup({ onLoad }) {
    onLoad({ filter: /classic-level[\\/]binding\.js$/ }, () => ({
      contents: `const { dirname } = require('node:path');
        module.exports = require('node-gyp-build')(dirname(require.resolve('classic-level/package.json')));`,
    }));
  },
};

/**
 * Node's own modules as they are: what an `import` statement gets is made by reading every property, which creates
 * the streams of `process` and loads what `crypto` would load when it is first used.
 * @type {import('esbuild').Plugin}
 */
const plainBuiltins = {
  name: 'plain-builtins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:/ }, ({ path, kind }) =>
      kind === 'import-statement' && path !== 'node:module' ? { path, namespace: 'builtin' } : undefined,
    );
    // For subcommands that are programs of their own, of which there are none.
    onLoad({ filter: /^node:child_process$/, namespace: 'builtin' }, () => ({
      contents: 'module.exports = {};',
    }));
    onLoad({ filter: /^/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};

rmSync(OUT, { recursive: true, force: true });
await build({
  entryPoints: {
    main: join(PACKAGES, 'cli/dist/main.js'),
    'ingest-thread': join(PACKAGES, 'core/dist/import/ingest-thread.js'),
    'survey-thread': join(PACKAGES, 'core/dist/import/survey-thread.js'),
    'pack-thread': join(PACKAGES, 'core/dist/image/pack-thread.js'),
    'unpack-thread': join(PACKAGES, 'core/dist/image/unpack-thread.js'),
    'write-thread': join(PACKAGES, 'core/dist/export/write-thread.js'),
  },
  outdir: OUT,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  external: ['classic-level/package.json', 'snappy', 'koffi'],
  plugins: [levelAddon, plainBuiltins],
  // CommonJS dependencies call require for node's own modules.
  banner: {
    js: "import { createRequire as createBundleRequire } from 'node:module'; const require = createBundleRequire(import.meta.url);",
  },
  legalComments: 'linked',
  logLevel: 'warning',
});

// Found by the code that loads it through import.meta.url, like the threads.
copyFileSync(join(PACKAGES, 'core/dist/snappy/snappy.wasm'), join(OUT, 'snappy.wasm'));

const old = `${PLACE}.old`;
rmSync(old, { recursive: true, force: true });
if (existsSync(PLACE)) renameSync(PLACE, old);
renameSync(OUT, PLACE);
rmSync(old, { recursive: true, force: true });
