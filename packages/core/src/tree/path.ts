import { LazytreeError } from '../errors.js';
import type { DirectoryEntry, Entry } from '../format/entry.js';
import { decodeFileNode } from '../format/file-node.js';
import { type Link, linkCodec, RAW } from '../format/link.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { findEntry, readNode } from './directory.js';
import { resolveEntry } from './resolve-entry.js';

/** A root as if it were an entry: a directory, or a file when the CID is one's. Its name is empty. */
export async function rootEntry(store: BlockSource, root: Link, options?: StoreOptions): Promise<Entry> {
  if (linkCodec(root) === RAW) {
    const { length } = await store.get(root, options);
    return { kind: 'file', name: '', link: root, size: length };
  }
  try {
    const { size, files } = await readNode(store, root, options);
    return { kind: 'directory', name: '', link: root, size, files };
  } catch (error) {
    const file = await asFile(store, root, options);
    if (file) return file;
    throw error;
  }
}

async function asFile(store: BlockSource, link: Link, options?: StoreOptions): Promise<Entry | undefined> {
  const bytes = await store.get(link, options);
  try {
    return { kind: 'file', name: '', link, size: decodeFileNode(bytes).size };
  } catch {
    // Neither directory nor file: the caller reports why it is no directory.
    return undefined;
  }
}

/**
 * The entry at `path` below `root`. Symlinks are entries like others and are not followed. Origins on the way are
 * resolved; the entry itself may be one.
 *
 * @throws LazytreeError NOT_FOUND, naming the first part that is not there
 */
export async function resolvePath(
  store: BlockSource,
  root: Link,
  path: string,
  options?: StoreOptions,
): Promise<Entry> {
  let entry = await rootEntry(store, root, options);
  let walked = '';
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    entry = await resolveEntry(store, entry, walked, options);
    if (entry.kind !== 'directory') {
      throw new LazytreeError('NOT_FOUND', `'${walked}' is not a directory but a ${entry.kind}`);
    }
    walked = walked === '' ? part : `${walked}/${part}`;
    const found = await findEntry(store, entry.link, part, options);
    if (!found) throw new LazytreeError('NOT_FOUND', `there is no '${walked}' in the tree`);
    entry = found;
  }
  return entry;
}

/** @throws LazytreeError USAGE when the entry is not a directory */
export function asDirectory(entry: Entry, what: string): DirectoryEntry {
  if (entry.kind === 'directory') return entry;
  throw new LazytreeError('USAGE', `'${what}' is a ${entry.kind}, not a directory`);
}
