// Very many small files, looked for and read where they are mounted: what the kernel knows nothing of yet, then what
// it has in its caches.
import { OURS, playRound } from './lib/alternate.mjs';
import { isInstalled, run, shell, VerificationError } from './lib/command.mjs';
import {
  bindfs,
  EXT4,
  ext4,
  lazytreeMount,
  lazytreeWorkspace,
  mountAll,
  OVERLAY,
  onOneProcessor,
  overlay,
  RESTIC_MOUNT,
  resticMount,
  SQUASHFUSE,
  squashfuse,
  WORKSPACE,
} from './lib/file-systems.mjs';
import { importRoot } from './lib/lazytree.mjs';
import { only, timesRow, without } from './lib/row.mjs';
import { verifySameTree } from './lib/trees.mjs';

const FIND = 'find . -ls | wc -l';
const READ = 'find . -type f -print0 | xargs -0 cat > /dev/null';
const GREP = 'grep -r createElement . | wc -l';
const TAR = 'tar cf - . | wc -c';

/** What is warm takes a moment: more of them for a median that holds. */
const WARM_PER_ROUND = 3;
const MAX_WARM = 1.15;

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Times} Times
 * @typedef {import('./lib/file-systems.mjs').FileSystem} FileSystem
 * @typedef {{ name: string, path: string }} Mounted
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  context.progress('mount-files: preparing');
  const { path } = context.corpus();
  const own = ours(context, path);
  const fast = [...own, ...squashfuse(context, path), ...bindfs(path)];
  const all = [...fast, ...resticMount(context, path)];

  const { find, read, alone } = cold(context, all, fast);
  yield timesRow('cold find -ls', without(find, WORKSPACE), { peer: SQUASHFUSE, max: 1 });
  yield timesRow('cold find -ls, workspace', without(find, OURS, RESTIC_MOUNT), { ours: WORKSPACE });
  const readByAll = without(read, WORKSPACE);
  yield timesRow('cold read of everything, after find', without(readByAll, RESTIC_MOUNT), {
    peer: SQUASHFUSE,
    max: 0.8,
  });
  yield timesRow('cold read of everything, after find, against restic', only(readByAll, OURS, RESTIC_MOUNT), {
    peer: RESTIC_MOUNT,
    max: 0.1,
  });
  yield timesRow('cold read of everything, after find, workspace', without(read, OURS, RESTIC_MOUNT), {
    ours: WORKSPACE,
  });
  yield timesRow('cold read of everything, without find', without(alone, WORKSPACE), {
    peer: SQUASHFUSE,
    max: 0.8,
  });

  if (isInstalled('taskset')) {
    const pinned = coldOnOneProcessor(
      context,
      fast.filter(({ name }) => name === OURS || name === SQUASHFUSE),
    );
    yield timesRow('cold find -ls, on one processor', pinned.find);
    yield timesRow('cold read of everything, after find, on one processor', pinned.read);
  }

  for (const [label, times] of warm(context, [ext4(path), overlay(context, path), ...fast])) {
    yield timesRow(`warm ${label}, mount`, without(times, WORKSPACE, OVERLAY), {
      peer: EXT4,
      max: MAX_WARM,
    });
    yield timesRow(`warm ${label}, workspace`, only(times, WORKSPACE, EXT4, OVERLAY), {
      ours: WORKSPACE,
      peer: EXT4,
      max: MAX_WARM,
    });
  }
}

/**
 * @param {Context} context
 * @param {string} tree
 * @returns {FileSystem[]} each with a home of its own: one has a daemon while the other starts one
 */
function ours(context, tree) {
  const mountHome = context.fresh('home');
  const workspaceHome = context.fresh('home');
  return [
    lazytreeMount(mountHome, importRoot(mountHome, tree)),
    lazytreeWorkspace(workspaceHome, importRoot(workspaceHome, tree)),
  ];
}

/**
 * @param {Context} context
 * @param {FileSystem[]} all
 * @param {FileSystem[]} fast those that also read without having looked before
 */
