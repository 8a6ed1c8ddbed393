import { LazytreeError } from '../errors.js';
import { encodeDirectory } from '../format/directory-node.js';
import type { DirectoryEntry, Entry } from '../format/entry.js';
import type { EncodedNode } from '../format/file-node.js';
import { MAX_TREE_DEPTH } from '../format/limits.js';
import { sortByName } from '../format/name.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { listDirectory } from './directory.js';

export interface LayOverOptions extends StoreOptions {
  /** Gets the nodes that the result has and neither of the two may have had. */
  putNodes(nodes: readonly EncodedNode[]): Promise<void>;
}

/**
 * What is seen of a directory when the entries of another one are laid over it: directories of one name are merged,
 * what is over an origin entry is laid over what that will be, and anything else takes the place of what it covers.
 *
 * @param below a directory, or an origin entry of one, which the result then is as well
 */
export async function layOver<T extends Entry>(
  store: BlockSource,
  below: T,
  over: DirectoryEntry,
  options: LayOverOptions,
): Promise<T> {
  return (await lay(below, over, 0)) as T;

  async function lay(lower: Entry, upper: DirectoryEntry, depth: number): Promise<Entry> {
    if (depth > MAX_TREE_DEPTH) throw new LazytreeError('UNSUPPORTED', `'${upper.name}' is too deep`);
    options.signal?.throwIfAborted();
    if (lower.kind === 'origin' && lower.of === 'directory') {
      if (!lower.plus) return { ...lower, plus: upper.link };
      const { link } = await merge(lower.plus, upper, depth);
      return { ...lower, plus: link };
    }
    if (lower.kind !== 'directory') return upper;
    return { ...lower, ...(await merge(lower.link, upper, depth)) };
  }

  async function merge(lower: DirectoryEntry['link'], upper: DirectoryEntry, depth: number) {
    const entries = new Map<string, Entry>();
    for (const entry of await listDirectory(store, lower, options)) entries.set(entry.name, entry);
    for (const entry of await listDirectory(store, upper.link, options)) {
      const covered = entries.get(entry.name);
      const merged = covered && entry.kind === 'directory' ? await lay(covered, entry, depth + 1) : entry;
      entries.set(entry.name, merged);
    }
    const { nodes, link, size, files } = encodeDirectory(sortByName([...entries.values()]));
    await options.putNodes(nodes);
    return { link, size, files };
  }
}
