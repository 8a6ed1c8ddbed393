// What is in a directory tree, and whether two of them hold the same.
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import { run, VerificationError } from './command.mjs';

/**
 * @typedef {object} TreeEntry
 * @property {string} path relative to the tree
 * @property {'file' | 'executable' | 'symlink' | 'directory'} kind
 * @property {number} size of a file's content, otherwise 0
 */

/**
 * @param {string} tree
 * @returns {TreeEntry[]} in order of path, without the tree itself
 */
export function listTree(tree) {
  // With types: without them, it goes into directories that symlinks lead to.
  return readdirSync(tree, { recursive: true, withFileTypes: true })
    .map((entry) => treeEntry(tree, relative(tree, join(entry.parentPath, entry.name))))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/**
 * @param {string} tree
 * @param {string} path
 * @returns {TreeEntry}
 */
function treeEntry(tree, path) {
  const stat = lstatSync(join(tree, path));
  if (stat.isDirectory()) return { path, kind: 'directory', size: 0 };
  if (stat.isSymbolicLink()) return { path, kind: 'symlink', size: 0 };
  return { path, kind: stat.mode & 0o100 ? 'executable' : 'file', size: stat.size };
}

/** @param {string} tree with dependencies installed */
export function middleFile(tree) {
  const files = listTree(tree).filter(
    ({ path, kind }) => kind === 'file' && path.startsWith('node_modules/'),
  );
  return files[files.length >> 1].path;
}

/**
 * Reads everything, so that all who come after find it in the page cache.
 * @param {string} tree
 */
export function readTree(tree) {
  for (const { path, kind } of listTree(tree)) {
    if (kind === 'symlink') readlinkSync(join(tree, path));
    else if (kind !== 'directory') readFileSync(join(tree, path));
  }
}

/**
 * @param {string} expected
 * @param {string} actual
 * @throws {VerificationError} when names, kinds, executable bits, content or symlink targets differ
 */
export function verifySameTree(expected, actual) {
  run({ argv: ['diff', '--recursive', '--brief', '--no-dereference', expected, actual] });
  const lines = (/** @type {string} */ tree) => listTree(tree).map(({ path, kind }) => `${kind} ${path}`);
  const found = lines(actual);
  const wrong = lines(expected).find((line, i) => line !== found[i]);
  if (wrong !== undefined) throw new VerificationError(`${actual}: not as in ${expected}: ${wrong}`);
}

/**
 * @param {string} path a file, or a directory whose files count
 * @returns {number} bytes of content
 */
export function contentBytes(path) {
  const stat = lstatSync(path);
  if (!stat.isDirectory()) return stat.size;
  return listTree(path).reduce((sum, { size }) => sum + size, 0);
}