function cold(context, all, fast) {
  /** @type {Record<'find' | 'read' | 'alone', Times>} */
  const times = { find: new Map(), read: new Map(), alone: new Map() };
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`cold, round ${round + 1} of ${context.rounds}`);
    {
      using stack = new DisposableStack();
      const mounted = mountAll(context, all, { stack });
      play(times.find, { script: FIND, mounted, round, verify: expectEntries(context) });
      play(times.read, { script: READ, mounted, round });
      if (round === context.rounds - 1) verifyAll(context, mounted);
    }
    using stack = new DisposableStack();
    play(times.alone, { script: READ, mounted: mountAll(context, fast, { stack }), round });
  }
  return times;
}

/**
 * @param {Context} context
 * @param {FileSystem[]} systems
 */
function coldOnOneProcessor(context, systems) {
  /** @type {Record<'find' | 'read', Times>} */
  const times = { find: new Map(), read: new Map() };
  const wrap = onOneProcessor;
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`cold on one processor, round ${round + 1} of ${context.rounds}`);
    using stack = new DisposableStack();
    const mounted = mountAll(context, systems, { stack, wrap });
    play(times.find, { script: FIND, mounted, round, verify: expectEntries(context), wrap });
    play(times.read, { script: READ, mounted, round, wrap });
    if (round === context.rounds - 1) verifyAll(context, mounted);
  }
  return times;
}

/**
 * @param {Context} context
 * @param {FileSystem[]} systems the first is the one whose output is right
 * @returns {Map<string, Times>} by what was done
 */
function warm(context, systems) {
  using stack = new DisposableStack();
  const mounted = mountAll(context, systems, { stack });
  const jobs = { find: FIND, 'read of everything': READ, 'grep -r': GREP, 'tar c': TAR };
  /** @type {Map<string, Times>} */
  const result = new Map();
  for (const [label, script] of Object.entries(jobs)) {
    const expected = run({ ...shell(script), cwd: mounted[0].path });
    const verify = (/** @type {string} */ stdout) => expectOutput(label, stdout, expected);
    /** @type {Times} */
    const times = new Map();
    for (let round = 0; round < context.rounds * WARM_PER_ROUND; round++) {
      context.progress(`warm ${label}, round ${round + 1} of ${context.rounds * WARM_PER_ROUND}`);
      play(times, { script, mounted, round, verify, again: true });
    }
    result.set(label, times);
  }
  verifyAll(context, mounted.slice(1));
  return result;
}

/**
 * @param {Times} times gets the results
 * @param {{ script: string, mounted: Mounted[], round: number, verify?: (stdout: string) => void,
 * wrap?: import('./lib/file-systems.mjs').Wrap, again?: boolean }} job `again` when it has to have been done just before:
 * what was read a while ago may be gone from the page cache
 */
function play(times, { script, mounted, round, verify, wrap = (command) => command, again = false }) {
  const entries = mounted.map(({ name, path }) => {
    const command = wrap({ ...shell(script), cwd: path });
    return { name, command, verify, before: () => again && void run(command) };
  });
  playRound(times, entries, round);
}

/**
 * @param {Context} context
 * @returns {(stdout: string) => void}
 */
function expectEntries(context) {
  const { files, symlinks, directories } = context.corpus();
  return (stdout) => expectOutput('find', stdout, String(files + symlinks + directories + 1));
}

/**
 * @param {string} what
 * @param {string} stdout
 * @param {string} expected
 */
function expectOutput(what, stdout, expected) {
  if (stdout.trim() !== expected.trim())
    throw new VerificationError(`${what} printed ${stdout.trim()} and has to print ${expected.trim()}`);
}

/**
 * @param {Context} context
 * @param {Mounted[]} mounted
 */
function verifyAll(context, mounted) {
  for (const { name, path } of mounted) {
    context.progress(`verifying ${name}`);
    verifySameTree(context.corpus().path, path);
  }
}
