import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core/errors';
import type { OriginContext, OriginDriver } from '../driver.js';
import { atExisting, isFileAt } from '../readings.js';
import { createIntegrityCheck } from './integrity.js';
import { writeLockTree } from './lock-tree.js';
import { ofOthers, readLockfile } from './lockfile.js';
import { readNpmConfig } from './npm-config.js';
import { formatNpmLockReference, forThisMachine, parseNpmLockReference } from './npm-lock-reference.js';
import { startPackageThreads } from './package-threads.js';

const MAX_LOCKFILE = 256 << 20;
/** After a tree is made, until packages are prepared for. */
const PREPARE_MS = 100;
/** In a directory, in the order in which npm looks for them. */
const NAMES = ['npm-shrinkwrap.json', 'package-lock.json'];
const OTHERS = [
  ['pnpm-lock.yaml', 'pnpm'],
  ['yarn.lock', 'Yarn'],
];

/**
 * The whole node_modules of a lockfile, as `npm ci --ignore-scripts` makes it, with its packages as origin entries:
 * nothing is downloaded.
 */
export const driver: OriginDriver = {
  name: 'npm-lock',
  summary:
    'npm-lock:PATH[?omit=dev], the node_modules of a package-lock.json, as `npm ci --ignore-scripts` makes it',
  // The lockfile is; its packages are not.
  local: true,
  parse: (text, { directory }) => formatNpmLockReference(parseNpmLockReference(text, directory)),
  readings: (text, { directory }) =>
    atExisting(text, (path) => isFileAt(resolve(directory, path)) || hasLockfile(resolve(directory, path))),
  async pin(text, { directory, signal }) {
    signal.throwIfAborted();
    const asked = forThisMachine(parseNpmLockReference(text, directory));
    const { path, content } = await readLock(asked.path);
    return { reference: formatNpmLockReference({ ...asked, path }), integrity: digestOf(content, path) };
  },
  async fetch({ reference, integrity }, context) {
    context.signal.throwIfAborted();
    const asked = forThisMachine(parseNpmLockReference(reference, context.directory));
    const { path, content } = await readLock(asked.path);
    const found = digestOf(content, path, integrity);
    // What fetches the first package is there by the time that somebody looks into one.
    startPackageThreads();
    const tree = context.newTree();
    try {
      const lockfile = readLockfile(content.toString('utf8'), path);
      const notes = await writeLockTree(tree, lockfile, { ...asked, path });
      const entry = await tree.finish();
      prepareForPackages(context);
      return { entry, integrity: found, notes };
    } catch (error) {
      tree.abort();
      throw error;
    }
  },
};

function hasLockfile(directory: string): boolean {
  return NAMES.some((name) => isFileAt(join(directory, name)));
}

/** Loads what packages are fetched with, when whoever waits for the tree has got it. */
function prepareForPackages(context: OriginContext): void {
  const prepare = async () => {
    await Promise.all([import('./npm-driver.js'), readNpmConfig(context)]);
  };
  // Whoever fetches a package meets the same error, and tells of it.
  setTimeout(() => void prepare().catch(() => undefined), PREPARE_MS).unref();
}

async function readLock(path: string): Promise<{ path: string; content: Buffer }> {
  for (const candidate of [path, ...NAMES.map((name) => join(path, name))]) {
    try {
      const content = await readFile(candidate);
      if (content.length > MAX_LOCKFILE) throw new LazytreeError('UNSUPPORTED', `${candidate} is too large`);
      return { path: candidate, content };
    } catch (error) {
      const isDirectory = candidate === path && errnoOf(error) === 'EISDIR';
      const isLacking = candidate !== path && errnoOf(error) === 'ENOENT';
      if (!isDirectory && !isLacking)
        throw lacking(fromSystemError(error, `reading the lockfile ${candidate}`));
    }
  }
  for (const [name, whose] of OTHERS) if (isFileAt(join(path, name))) throw ofOthers(join(path, name), whose);
  throw new LazytreeError('NOT_FOUND', `there is no lockfile of npm in ${path}`, {
    hint: 'name a package-lock.json, or write one with `npm install --package-lock-only`',
  });
}

function lacking(error: Error): Error {
  if (!(error instanceof LazytreeError) || error.code !== 'NOT_FOUND' || error.hint !== undefined)
    return error;
  return new LazytreeError('NOT_FOUND', error.message, {
    cause: error.cause,
    hint: 'name a package-lock.json, or write one with `npm install --package-lock-only`',
  });
}

/** @throws LazytreeError CORRUPT when it has changed since it was looked at */
function digestOf(content: Buffer, path: string, expected?: string): string {
  const check = createIntegrityCheck(expected);
  check.update(content);
  try {
    return check.finish(path);
  } catch (cause) {
    throw new LazytreeError('CORRUPT', `${path} is no longer the lockfile that was meant`, {
      cause,
      hint: 'name it again without its integrity, to take what it is now',
    });
  }
}
