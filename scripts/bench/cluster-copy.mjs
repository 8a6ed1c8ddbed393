// A tree on another machine, of which nothing is there yet: on its disk, and in a mount with the first file read.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { enterLan } from '../../test/cluster/lan.ts';
import { OURS, playRound } from './lib/alternate.mjs';
import { addMember, formCluster, join as joinCluster } from './lib/cluster.mjs';
import { run, VerificationError } from './lib/command.mjs';
import { RSYNC, rsyncDaemon, TAR_ZSTD_SOCKET, tarServer } from './lib/copiers.mjs';
import { importRoot } from './lib/lazytree.mjs';
import { only, timesRow, without } from './lib/row.mjs';
import { SYNCTHING, syncthing } from './lib/syncthing.mjs';
import { middleFile, verifySameTree } from './lib/trees.mjs';

const MOUNT = 'lazytree mount';
const MAX_COPY = 1;
const MAX_SLOW = 0.1;
const MAX_MOUNT = 0.2;

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  const corpus = context.corpus();
  const file = middleFile(corpus.path);
  const lan = enterLan();
  try {
    using servers = new DisposableStack();
    const seed = addMember(servers, context, { name: 'seed' });
    formCluster(seed, []);
    const root = importRoot(seed.home, corpus.path);
    const copiers = [...rsyncDaemon(servers, context, corpus.path), ...tarServer(servers, corpus.path)];
    /** @type {import('./lib/alternate.mjs').Times} */
    const times = new Map();
    for (let round = 0; round < context.rounds; round++) {
      context.progress(`cluster-copy, round ${round + 1} of ${context.rounds}`);
      using stack = new DisposableStack();
      const entries = [
        exporting(stack),
        ...copiers.map(({ name, copy }) => {
          const target = join(context.fresh('copy'), 'tree');
          return { name, command: copy(target), verify: () => verifySameTree(corpus.path, target) };
        }),
        mounting(stack, round),
      ];
      playRound(times, entries, round);
    }
    const cold = without(times, MOUNT);
    yield timesRow('cold copy to another node, to disk', cold, { peer: RSYNC, max: MAX_COPY });
    yield timesRow('the same', only(times, OURS, TAR_ZSTD_SOCKET), { peer: TAR_ZSTD_SOCKET, max: MAX_COPY });
    yield timesRow('cold mount at another node, and the first file', only(times, MOUNT, RSYNC), {
      ours: MOUNT,
      peer: RSYNC,
      max: MAX_MOUNT,
    });
    context.progress('cluster-copy: syncthing, which takes its time');
    const slow = await syncthing(context);
    const first = new Map([[OURS, (times.get(OURS) ?? []).slice(0, 1)]]);
    if (slow !== undefined) first.set(SYNCTHING, [slow]);
    yield timesRow('cold copy, beside what takes long', first, { peer: SYNCTHING, max: MAX_SLOW });

    /** @param {DisposableStack} stack */
    function newcomer(stack) {
      const member = addMember(stack, context, { name: `node-${context.fresh('name').replace(/\D/g, '')}` });
      joinCluster(member, seed);
      return member;
    }

    /** @param {DisposableStack} stack */
    function exporting(stack) {
      const target = join(context.fresh('copy'), 'tree');
      const command = newcomer(stack).command('export', root, target);
      return { name: OURS, command, verify: () => verifySameTree(corpus.path, target) };
    }

    /**
     * @param {DisposableStack} stack
     * @param {number} round
     */
    function mounting(stack, round) {
      const member = newcomer(stack);
      const target = context.fresh('mnt');
      const { argv, env } = member.command('mount', root, target);
      stack.defer(() => void run(member.command('unmount', target)));
      const script = 'file=$1; shift; "$@" && cat "$file"';
      return {
        name: MOUNT,
        command: { argv: ['sh', '-c', script, 'sh', join(target, file), ...argv], env },
        verify: (/** @type {string} */ stdout) => {
          if (!stdout.endsWith(readFileSync(join(corpus.path, file), 'utf8')))
            throw new VerificationError(`${file} has another content`);
          if (round === context.rounds - 1) verifySameTree(corpus.path, target);
        },
      };
    }
  } finally {
    lan.leave();
  }
}
