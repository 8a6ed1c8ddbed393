// Importing again what was imported before: unchanged, and with one file changed.
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { OURS, playRound } from './lib/alternate.mjs';
import { run, VerificationError } from './lib/command.mjs';
import { copyCorpus } from './lib/corpus.mjs';
import { expectRoot, importRoot, lazytree, rootIn } from './lib/lazytree.mjs';
import { archivers, GIT_STATUS, git, have, verifyClean, verifyModified } from './lib/peers.mjs';
import { timesRow } from './lib/row.mjs';
import { middleFile } from './lib/trees.mjs';

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Entry} Entry
 * @typedef {import('./lib/alternate.mjs').Times} Times
 *
 * @typedef {object} Contestant
 * @property {() => Entry} again with nothing changed
 * @property {(path: string) => Entry} changed with that one file changed
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  const tree = copyCorpus(context.corpus(), join(context.fresh('copy'), 'tree'));
  const changing = middleFile(tree);
  /** @type {Times} */
  const unchanged = new Map();
  /** @type {Times} */
  const changed = new Map();
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`import again, round ${round + 1} of ${context.rounds}`);
    const contestants = [ours(context, tree), ...gitStatus(context, tree), ...others(context, tree)];
    playRound(
      unchanged,
      contestants.map(({ again }) => again()),
      round,
    );
    appendFileSync(join(tree, changing), '\n');
    playRound(
      changed,
      contestants.map((contestant) => contestant.changed(changing)),
      round,
    );
  }
  yield timesRow('import again, unchanged', unchanged, { peer: GIT_STATUS, max: 2 });
  yield timesRow('import again, one file changed', changed, { peer: GIT_STATUS, max: 2 });
}

/**
 * @param {Context} context
 * @param {string} tree
 * @returns {Contestant}
 */
function ours(context, tree) {
  const home = join(context.fresh('home'), 'home');
  const root = importRoot(home, tree);
  const command = lazytree(home, 'import', tree);
  return {
    again: () => ({ name: OURS, command, verify: (stdout) => expectRoot(stdout, root) }),
    changed: () => ({ name: OURS, command, verify: (stdout) => verifyChanged(stdout) }),
  };

  /** Knowing what has not changed must give the root that reading everything gives. */
  function verifyChanged(/** @type {string} */ stdout) {
    const now = rootIn(stdout);
    if (now === root) throw new VerificationError(`the root is ${root} after a change, too`);
    expectRoot(run(lazytree(join(context.fresh('home'), 'home'), 'import', '--no-cache', tree)), now);
    run(lazytree(home, 'verify', now));
  }
}

/**
 * @param {Context} context
 * @param {string} tree
 * @returns {Contestant[]}
 */
function gitStatus(context, tree) {
  if (!have('git')) return [];
  const repository = git(join(context.fresh('git'), 'git'), tree);
  repository.init();
  repository.commit();
  const entry = { name: GIT_STATUS, command: repository.status };
  return [
    {
      again: () => ({ ...entry, verify: verifyClean }),
      changed: (path) => ({ ...entry, verify: (stdout) => verifyModified(stdout, path) }),
    },
  ];
}

/**
 * @param {Context} context
 * @param {string} tree
 * @returns {Contestant[]}
 */
function others(context, tree) {
  return archivers().map(({ name, create, save }) => {
    const state = context.fresh(name);
    create(state);
    run(save(state, tree, 'first'));
    return {
      again: () => ({ name, command: save(state, tree, 'again') }),
      changed: () => ({ name, command: save(state, tree, 'changed') }),
    };
  });
}
