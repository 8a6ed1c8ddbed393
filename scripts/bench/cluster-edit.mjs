// One file of a tree that both machines have is edited on one of them: what the other needs to have it, too.
import { appendFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { enterLan } from '../../test/cluster/lan.ts';
import { OURS, playRound } from './lib/alternate.mjs';
import { addMember, formCluster, trafficOf } from './lib/cluster.mjs';
import { run } from './lib/command.mjs';
import { bytesOfRsync, RSYNC, rsyncDaemon } from './lib/copiers.mjs';
import { copyCorpus } from './lib/corpus.mjs';
import { importRoot } from './lib/lazytree.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { timesRow, valueRow } from './lib/row.mjs';
import { listTree, verifySameTree } from './lib/trees.mjs';

const MAX_TIME = 0.5;
const MAX_BYTES = 3;

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  const tree = join(context.fresh('edited'), 'tree');
  copyCorpus(context.corpus(), tree);
  const files = listTree(tree).filter(({ path, kind }) => kind === 'file' && path.endsWith('.js'));
  const lan = enterLan();
  try {
    using stack = new DisposableStack();
    const here = addMember(stack, context, { name: 'here' });
    const there = addMember(stack, context, { name: 'there' });
    formCluster(here, [there]);
    const ours = join(context.fresh('copy'), 'tree');
    const theirs = join(context.fresh('copy'), 'tree');
    run(there.command('export', importRoot(here.home, tree), ours));
    const [rsync] = rsyncDaemon(stack, context, tree);
    if (rsync) run(rsync.copy(theirs));
    /** @type {import('./lib/alternate.mjs').Times} */
    const times = new Map();
    /** @type {number[]} */
    const onTheWire = [];
    /** @type {number[]} */
    const changed = [];
    /** @type {number[]} */
    const ofRsync = [];
    for (let round = 0; round < context.rounds; round++) {
      context.progress(`cluster-edit, round ${round + 1} of ${context.rounds}`);
      const { path } = files[Math.floor(((round + 0.5) * files.length) / context.rounds)];
      appendFileSync(join(tree, path), '\n// edited\n');
      const before = segmentBytes(here.home);
      const root = importRoot(here.home, tree);
      changed.push(segmentBytes(here.home) - before);
      const { received, sent } = trafficOf(there);
      /** @type {import('./lib/alternate.mjs').Entry[]} */
      const entries = [
        {
          name: OURS,
          command: there.command('export', root, ours, '--update'),
          verify: () => verifySameTree(tree, ours),
        },
      ];
      if (rsync) {
        const verify = (/** @type {string} */ stdout) => {
          ofRsync.push(bytesOfRsync(stdout));
          verifySameTree(tree, theirs);
        };
        entries.push({ name: RSYNC, command: rsync.copy(theirs), verify });
      }
      playRound(times, entries, round);
      const after = trafficOf(there);
      onTheWire.push(after.received - received + after.sent - sent);
    }
    yield timesRow('one file edited, had by another node', times, { peer: RSYNC, max: MAX_TIME });
    const ratio = median(onTheWire.map((bytes, round) => bytes / changed[round]));
    yield valueRow('bytes on the wire for it, of those of the changed blocks', quantity(ratio, 'x'), {
      max: MAX_BYTES,
      samples: { onTheWire, changed, ofRsync },
      peers: [
        { name: 'changed blocks', quantity: quantity(median(changed), 'bytes') },
        { name: OURS, quantity: quantity(median(onTheWire), 'bytes') },
        ...(rsync ? [{ name: RSYNC, quantity: quantity(median(ofRsync), 'bytes') }] : []),
      ],
    });
  } finally {
    lan.leave();
  }
}

/**
 * Of all records: chunks and nodes, as they are stored and sent.
 * @param {string} home
 */
function segmentBytes(home) {
  const directory = join(home, 'store', 'segments');
  return readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
}
