// Data that is made up: one large file, very many small ones.
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const PIECE = 8 << 20;
const PER_DIRECTORY = 1000;

/** Whether there is time for what takes long. */
export function isBig() {
  return process.env.LAZYTREE_BENCH_BIG === '1';
}

/**
 * @param {string} path
 * @param {number} bytes
 * @param {(bytes: number) => Buffer} next the next that many bytes
 */
export function largeFile(path, bytes, next) {
  const file = openSync(path, 'w');
  for (let left = bytes; left > 0; left -= PIECE) writeSync(file, next(Math.min(left, PIECE)));
  closeSync(file);
}

/**
 * @param {string} directory
 * @param {number} directories of a thousand files each
 * @returns {string} the directory
 */
export function smallFiles(directory, directories) {
  for (let d = 0; d < directories; d++) {
    const below = join(directory, `d${d}`);
    mkdirSync(below);
    for (let f = 0; f < PER_DIRECTORY; f++)
      writeFileSync(join(below, `f${f}`), `file ${f} of directory ${d}\n`);
  }
  return directory;
}
