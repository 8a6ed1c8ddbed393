// One large file that is on another machine, beside what libp2p itself gives on a stream.
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { enterLan } from '../../test/cluster/lan.ts';
import { OURS } from './lib/alternate.mjs';
import { addMember, formCluster, join as joinCluster, serve } from './lib/cluster.mjs';
import { run, shell, timed, VerificationError } from './lib/command.mjs';
import { importRoot } from './lib/lazytree.mjs';
import { largeFile } from './lib/made.mjs';
import { randomBytes } from './lib/random.mjs';
import { timesRow } from './lib/row.mjs';

const BYTES = 1e9;
const NAME = 'large';
const RAW = 'noise + yamux';
const RAW_SCRIPT = fileURLToPath(new URL('./lib/raw-libp2p.mjs', import.meta.url));
const PORT = 28_732;
/** Four fifths of the throughput. */
const MAX_TIME = 1.25;

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  context.progress('cluster-large: a GB of random bytes');
  const tree = join(context.fresh('large'), 'tree');
  mkdirSync(tree);
  largeFile(join(tree, NAME), BYTES, randomBytes(11));
  const sum = run({ argv: ['sha256sum', join(tree, NAME)] }).split(' ')[0];
  const lan = enterLan();
  try {
    using servers = new DisposableStack();
    const seed = addMember(servers, context, { name: 'seed' });
    formCluster(seed, []);
    const root = importRoot(seed.home, tree);
    const file = join(context.fresh('raw'), 'address');
    const argv = [process.execPath, RAW_SCRIPT, 'serve', file, String(PORT)];
    serve(servers, { argv }, () => existsSync(file) && readFileSync(file, 'utf8') !== '');
    const address = `/ip4/127.0.0.1${readFileSync(file, 'utf8')}`;
    /** @type {Record<string, number[]>} */
    const samples = { [OURS]: [], export: [], [RAW]: [] };
    const measures = {
      [OURS]: cat,
      export: exported,
      [RAW]: () => Number(run({ argv: [process.execPath, RAW_SCRIPT, 'fetch', address, String(BYTES)] })),
    };
    for (let round = 0; round < context.rounds; round++) {
      context.progress(`cluster-large, round ${round + 1} of ${context.rounds}`);
      const order = Object.entries(measures);
      for (const [name, measure] of round % 2 === 0 ? order : order.reverse()) samples[name].push(measure());
    }
    const times = new Map(Object.entries(samples));
    yield timesRow('cat of a GB that is at another node (0.8 of the throughput)', times, {
      peer: RAW,
      max: MAX_TIME,
    });

    /** Another node each time, which is gone again before the next is measured: so are its blocks. */
    function cat() {
      using stack = new DisposableStack();
      const member = newcomer(stack);
      const { argv, env } = member.command('cat', `${root}/${NAME}`);
      const { seconds } = timed({ ...shell('"$@" > /dev/null', ...argv), env });
      const found = run({ ...shell('"$@" | sha256sum', ...argv), env }).split(' ')[0];
      if (found !== sum) throw new VerificationError(`${NAME} has another content`);
      return seconds;
    }

    function exported() {
      using stack = new DisposableStack();
      const member = newcomer(stack);
      const target = join(context.fresh('copy'), 'tree');
      const { seconds } = timed(member.command('export', root, target));
      run({ argv: ['cmp', join(tree, NAME), join(target, NAME)] });
      rmSync(target, { recursive: true });
      return seconds;
    }

    /** @param {DisposableStack} stack */
    function newcomer(stack) {
      const member = addMember(stack, context, { name: `node-${context.fresh('name').replace(/\D/g, '')}` });
      // Few and large files: removing them slows nothing down.
      stack.defer(() => rmSync(join(member.home, 'store', 'segments'), { recursive: true }));
      stack.defer(() => void run(member.command('daemon', 'stop')));
      joinCluster(member, seed);
      return member;
    }
  } finally {
    lan.leave();
  }
}
