// How soon a tree is there, whatever its size: `mount` and `workspace create`, with a daemon and without one.
import { readdirSync } from 'node:fs';
import { OURS, playRound } from './lib/alternate.mjs';
import { run, VerificationError } from './lib/command.mjs';
import { bindfs, squashfuse, startDaemon } from './lib/file-systems.mjs';
import { importRoot, lazytree } from './lib/lazytree.mjs';
import { isBig, smallFiles } from './lib/made.mjs';
import { isMounted, takeAway } from './lib/mount-points.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { valueRow } from './lib/row.mjs';
import { verifySameTree } from './lib/trees.mjs';

const STARTS = 10;
const MAX_MS = 150;

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Times} Times
 *
 * @typedef {object} Tree
 * @property {string} label
 * @property {string} path
 * @property {{ name: string, command: (directory: string) => import('./lib/command.mjs').Command }[]} peers
 *
 * @typedef {object} Way of showing a tree
 * @property {string} command
 * @property {boolean} peers whether others do the same
 * @property {(directory: string, root: string, name: string) => string[]} show
 * @property {(directory: string, name: string) => string[]} hide
 */

/** @type {Way[]} */
const WAYS = [
  {
    command: 'mount',
    peers: true,
    show: (directory, root) => ['mount', root, directory],
    hide: (directory) => ['unmount', directory],
  },
  {
    command: 'workspace create',
    peers: false,
    show: (directory, root, name) => ['workspace', 'create', name, directory, '--from', root],
    hide: (_, name) => ['workspace', 'remove', '--discard', name],
  },
];

/**
 * Of the daemon, before the command: it serves another directory in the same way, or nothing yet, or is not there.
 * @typedef {(typeof STATES)[number]} State
 */
const STATES = /** @type {const} */ (['daemon in use', 'new daemon', 'no daemon']);

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  for (const tree of trees(context)) {
    const home = context.fresh('home');
    context.progress(`${tree.label}: importing`);
    const root = importRoot(home, tree.path);
    for (const way of WAYS) {
      for (const state of STATES) {
        const item = `${way.command}, ${tree.label}, ${state}`;
        context.progress(item);
        yield timesOf(item, starts(context, { home, root, tree, way, state }));
      }
    }
  }
}

/**
 * @param {Context} context
 * @returns {Generator<Tree>}
 */
function* trees(context) {
  const { path, files } = context.corpus();
  const label = `${Math.round(files / 1000)}K files`;
  yield { label, path, peers: [...squashfuse(context, path), ...bindfs(path)] };
  const thousands = isBig() ? 1000 : 100;
  context.progress(`making ${thousands}K files`);
  yield { label: `${thousands}K files`, path: smallFiles(context.fresh('small'), thousands), peers: [] };
}

/**
 * @param {Context} context
 * @param {{ home: string, root: string, tree: Tree, way: Way, state: State }} what
 * @returns {Times}
 */
function starts(context, { home, root, tree, way, state }) {
  /** @type {Times} */
  const times = new Map();
  const label = state.replaceAll(' ', '-');
  for (let i = 0; i < STARTS; i++) {
    using stack = new DisposableStack();
    const whole = i === STARTS - 1 && state === STATES[0];
    if (state !== 'no daemon') startDaemon(stack, home);
    if (state === 'daemon in use') showAnother();
    const entries = [ours(), ...(way.peers ? tree.peers.map(theirs) : [])];
    playRound(times, entries, i);

    function ours() {
      const directory = context.fresh('mnt');
      const name = `start-${i}-${label}`;
      // The command has started one.
      if (state === 'no daemon') stack.defer(() => void run(lazytree(home, 'daemon', 'stop')));
      stack.defer(() => isMounted(directory) && run(lazytree(home, ...way.hide(directory, name))));
      const command = lazytree(home, ...way.show(directory, root, name));
      return { name: OURS, command, verify: () => verify(directory) };
    }

    function showAnother() {
      const directory = context.fresh('mnt');
      const name = `another-${i}-${label}`;
      run(lazytree(home, ...way.show(directory, root, name)));
      stack.defer(() => void run(lazytree(home, ...way.hide(directory, name))));
    }

    /** @param {Tree['peers'][number]} peer */
    function theirs({ name, command }) {
      const directory = context.fresh('mnt');
      stack.defer(() => isMounted(directory) && takeAway(directory));
      return { name, command: command(directory), verify: () => verify(directory) };
    }

    /** @param {string} directory */
    function verify(directory) {
      if (whole) return verifySameTree(tree.path, directory);
      const found = readdirSync(directory).join();
      if (found !== readdirSync(tree.path).join()) throw new VerificationError(`${directory} has ${found}`);
    }
  }
  return times;
}

/**
 * @param {string} item
 * @param {Times} times
 */
function timesOf(item, times) {
  const ours = median(times.get(OURS) ?? []);
  const peers = [...times]
    .filter(([name]) => name !== OURS)
    .map(([name, seconds]) => ({
      name,
      quantity: quantity(median(seconds), 'ms'),
      ratio: ours / median(seconds),
    }));
  const note = isBig() ? undefined : 'with LAZYTREE_BENCH_BIG=1 mounts are measured with 1M files';
  return valueRow(item, quantity(ours, 'ms'), {
    max: MAX_MS,
    peers,
    samples: Object.fromEntries(times),
    note,
  });
}
