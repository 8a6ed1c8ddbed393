// Bundles the command with all it imports, native addons apart: one file to find and parse instead of hundreds,
// which is most of a command's start-up time. Threads are entry points of their own.
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { LATE, lazyBuiltins } from './lib/lazy-builtins.mjs';
import { buildMerged } from './lib/merge-chunks.mjs';
import { ownImports } from './lib/own-imports.mjs';

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
 * What checks a daemon's requests goes by itself: in chunks it would share all of its library with the cluster, which
 * uses more of it, and every daemon's first command would wait for that.
 * @type {import('esbuild').Plugin}
 */
const requestsApart = {
  name: 'requests-apart',
  setup({ onResolve }) {
    onResolve({ filter: /\/command-request\.js$/ }, ({ kind, path }) =>
      kind === 'dynamic-import' ? { path, external: true } : undefined,
    );
  },
};

/**
 * To find the package's own file at run time takes some milliseconds.
 * @type {import('esbuild').Plugin}
 */
const version = {
  name: 'version',
  setup({ onLoad }) {
    onLoad({ filter: /cli[\\/]dist[\\/]version\.js$/ }, () => {
      const { version } = JSON.parse(readFileSync(join(PACKAGES, 'cli/package.json'), 'utf8'));
      return { contents: `export const VERSION = ${JSON.stringify(version)};` };
    });
  },
};

rmSync(OUT, { recursive: true, force: true });
/** @satisfies {import('esbuild').BuildOptions} */
const OPTIONS = {
  outdir: OUT,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  // The Azure identity library is hundreds of files, and few need it: most have a key or a token.
  // What runs scripts of packages has files beside it that those find by their path.
  external: ['classic-level/package.json', 'snappy', 'koffi', '@azure/identity', '@npmcli/run-script'],
  plugins: [levelAddon, version, lazyBuiltins(LATE), ownImports(PACKAGES), requestsApart],
  chunkNames: '[name]-[hash]',
  // The Azure library asks whether a body is one, which makes Node load all of its fetch: 40 ms before the first request.
  // The first look at `performance` makes it load all that measures something. The process's clock is one, too.
  define: { FormData: 'undefined', 'performance.now': 'processClock' },
  // CommonJS dependencies call require for node's own modules.
  banner: {
    js: [
      "const require = process.getBuiltinModule('node:module').createRequire(import.meta.url);",
      'const processClock = () => process.uptime() * 1000;',
    ].join('\n'),
  },
  legalComments: 'linked',
  logLevel: 'warning',
};
await buildMerged({ ...OPTIONS, entryPoints: { main: join(PACKAGES, 'cli/dist/main.js') } }, [
  { of: 'main', into: 'asking.js' },
  { of: 'run-here', into: 'executing.js' },
]);
// Each by itself, with no more in it than it uses: a thread has to be there at once.
await build({
  ...OPTIONS,
  plugins: [
    levelAddon,
    lazyBuiltins(LATE.filter((path) => path !== 'node:worker_threads')),
    ownImports(PACKAGES),
  ],
  entryPoints: {
    'ingest-thread': join(PACKAGES, 'core/dist/import/ingest-thread.js'),
    'record-thread': join(PACKAGES, 'core/dist/import/record-thread.js'),
    'survey-thread': join(PACKAGES, 'core/dist/import/survey-thread.js'),
    'pack-thread': join(PACKAGES, 'core/dist/image/pack-thread.js'),
    'unpack-frames-thread': join(PACKAGES, 'core/dist/pack/unpack-frames-thread.js'),
    'unpack-thread': join(PACKAGES, 'core/dist/image/unpack-thread.js'),
    'write-thread': join(PACKAGES, 'core/dist/export/write-thread.js'),
    'serve-thread': join(PACKAGES, 'node/dist/fuse/session/serve-thread.js'),
    'push-thread': join(PACKAGES, 'node/dist/fuse/session/push-thread.js'),
    'keeper-process': join(PACKAGES, 'node/dist/keeper/keeper-process.js'),
    'package-thread': join(PACKAGES, 'node/dist/origins/npm/package-thread.js'),
    'verify-thread': join(PACKAGES, 'node/dist/fetch/verify-thread.js'),
    'command-request': join(PACKAGES, 'node/dist/daemon/command-request.js'),
    'holder-process': join(PACKAGES, 'node/dist/workspaces/holder-process.js'),
  },
});

// Found by the code that loads it through import.meta.url, like the threads.
for (const name of ['kernels.wasm', 'unsnappy.wasm'])
  copyFileSync(join(PACKAGES, 'core/dist/wasm', name), join(OUT, name));

const old = `${PLACE}.old`;
rmSync(old, { recursive: true, force: true });
if (existsSync(PLACE)) renameSync(PLACE, old);
renameSync(OUT, PLACE);
rmSync(old, { recursive: true, force: true });
