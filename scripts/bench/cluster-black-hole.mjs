// What it costs that one of two nodes that have a tree vanishes without a word, just before it is wanted.
import { join } from 'node:path';
import { enterLan } from '../../test/cluster/lan.ts';
import { addMember, formCluster, join as joinCluster, waitUntilConnected } from './lib/cluster.mjs';
import { run, timed } from './lib/command.mjs';
import { importRoot } from './lib/lazytree.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { valueRow } from './lib/row.mjs';
import { verifySameTree } from './lib/trees.mjs';

const MAX_SECONDS = 0.3;

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  const { path } = context.corpus();
  const lan = enterLan();
  try {
    using servers = new DisposableStack();
    const vanishing = await lan.addMachine('vanishing');
    const seed = addMember(servers, context, { name: 'seed', machine: await lan.addMachine('seed') });
    const other = addMember(servers, context, { name: 'vanishing', machine: vanishing });
    formCluster(seed, [other]);
    const root = importRoot(seed.home, path);
    run(other.command('prefetch', root));
    /** @type {Record<'there' | 'gone', number[]>} */
    const seconds = { there: [], gone: [] };
    for (let round = 0; round < context.rounds; round++) {
      context.progress(`cluster-black-hole, round ${round + 1} of ${context.rounds}`);
      /** @type {('there' | 'gone')[]} */
      const order = round % 2 === 0 ? ['there', 'gone'] : ['gone', 'there'];
      for (const state of order) seconds[state].push(await exported(state));
    }
    const costs = seconds.gone.map((time, round) => time - seconds.there[round]);
    yield valueRow('a peer that vanishes: what it costs a cold copy', quantity(median(costs), 'ms'), {
      max: MAX_SECONDS * 1000,
      samples: seconds,
      peers: [
        { name: 'with both', quantity: quantity(median(seconds.there), 's') },
        { name: 'with one gone', quantity: quantity(median(seconds.gone), 's') },
      ],
    });

    /** @param {'there' | 'gone'} state of the other node */
    async function exported(state) {
      using stack = new DisposableStack();
      const name = `node-${context.fresh('name').replace(/\D/g, '')}`;
      const member = addMember(stack, context, { name, machine: await lan.addMachine(name) });
      joinCluster(member, seed);
      waitUntilConnected(member, other);
      const target = join(context.fresh('copy'), 'tree');
      run({ argv: ['sync'] });
      if (state === 'gone') vanishing.blackHole();
      const { seconds: time } = timed(member.command('export', root, target));
      vanishing.plug();
      waitUntilConnected(seed, other);
      verifySameTree(path, target);
      return time;
    }
  } finally {
    lan.leave();
  }
}
