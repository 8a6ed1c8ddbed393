// What is mounted where, and how it is taken away.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const PAUSE_MS = 5;

/**
 * @param {string} path
 * @returns {boolean} whether something is mounted there
 */
export function isMounted(path) {
  return mountPoints().includes(path);
}

/**
 * @param {string} path
 * @param {{ lazy?: boolean }} [options] `lazy` also when it is in use
 */
export function takeAway(path, { lazy = false } = {}) {
  const commands = [
    ['fusermount3', '-u', ...(lazy ? ['-z'] : []), path],
    ['umount', ...(lazy ? ['--lazy'] : []), path],
  ];
  for (const [program, ...args] of commands) {
    if (spawnSync(program, args, { stdio: 'ignore' }).status === 0) return;
  }
  throw new Error(`${path} cannot be unmounted`);
}

/**
 * Takes away all that is mounted below a directory, before somebody removes it together with what is shown there.
 * @param {string} directory
 */
export function takeAwayBelow(directory) {
  const below = mountPoints().filter((path) => path.startsWith(`${directory}/`));
  for (const path of below.reverse()) takeAway(path, { lazy: true });
}

/** Oldest first. */
function mountPoints() {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(' ').slice(4, 5));
}

/**
 * @param {() => boolean} condition
 * @param {{ seconds: number, what: string }} limit
 */
export function waitUntil(condition, { seconds, what }) {
  const end = performance.now() + seconds * 1000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
  }
}

/**
 * @param {number} pid
 * @returns {boolean} whether it has ended, also when nobody has taken note of that yet
 */
export function hasEnded(pid) {
  try {
    return /^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}
