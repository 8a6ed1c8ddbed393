// What every benchmark is given.
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCorpus } from './corpus.mjs';
import { takeAwayBelow } from './mount-points.mjs';

/**
 * @typedef {object} Context
 * @property {number} rounds
 * @property {(label: string) => string} fresh makes a directory that was never used before
 * @property {() => import('./corpus.mjs').Corpus} corpus
 * @property {(line: string) => void} progress
 *
 * @typedef {import('./row.mjs').Row} Row
 * @typedef {(context: Context) => Iterable<Row> | AsyncIterable<Row>} Benchmark
 */

/**
 * @param {{ rounds: number }} options
 * @returns {Context & { close: () => void }}
 */
export function createContext({ rounds }) {
  const cache = join(tmpdir(), 'lazytree-bench');
  const work = join(cache, `run-${process.pid}`);
  let count = 0;
  /** @type {import('./corpus.mjs').Corpus | undefined} */
  let corpus;
  const progress = (/** @type {string} */ line) => void process.stderr.write(`bench: ${line}\n`);
  return {
    rounds,
    progress,
    fresh(label) {
      count += 1;
      const directory = join(work, `${count}-${label}`);
      mkdirSync(directory, { recursive: true });
      return directory;
    },
    corpus() {
      if (corpus) return corpus;
      progress('installing the corpus, unless it is cached, and reading it');
      corpus = openCorpus(cache);
      return corpus;
    },
    close() {
      progress('removing what was written');
      for (const name of existsSync(cache) ? readdirSync(cache) : []) {
        if (!isLeftOver(name)) continue;
        takeAwayBelow(join(cache, name));
        rmSync(join(cache, name), { recursive: true, force: true });
      }
    },
  };
}

/**
 * Whether it belongs to this run or to one that was killed.
 * @param {string} name
 */
function isLeftOver(name) {
  const pid = Number(/^run-(\d+)$/.exec(name)?.[1] ?? /^corpus-[0-9a-f]+\.(\d+)$/.exec(name)?.[1]);
  return pid === process.pid || (pid > 0 && !existsSync(`/proc/${pid}`));
}
