// The most memory that an import ever holds, of one large file and of very many small ones.
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './lib/command.mjs';
import { lazytree, reportingRss, rootIn } from './lib/lazytree.mjs';
import { isBig, largeFile, smallFiles } from './lib/made.mjs';
import { quantity } from './lib/numbers.mjs';
import { randomBytes } from './lib/random.mjs';
import { valueRow } from './lib/row.mjs';

const MAX_BYTES = 300e6;
const GIGABYTE = 1e9;

/** @typedef {import('./lib/context.mjs').Context} Context */

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  const big = isBig();
  const note = big ? undefined : 'with LAZYTREE_BENCH_BIG=1 memory is measured with 10 GB and 1M files';
  const gigabytes = big ? 10 : 1;
  context.progress(`memory: a file of ${gigabytes} GB`);
  const large = context.fresh('large');
  largeFile(join(large, 'large'), gigabytes * GIGABYTE, randomBytes(2));
  yield row(`memory: import of a ${gigabytes} GB file`, await peakRss(context, large), note);
  rmSync(large, { recursive: true });

  const directories = big ? 1000 : 100;
  const files = `${directories}K files`;
  context.progress(`memory: ${files}`);
  const small = smallFiles(context.fresh('small'), directories);
  yield row(`memory: import of ${files}`, await peakRss(context, small), note);
}

/**
 * @param {string} item
 * @param {number} bytes
 * @param {string} [note]
 */
function row(item, bytes, note) {
  return valueRow(item, quantity(bytes, 'bytes'), { max: MAX_BYTES, note });
}

/**
 * Removes what was imported where that is few and large files.
 * @param {Context} context
 * @param {string} tree
 */
async function peakRss(context, tree) {
  const directory = context.fresh('home');
  const home = join(directory, 'home');
  const report = join(directory, 'rss');
  const root = rootIn(run(reportingRss(lazytree(home, 'import', tree), report)));
  context.progress('memory: verifying');
  run(lazytree(home, 'verify', root));
  rmSync(home, { recursive: true });
  return Number(await readFile(report, 'utf8'));
}
