import { createHash } from 'node:crypto';
import { LazytreeError } from '@lazytree/core/errors';
import { isObject } from './lockfile.js';

/** What unpkg says of the files of a package. */
export interface UnpkgListing {
  version: string | undefined;
  files: UnpkgFile[];
}

export interface UnpkgFile {
  /** In the package, without a slash in front. */
  path: string;
  integrity: string | undefined;
}

const MAX_FILES = 200_000;

/** Takes what unpkg has said since 2024, a list, and what it said before, a tree. */
export function readUnpkgListing(value: unknown, what: string): UnpkgListing {
  const files: UnpkgFile[] = [];
  const waiting = [value];
  for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) {
    if (!isObject(item)) continue;
    if (Array.isArray(item.files)) waiting.push(...item.files.slice(0, MAX_FILES));
    else if (typeof item.path === 'string' && item.type !== 'directory') {
      files.push({
        path: item.path.replace(/^\/+/, ''),
        integrity: typeof item.integrity === 'string' ? item.integrity : undefined,
      });
    }
    if (files.length + waiting.length > MAX_FILES)
      throw new LazytreeError('UNSUPPORTED', `${what} has more files than can be fetched one by one`);
  }
  if (!isObject(value) || !Array.isArray(value.files))
    throw new LazytreeError('CORRUPT', `what unpkg says of ${what} is no list of files`, {
      hint: 'look at LAZYTREE_UNPKG_URL, if it is set',
    });
  const version = typeof value.version === 'string' ? value.version : undefined;
  return { version, files: files.sort((a, b) => (a.path < b.path ? -1 : 1)) };
}

/** Stands for the content of files that come one by one, each of which has an integrity. */
export function integrityOf(files: readonly UnpkgFile[]): string {
  const hash = createHash('sha512');
  for (const { path, integrity } of files) hash.update(JSON.stringify([path, integrity ?? null]));
  return `sha512-${hash.digest('base64')}`;
}
