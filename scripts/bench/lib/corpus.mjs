// The workspace that is imported, exported and packed: ../shared/corpus/react with its dependencies installed.
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './command.mjs';
import { listTree, readTree } from './trees.mjs';

/**
 * @typedef {object} Corpus
 * @property {string} path never written to: whoever changes something works on a copy
 * @property {number} bytes content of all files
 * @property {number} files regular files
 * @property {number} symlinks
 * @property {number} directories the top one not counted
 */

const DEFAULT = fileURLToPath(new URL('../../../../shared/corpus/react', import.meta.url));

/** What makes a corpus of an empty directory. */
export const MANIFESTS = ['package.json', 'package-lock.json'];
export const NPM_CI = ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund'];

/** Where the manifests are. */
export function corpusSource() {
  return resolve(process.env.LAZYTREE_BENCH_CORPUS || DEFAULT);
}

/**
 * @param {string} cache directory that stays from run to run
 * @returns {Corpus} with all of it in the page cache
 */
export function openCorpus(cache) {
  const path = install(corpusSource(), cache);
  readTree(path);
  const entries = listTree(path);
  const count = (/** @type {string[]} */ ...kinds) =>
    entries.filter(({ kind }) => kinds.includes(kind)).length;
  return {
    path,
    bytes: entries.reduce((sum, { size }) => sum + size, 0),
    files: count('file', 'executable'),
    symlinks: count('symlink'),
    directories: count('directory'),
  };
}

/**
 * @param {string} source
 * @param {string} cache
 */
function install(source, cache) {
  const version = createHash('sha256');
  for (const name of MANIFESTS) version.update(readFileSync(join(source, name)));
  const corpus = join(cache, `corpus-${version.digest('hex').slice(0, 12)}`);
  if (existsSync(corpus)) return corpus;
  const draft = `${corpus}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  for (const name of MANIFESTS) copyFileSync(join(source, name), join(draft, name));
  run({ argv: NPM_CI, cwd: draft });
  renameSync(draft, corpus);
  return corpus;
}

/**
 * A copy with every timestamp kept, and in the page cache.
 * @param {Corpus} corpus
 * @param {string} target a new directory
 */
export function copyCorpus({ path }, target) {
  run({ argv: ['cp', '-a', path, target] });
  readTree(target);
  return target;
}
