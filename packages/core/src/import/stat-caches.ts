import { hash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errnoOf } from '../errors.js';
import type { Link } from '../format/link.js';
import { nameToBytes } from '../format/name.js';
import { statCacheRoot } from './stat-cache.js';

/**
 * The stat caches of a store live beside its blocks, since they promise that those are there: whoever removes
 * blocks removes the caches that could lead to them.
 */
const DIRECTORY = 'stat';

/** The cache of one directory for one use of it, such as `import` or `export`. */
export function statCacheFile(storeDirectory: string, use: string, path: string): string {
  return join(storeDirectory, DIRECTORY, hash('sha256', nameToBytes(`${use}\0${path}`)));
}

/** Whether {@link pruneStatCaches} sees a cache. */
export function isKeptByGc(storeDirectory: string, file: string): boolean {
  return dirname(resolve(file)) === join(resolve(storeDirectory), DIRECTORY);
}

/** Removes the caches of trees that are not `kept` in full, and what a killed process has left. */
export async function pruneStatCaches(storeDirectory: string, kept: (root: Link) => boolean): Promise<void> {
  const directory = join(storeDirectory, DIRECTORY);
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  for (const name of names) {
    const file = join(directory, name);
    const root = name.endsWith('.tmp') ? undefined : statCacheRoot(file);
    if (root === undefined || !kept(root)) await rm(file, { force: true });
  }
}
