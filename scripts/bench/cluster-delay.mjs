// Machines that are far from each other: 20 ms each way, put between them by a proxy, with no limit to the bandwidth.
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { enterLan, HERE } from '../../test/cluster/lan.ts';
import { OURS } from './lib/alternate.mjs';
import {
  addMember,
  formCluster,
  isListening,
  join as joinCluster,
  serve,
  waitUntilConnected,
} from './lib/cluster.mjs';
import { run, timed, VerificationError } from './lib/command.mjs';
import { copyCorpus } from './lib/corpus.mjs';
import { importRoot } from './lib/lazytree.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { timesRow, valueRow } from './lib/row.mjs';
import { listTree } from './lib/trees.mjs';

const DELAY_MS = 20;
const ROUND_TRIP = (2 * DELAY_MS) / 1000;
const MAX_ROUND_TRIPS = 3;
const FILES = 633;
const SMALL = 16 << 10;
const MAX_SCATTERED = 1.5;
const MAX_ORDERED = 1.1;
const STREAM = 'one stream';
const SEED_PORT = 4001;
const RAW_PORT = 4002;
const RAW_SCRIPT = fileURLToPath(new URL('./lib/raw-libp2p.mjs', import.meta.url));
const PROXY_SCRIPT = fileURLToPath(new URL('./lib/delay-proxy-process.mjs', import.meta.url));

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('../../test/cluster/lan.ts').Machine} Machine
 * @typedef {import('./lib/cluster.mjs').Member} Member
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  const path = copyCorpus(context.corpus(), join(context.fresh('edited'), 'tree'));
  const names = scattered(path);
  const list = join(context.fresh('list'), 'names');
  writeFileSync(list, `${names.join('\0')}\0`);
  const content = join(context.fresh('content'), 'all');
  run({ argv: ['sh', '-c', 'xargs -0 cat < "$1" > "$2"', 'sh', list, content], cwd: path });
  const bytes = readFileSync(content).length;

  const lan = enterLan();
  try {
    using servers = new DisposableStack();
    const far = await lan.addMachine('far');
    far.isolate();
    const seed = addMember(servers, context, {
      name: 'seed',
      machine: far,
      listen: [`/ip4/0.0.0.0/tcp/${SEED_PORT}`],
    });
    formCluster(seed, []);
    const near = startProxy(servers, 5001, SEED_PORT, 0);
    const delayed = startProxy(servers, 5002, SEED_PORT, DELAY_MS);
    const file = join(context.fresh('raw'), 'address');
    const argv = [...far.enter, process.execPath, RAW_SCRIPT, 'serve', file, String(RAW_PORT)];
    serve(servers, { argv }, () => existsSync(file) && readFileSync(file, 'utf8') !== '');
    const rawPort = startProxy(servers, 5003, RAW_PORT, DELAY_MS);
    const raw = `/ip4/${HERE}/tcp/${rawPort}/p2p/${readFileSync(file, 'utf8').split('/p2p/')[1]}`;

    /** @type {number[]} */
    const trips = [];
    /** @type {Record<string, number[]>} */
    const cold = { [OURS]: [], [STREAM]: [] };
    /** @type {Record<string, number[]>} */
    const ordered = { [OURS]: [], [STREAM]: [] };
    for (let round = 0; round < context.rounds; round++) {
      context.progress(`cluster-delay, round ${round + 1} of ${context.rounds}`);
      // A tree that nobody has read, and none that it is a change of: who reads it tells the others in which order.
      writeFileSync(join(path, 'round'), String(round));
      const orders = join(seed.home, 'access');
      const aside = join(seed.home, 'access-aside');
      if (round > 0) renameSync(orders, aside);
      const root = importRoot(seed.home, path);
      trips.push(((await firstListing(root, delayed)) - (await firstListing(root, near))) / ROUND_TRIP);
      cold[OURS].push(await reading(root));
      cold[STREAM].push(stream());
      rmSync(orders, { recursive: true, force: true });
      // From the second round on the kernel has the files, and what is known is the order of the tree before.
      if (round > 0) renameSync(aside, orders);
      readAtSeed(root);
      ordered[OURS].push(await reading(root));
      ordered[STREAM].push(stream());
    }
    yield valueRow(
      `first ls -l of the corpus, ${DELAY_MS} ms each way: round trips`,
      quantity(median(trips), 'x'),
      { max: MAX_ROUND_TRIPS, samples: trips },
    );
    const item = `${FILES} scattered small files of a mount, ${DELAY_MS} ms each way`;
    yield timesRow(item, new Map(Object.entries(cold)), { peer: STREAM, max: MAX_SCATTERED });
    yield timesRow(`${item}, read before elsewhere`, new Map(Object.entries(ordered)), {
      peer: STREAM,
      max: MAX_ORDERED,
    });

    function stream() {
      return Number(run({ argv: [process.execPath, RAW_SCRIPT, 'fetch', raw, String(bytes)] }));
    }

    /**
     * @param {string} root
     * @param {number} port
     */
    async function firstListing(root, port) {
      using stack = new DisposableStack();
      const member = await newcomer(stack, port);
      const { seconds, stdout } = timed(member.command('ls', '-l', root));
      const found = stdout.trim().split('\n').length;
      if (found < 2) throw new VerificationError(`ls -l prints ${found} lines`);
      return seconds;
    }

    /**
     * Seconds from when the mount is there until all is read.
     * @param {string} root
     */
    async function reading(root) {
      using stack = new DisposableStack();
      const member = await newcomer(stack, delayed);
      const target = join(context.fresh('mnt'), 'tree');
      const out = join(context.fresh('out'), 'all');
      const { argv: mount, env } = member.command('mount', root, target);
      stack.defer(() => void run(member.command('unmount', target)));
      const script = `list=$1 target=$2 out=$3; shift 3; "$@" > /dev/null && cd "$target" && date +%s%N &&
        xargs -0 cat < "$list" > "$out" && date +%s%N`;
      const stdout = run({ argv: ['sh', '-c', script, 'sh', list, target, out, ...mount], env });
      run({ argv: ['cmp', content, out] });
      const [began, ended] = stdout.trim().split('\n').map(BigInt);
      return Number(ended - began) / 1e9;
    }

    /** @param {string} root */
    function readAtSeed(root) {
      const target = join(context.fresh('mnt'), 'tree');
      run(seed.command('mount', root, target));
      run({ argv: ['sh', '-c', 'xargs -0 cat < "$1" > /dev/null', 'sh', list], cwd: target });
      run(seed.command('unmount', target));
    }

    /**
     * A member that reaches the seed through a proxy alone, and is connected to it.
     * @param {DisposableStack} stack
     * @param {number} port
     */
    async function newcomer(stack, port) {
      const name = `node-${context.fresh('name').replace(/\D/g, '')}`;
      const machine = await lan.addMachine(name);
      far.include();
      const member = addMember(stack, context, { name, machine });
      joinCluster(member, seed);
      run(member.command('daemon', 'stop'));
      far.isolate();
      machine.isolate();
      member.start({ peers: [`/ip4/${HERE}/tcp/${port}`] });
      waitUntilConnected(member, seed);
      return member;
    }

    /**
     * @param {DisposableStack} stack
     * @param {number} port
     * @param {number} target on the far machine
     * @param {number} delay
     */
    function startProxy(stack, port, target, delay) {
      const args = [HERE, String(port), far.address, String(target), String(delay)];
      serve(stack, { argv: [process.execPath, PROXY_SCRIPT, ...args] }, () => isListening(port, HERE));
      return port;
    }
  } finally {
    lan.leave();
  }
}

/**
 * @param {string} tree
 * @returns {string[]} small files from everywhere in it
 */
function scattered(tree) {
  const small = listTree(tree).filter(({ kind, size }) => kind === 'file' && size > 0 && size <= SMALL);
  return Array.from({ length: FILES }, (_, i) => small[Math.floor((i * small.length) / FILES)].path);
}
