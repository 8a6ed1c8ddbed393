// The first import of a workspace, into a home that does not exist yet.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { alternate, OURS } from './lib/alternate.mjs';
import { run } from './lib/command.mjs';
import { expectRoot, importRoot, lazytree } from './lib/lazytree.mjs';
import { archivers, git, have, TAR_ZSTD, tarZstdEntry } from './lib/peers.mjs';
import { timesRow } from './lib/row.mjs';
import { verifySameTree } from './lib/trees.mjs';

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  const corpus = context.corpus();
  const root = trustedRoot(context, corpus.path);
  const times = alternate(context.rounds, (round) => {
    context.progress(`first import, round ${round + 1} of ${context.rounds}`);
    return [
      ourImport(context, root),
      ...tarZstdEntry(context),
      ...gitEntry(context),
      ...archiverEntries(context),
    ];
  });
  yield timesRow('first import', times, { peer: TAR_ZSTD, max: 1 });
}

/**
 * The root that every import has to print, of an import that is known to be good.
 * @param {import('./lib/context.mjs').Context} context
 * @param {string} source
 */
function trustedRoot(context, source) {
  const home = context.fresh('home');
  const root = importRoot(home, source);
  run(lazytree(home, 'verify'));
  const copy = join(context.fresh('export'), 'tree');
  run(lazytree(home, 'export', root, copy));
  verifySameTree(source, copy);
  return root;
}

/**
 * @param {import('./lib/context.mjs').Context} context
 * @param {string} root
 * @returns {import('./lib/alternate.mjs').Entry}
 */
function ourImport(context, root) {
  const home = join(context.fresh('home'), 'home');
  return {
    name: OURS,
    command: lazytree(home, 'import', context.corpus().path),
    verify(stdout) {
      expectRoot(stdout, root);
      run(lazytree(home, 'verify', root));
    },
  };
}

/**
 * @param {import('./lib/context.mjs').Context} context
 * @returns {import('./lib/alternate.mjs').Entry[]}
 */
function gitEntry(context) {
  if (!have('git')) return [];
  const { path, files, symlinks } = context.corpus();
  const repository = git(join(context.fresh('git'), 'git'), path);
  repository.init();
  return [
    { name: 'git add', command: repository.add, verify: () => repository.verifyAdded(files + symlinks) },
  ];
}

/**
 * What they saved is verified where it is restored: in the benchmark of exports.
 * @param {import('./lib/context.mjs').Context} context
 * @returns {import('./lib/alternate.mjs').Entry[]}
 */
function archiverEntries(context) {
  return archivers().map(({ name, create, save }) => {
    const state = join(context.fresh(name), 'state');
    mkdirSync(state);
    create(state);
    return { name, command: save(state, context.corpus().path, 'first') };
  });
}
