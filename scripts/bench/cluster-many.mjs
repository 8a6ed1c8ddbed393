// Eight nodes that want the same tree at the same moment, of one that has it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { enterLan } from '../../test/cluster/lan.ts';
import { addMember, formCluster, join as joinCluster, trafficOf } from './lib/cluster.mjs';
import { run, VerificationError } from './lib/command.mjs';
import { importRoot } from './lib/lazytree.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { valueRow } from './lib/row.mjs';
import { verifySameTree } from './lib/trees.mjs';

const NODES = 8;
const MAX_COPIES = 1.5;
const MAX_SPREAD = 1.5;
const MOST_ROUNDS = 3;

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  const { path } = context.corpus();
  const lan = enterLan();
  try {
    /** @type {number[]} */
    const copies = [];
    /** @type {number[][]} */
    const seconds = [];
    const rounds = Math.min(context.rounds, MOST_ROUNDS);
    for (let round = 0; round < rounds; round++) {
      context.progress(`cluster-many, round ${round + 1} of ${rounds}`);
      using stack = new DisposableStack();
      const seed = addMember(stack, context, { name: 'seed' });
      const root = importRoot(seed.home, path);
      const single = addMember(stack, context, { name: 'single' });
      formCluster(seed, [single]);
      run(single.command('prefetch', root));
      const copy = trafficOf(seed).sent;
      // It has all, and is not to serve the others.
      run(single.command('cluster', 'leave'));
      const nodes = Array.from({ length: NODES }, (_, i) => {
        const member = addMember(stack, context, { name: `node${i}` });
        joinCluster(member, seed);
        return { member, target: join(context.fresh('copy'), 'tree') };
      });
      run({ argv: ['sync'] });
      const before = trafficOf(seed).sent;
      seconds.push(await Promise.all(nodes.map(({ member, target }) => exported(member, root, target))));
      copies.push((trafficOf(seed).sent - before) / copy);
      for (const { target } of nodes) verifySameTree(path, target);
    }
    const samples = { copies, seconds };
    yield valueRow(
      `${NODES} cold nodes at once: copies that the first node sends`,
      quantity(median(copies), 'x'),
      {
        max: MAX_COPIES,
        samples,
      },
    );
    const spread = seconds.map((each) => Math.max(...each) / Math.min(...each));
    yield valueRow(`${NODES} cold nodes at once: slowest ÷ fastest`, quantity(median(spread), 'x'), {
      max: MAX_SPREAD,
      samples,
      peers: [
        { name: 'slowest', quantity: quantity(median(seconds.map((each) => Math.max(...each))), 's') },
        { name: 'fastest', quantity: quantity(median(seconds.map((each) => Math.min(...each))), 's') },
      ],
    });
  } finally {
    lan.leave();
  }
}

/**
 * @param {import('./lib/cluster.mjs').Member} member
 * @param {string} root
 * @param {string} target
 */
async function exported(member, root, target) {
  const { argv, env } = member.command('export', root, target);
  const began = performance.now();
  const child = spawn(argv[0], argv.slice(1), { env: { ...process.env, ...env }, stdio: 'ignore' });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new VerificationError(`export at ${member.name} ends with ${code}`);
  return (performance.now() - began) / 1000;
}
