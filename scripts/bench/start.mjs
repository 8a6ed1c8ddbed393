// How long a command takes that has next to nothing to do.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OURS } from './lib/alternate.mjs';
import { run, timed, VerificationError } from './lib/command.mjs';
import { importRoot, lazytree } from './lib/lazytree.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { valueRow } from './lib/row.mjs';

const STARTS = 20;
const MAX_VERSION_MS = 100;
const MAX_LS_MS = 120;
const NODE = 'node -e 0';

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  context.progress('start-up');
  const home = context.fresh('home');
  const root = importRoot(home, smallTree(context.fresh('tree')));
  yield startRow('start: lazytree --version', lazytree(home, '--version'), /^\d+\.\d+\.\d+/, MAX_VERSION_MS);
  yield startRow('start: ls of a small tree', lazytree(home, 'ls', root), /^a\nb\nsub\/\n$/, MAX_LS_MS);
}

/** @param {string} directory */
function smallTree(directory) {
  mkdirSync(join(directory, 'sub'));
  for (const name of ['a', 'b', 'sub/c']) writeFileSync(join(directory, name), `${name}\n`);
  return directory;
}

/**
 * @param {string} item
 * @param {import('./lib/command.mjs').Command} command
 * @param {RegExp} expected
 * @param {number} max milliseconds
 */
function startRow(item, command, expected, max) {
  const node = { argv: [process.execPath, '-e', '0'] };
  run(command);
  run(node);
  /** @type {number[]} */
  const ours = [];
  /** @type {number[]} */
  const bare = [];
  for (let i = 0; i < STARTS; i++) {
    const { seconds, stdout } = timed(command);
    if (!expected.test(stdout)) throw new VerificationError(`${command.argv.join(' ')} printed ${stdout}`);
    ours.push(seconds);
    bare.push(timed(node).seconds);
  }
  return valueRow(item, quantity(median(ours), 'ms'), {
    max,
    peers: [{ name: NODE, quantity: quantity(median(bare), 'ms'), ratio: median(ours) / median(bare) }],
    samples: { [OURS]: ours, [NODE]: bare },
  });
}
