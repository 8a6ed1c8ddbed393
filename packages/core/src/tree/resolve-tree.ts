import { LazytreeError, OfflineError } from '../errors.js';
import { encodeDirectory } from '../format/directory-node.js';
import type { DirectoryEntry, Entry } from '../format/entry.js';
import { MAX_TREE_DEPTH } from '../format/limits.js';
import type { Link } from '../format/link.js';
import type { BlockSource, BlockStore, StoreOptions } from '../store/block-store.js';
import { listDirectory, readNode } from './directory.js';
import { type PlainEntry, resolveEntry } from './resolve-entry.js';

export interface ResolveTreeOptions extends StoreOptions {
  /** Told of each origin entry that has been resolved. */
  onResolved?: (path: string) => void;
}

/**
 * The tree in which every origin entry is what it stands for, also those that were found in another's content. All those
 * of a directory are resolved side by side. The caller holds a lease, and flushes the store.
 *
 * @param source knows of origins
 * @param store gets the nodes that are new
 * @throws LazytreeError as `resolveOrigin`; of several OfflineErrors one that names all that is missing
 */
export async function resolveTreeOrigins(
  source: BlockSource,
  store: Pick<BlockStore, 'put'>,
  root: Link,
  options: ResolveTreeOptions = {},
): Promise<DirectoryEntry> {
  const done = new Map<Link, Promise<DirectoryEntry>>();
  const { signal, onResolved } = options;
  const offline: OfflineError[] = [];
  const { size, files } = await readNode(source, root, options);
  const resolved = await directory({ kind: 'directory', name: '', link: root, size, files }, '', 0);
  if (offline.length === 1) throw offline[0];
  if (offline.length > 1)
    throw new OfflineError([...new Set(offline.flatMap(({ missing }) => missing))].sort());
  return resolved;

  function directory(entry: DirectoryEntry, path: string, depth: number): Promise<DirectoryEntry> {
    const known = done.get(entry.link);
    const result = known ?? inside(entry, path, depth);
    if (!known) done.set(entry.link, result);
    return result.then(({ link, size, files }) => ({ ...entry, link, size, files }));
  }

  async function inside(entry: DirectoryEntry, path: string, depth: number): Promise<DirectoryEntry> {
    signal?.throwIfAborted();
    if (depth > MAX_TREE_DEPTH) throw new LazytreeError('UNSUPPORTED', `'${path}' is too deep`);
    const entries = await listDirectory(source, entry.link, options);
    const plain: Entry[] = new Array(entries.length);
    const tasks: Promise<void>[] = [];
    const failed: unknown[] = [];
    const take = async (i: number, made: Promise<Entry>) => {
      await made.then(
        (item) => {
          plain[i] = item;
        },
        (error: unknown) => failed.push(error),
      );
    };
    // Directories in turn: those that are here are many, and wait for nobody.
    for (let i = 0; i < entries.length; i++) {
      const item = entries[i];
      const below = path === '' ? item.name : `${path}/${item.name}`;
      if (item.kind === 'origin') tasks.push(take(i, origin(item, below, depth)));
      else plain[i] = item.kind === 'directory' ? await directory(item, below, depth + 1) : item;
    }
    await Promise.all(tasks);
    if (failed.length > 0) throw failed[0];
    if (plain.every((item, i) => item === entries[i] || sameLink(item, entries[i]))) return entry;
    const { nodes, link, size, files } = encodeDirectory(plain);
    for (const node of nodes) await store.put(node, options);
    return { ...entry, link, size, files };
  }

  async function origin(entry: Entry & { kind: 'origin' }, path: string, depth: number): Promise<Entry> {
    let found: PlainEntry;
    try {
      found = await resolveEntry(source, entry, path, options);
    } catch (error) {
      if (!(error instanceof OfflineError)) throw error;
      offline.push(error);
      return entry;
    }
    onResolved?.(path);
    return found.kind === 'directory' ? directory(found, path, depth + 1) : found;
  }
}

/**
 * Finds out, before anything is made of a tree, whether all that its origins stand for can be had.
 *
 * @throws LazytreeError as `resolveTreeOrigins`
 */
export async function checkTreeOrigins(
  source: BlockSource,
  root: Link,
  options: StoreOptions,
): Promise<void> {
  await resolveTreeOrigins(source, { async put() {} }, root, options);
}

function sameLink(a: Entry, b: Entry): boolean {
  return a.kind === 'directory' && b.kind === 'directory' && a.link === b.link;
}
