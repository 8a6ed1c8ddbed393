import { LazytreeError } from '../errors.js';
import type { DirectoryEntry, Entry } from '../format/entry.js';
import { MAX_TREE_DEPTH } from '../format/limits.js';
import type { Link } from '../format/link.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { readDirectory } from './directory.js';
import { resolveEntry } from './resolve-entry.js';

export interface WalkedEntry {
  /** Relative to the start of the walk, without a leading slash. */
  path: string;
  entry: Entry;
}

export interface WalkOptions extends StoreOptions {
  /** Whether an origin is an entry like others, or what it stands for. Default: an entry. */
  origins?: 'list' | 'resolve';
  /** Decides whether to go into a directory. Default: always. */
  enter?: (entry: DirectoryEntry, path: string) => boolean;
}

/** Every entry below a directory, parents before children, in order of name. */
export async function* walkTree(
  store: BlockSource,
  link: Link,
  options: WalkOptions = {},
  prefix = '',
  depth = 0,
): AsyncGenerator<WalkedEntry> {
  if (depth > MAX_TREE_DEPTH) throw new LazytreeError('UNSUPPORTED', `'${prefix}' is too deep`);
  for await (const found of readDirectory(store, link, options)) {
    const path = prefix + found.name;
    const entry = options.origins === 'resolve' ? await resolveEntry(store, found, path, options) : found;
    yield { path, entry };
    if (entry.kind === 'directory' && (options.enter?.(entry, path) ?? true)) {
      yield* walkTree(store, entry.link, options, `${path}/`, depth + 1);
    }
  }
}
