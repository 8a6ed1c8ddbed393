// The memory of the process that serves mounts, after very many files were read there.
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, shell } from './lib/command.mjs';
import { copyCorpus } from './lib/corpus.mjs';
import { startDaemon } from './lib/file-systems.mjs';
import { importRoot, lazytree } from './lib/lazytree.mjs';
import { quantity } from './lib/numbers.mjs';
import { valueRow } from './lib/row.mjs';
import { listTree, verifySameTree } from './lib/trees.mjs';

const FILES = 120_000;
const MAX_BYTES = 200e6;

/** @typedef {import('./lib/context.mjs').Context} Context */

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  const corpus = context.corpus();
  const trees = Array.from({ length: Math.ceil(FILES / corpus.files) }, (_, i) => {
    context.progress(`mount-memory: tree ${i + 1}`);
    return differingCopy(context, i);
  });
  const home = context.fresh('home');
  const roots = trees.map((tree) => importRoot(home, tree));
  using stack = new DisposableStack();
  startDaemon(stack, home);
  const pid = JSON.parse(run(lazytree(home, 'daemon', 'status', '--json'))).pid;
  const targets = roots.map((root) => {
    const target = context.fresh('mnt');
    run(lazytree(home, 'mount', root, target));
    stack.defer(() => void run(lazytree(home, 'unmount', target)));
    return target;
  });
  for (const target of targets) {
    context.progress('mount-memory: reading');
    run({ ...shell('find . -ls > /dev/null; grep -rc needle . > /dev/null || :'), cwd: target });
  }
  const { peak, now } = memoryOf(pid);
  for (const [i, target] of targets.entries()) verifySameTree(trees[i], target);
  const count = `${Math.round((trees.length * corpus.files) / 1000)}K files`;
  yield valueRow(`memory: daemon, at most, ${count} mounted and read`, quantity(peak, 'bytes'), {
    max: MAX_BYTES,
  });
  yield valueRow(`memory: daemon, afterwards, ${count} mounted and read`, quantity(now, 'bytes'));
}

/**
 * None of its files has content that another copy has, too.
 * @param {Context} context
 * @param {number} number
 */
function differingCopy(context, number) {
  const tree = copyCorpus(context.corpus(), join(context.fresh('copy'), 'tree'));
  for (const { path, kind } of listTree(tree)) {
    if (kind === 'file' || kind === 'executable') appendFileSync(join(tree, path), `${number}\n`);
  }
  return tree;
}

/** @param {number} pid */
function memoryOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (/** @type {string} */ name) =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
  return { peak: bytes('VmHWM'), now: bytes('VmRSS') };
}
