// Writing a tree out: to a new directory, and over one that has it already.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { alternate, OURS } from './lib/alternate.mjs';
import { run } from './lib/command.mjs';
import { importRoot, lazytree } from './lib/lazytree.mjs';
import { archivers, GIT_STATUS, git, have, verifyClean } from './lib/peers.mjs';
import { timesRow } from './lib/row.mjs';
import { verifySameTree } from './lib/trees.mjs';

const TAR_X = 'tar x';

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Entry} Entry
 *
 * @typedef {object} Extractor
 * @property {string} name
 * @property {(target: string) => import('./lib/command.mjs').Command} extract to a directory not there yet
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  const { path } = context.corpus();
  const home = context.fresh('home');
  const root = importRoot(home, path);
  const extractors = [
    {
      name: OURS,
      extract: (/** @type {string} */ target) => lazytree(home, 'export', root, target),
    },
    ...tar(context),
    copy(context),
    ...others(context),
  ];
  const times = alternate(context.rounds, (round) => {
    context.progress(`export, round ${round + 1} of ${context.rounds}`);
    return extractors.map((extractor) => extraction(context, extractor));
  });
  yield timesRow('export to a new directory', times, { peer: TAR_X, max: 1 });

  const status = gitStatus(context);
  const again = alternate(context.rounds, (round) => {
    context.progress(`export --update, round ${round + 1} of ${context.rounds}`);
    return [update(context, home, root), ...status];
  });
  yield timesRow('export --update, unchanged', again, { peer: GIT_STATUS, max: 2 });
}

/**
 * @param {Context} context
 * @param {Extractor} extractor
 * @returns {Entry}
 */
function extraction(context, { name, extract }) {
  const target = join(context.fresh('export'), 'tree');
  return { name, command: extract(target), verify: () => verifySameTree(context.corpus().path, target) };
}

/**
 * @param {Context} context
 * @returns {Extractor[]}
 */
function tar(context) {
  if (!have('tar')) return [];
  const file = join(context.fresh('tar'), 'tree.tar');
  run({ argv: ['tar', 'cf', file, '.'], cwd: context.corpus().path });
  /** @param {string} target */
  const extract = (target) => {
    mkdirSync(target);
    return { argv: ['tar', 'xf', file], cwd: target };
  };
  return [{ name: TAR_X, extract }];
}

/**
 * @param {Context} context
 * @returns {Extractor}
 */
function copy(context) {
  return { name: 'cp -r', extract: (target) => ({ argv: ['cp', '-r', context.corpus().path, target] }) };
}

/**
 * @param {Context} context
 * @returns {Extractor[]}
 */
function others(context) {
  return archivers().map(({ name, create, save, restore }) => {
    const state = context.fresh(name);
    create(state);
    run(save(state, context.corpus().path, 'first'));
    return { name, extract: (target) => restore(state, 'first', target) };
  });
}

/**
 * @param {Context} context
 * @param {string} home
 * @param {string} root
 * @returns {Entry}
 */
function update(context, home, root) {
  const target = join(context.fresh('export'), 'tree');
  run(lazytree(home, 'export', root, target));
  return {
    name: OURS,
    command: lazytree(home, 'export', '--update', root, target),
    verify: () => verifySameTree(context.corpus().path, target),
  };
}

/**
 * @param {Context} context
 * @returns {Entry[]}
 */
function gitStatus(context) {
  if (!have('git')) return [];
  const repository = git(join(context.fresh('git'), 'git'), context.corpus().path);
  repository.init();
  repository.commit();
  return [{ name: GIT_STATUS, command: repository.status, verify: verifyClean }];
}
