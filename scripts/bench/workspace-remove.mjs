// Giving a workspace up, against removing a copy of the tree.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { alternate, OURS } from './lib/alternate.mjs';
import { run, VerificationError } from './lib/command.mjs';
import { copyCorpus } from './lib/corpus.mjs';
import { readIntoCache, startDaemon } from './lib/file-systems.mjs';
import { importRoot, lazytree } from './lib/lazytree.mjs';
import { isMounted } from './lib/mount-points.mjs';
import { timesRow } from './lib/row.mjs';
import { verifySameTree } from './lib/trees.mjs';

const RM = 'rm -rf';

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  const { path } = context.corpus();
  const home = context.fresh('home');
  const root = importRoot(home, path);
  using stack = new DisposableStack();
  startDaemon(stack, home);
  const times = alternate(context.rounds, (round) => {
    context.progress(`workspace remove, round ${round + 1} of ${context.rounds}`);
    return [workspace(`doomed-${round}`), copy()];
  });
  yield timesRow('workspace remove', times, { peer: RM, max: 0.1 });

  /** @param {string} name */
  function workspace(name) {
    const directory = context.fresh('mnt');
    run(lazytree(home, 'workspace', 'create', name, directory, '--from', root));
    verifySameTree(path, directory);
    readIntoCache(directory);
    return {
      name: OURS,
      command: lazytree(home, 'workspace', 'remove', name),
      verify() {
        const left = readdirSync(directory);
        if (isMounted(directory) || left.length > 0) throw new VerificationError(`'${name}' is still there`);
      },
    };
  }

  function copy() {
    const tree = copyCorpus(context.corpus(), join(context.fresh('copy'), 'tree'));
    return {
      name: RM,
      command: { argv: ['rm', '-rf', tree] },
      verify() {
        if (existsSync(tree)) throw new VerificationError(`${tree} is still there`);
      },
    };
  }
}
