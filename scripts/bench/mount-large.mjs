// One file of a gigabyte from its beginning to its end, where it is mounted.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { medianRatio, medianTime, OURS, playRound } from './lib/alternate.mjs';
import { run } from './lib/command.mjs';
import {
  bindfs,
  EXT4,
  ext4,
  lazytreeMount,
  lazytreeWorkspace,
  mountAll,
  squashfuse,
  WORKSPACE,
} from './lib/file-systems.mjs';
import { importRoot } from './lib/lazytree.mjs';
import { largeFile } from './lib/made.mjs';
import { quantity } from './lib/numbers.mjs';
import { randomBytes } from './lib/random.mjs';
import { only, timesRow, valueRow, without } from './lib/row.mjs';
import { textBytes } from './lib/text.mjs';

const GIGABYTE = 1e9;
const NAME = 'large';
const MIN_COLD = 700;
const MAX_WARM = 1.15;
const WARM_PER_ROUND = 3;

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Times} Times
 * @typedef {{ name: string, path: string }} Mounted
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  for (const [label, next] of Object.entries({ random: randomBytes(3), text: textBytes(3) })) {
    context.progress(`mount-large: a GB of ${label}`);
    const work = context.fresh('large');
    const tree = join(work, 'tree');
    mkdirSync(tree);
    largeFile(join(tree, NAME), GIGABYTE, next);
    const { cold, warm } = measure(context, tree, label);
    yield coldRow(`cold sequential read of a GB, ${label}`, cold);
    yield timesRow(`warm sequential read of a GB, ${label}, mount`, without(warm, WORKSPACE), {
      peer: EXT4,
      max: MAX_WARM,
    });
    yield timesRow(`warm sequential read of a GB, ${label}, workspace`, only(warm, WORKSPACE, EXT4), {
      ours: WORKSPACE,
      peer: EXT4,
      max: MAX_WARM,
    });
    // Few and large files: removing them slows nothing down.
    rmSync(work, { recursive: true });
  }
}

/**
 * @param {Context} context
 * @param {string} tree
 * @param {string} label
 */
function measure(context, tree, label) {
  const homes = [context.fresh('home'), context.fresh('home')];
  const peers = [...squashfuse(context, tree), ...bindfs(tree)];
  const systems = [
    lazytreeMount(homes[0], importRoot(homes[0], tree)),
    lazytreeWorkspace(homes[1], importRoot(homes[1], tree)),
    ext4(tree),
    ...peers,
  ];
  /** @type {Times} */
  const cold = new Map();
  /** @type {Times} */
  const warm = new Map();
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`a GB of ${label}, round ${round + 1} of ${context.rounds}`);
    using stack = new DisposableStack();
    const mounted = mountAll(context, systems, { stack });
    playRound(cold, mounted.filter(({ name }) => name !== EXT4).map(reading), round);
    const again = mounted.map(reading).map((entry) => ({ ...entry, before: () => void run(entry.command) }));
    for (let i = 0; i < WARM_PER_ROUND; i++) playRound(warm, again, round + i);
    if (round === context.rounds - 1) verify(mounted, join(tree, NAME));
  }
  for (const home of homes) rmSync(home, { recursive: true });
  return { cold, warm };
}

/** @param {Mounted} mounted */
function reading({ name, path }) {
  return {
    name,
    command: { argv: ['dd', `if=${join(path, NAME)}`, 'of=/dev/null', 'bs=1M', 'status=none'] },
  };
}

/**
 * @param {Mounted[]} mounted
 * @param {string} expected
 */
function verify(mounted, expected) {
  for (const { name, path } of mounted) if (name !== EXT4) run({ argv: ['cmp', expected, join(path, NAME)] });
}

/**
 * @param {string} item
 * @param {Times} times
 */
function coldRow(item, times) {
  const rate = (/** @type {string} */ name) => quantity(GIGABYTE / 1e6 / medianTime(times, name), 'MB/s');
  return valueRow(item, rate(OURS), {
    min: MIN_COLD,
    peers: [...times.keys()]
      .filter((name) => name !== OURS)
      .map((name) => ({ name, quantity: rate(name), ratio: medianRatio(times, name, OURS) })),
    samples: Object.fromEntries(times),
  });
}
