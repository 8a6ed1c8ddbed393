import { LazytreeError } from '../errors.js';
import type { Entry, OriginEntry } from '../format/entry.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';

/** An entry that is content, and not the promise of some. */
export type PlainEntry = Exclude<Entry, OriginEntry>;

/**
 * An entry as it is, or what its origin stands for.
 *
 * @param path of the entry, for the error
 * @throws LazytreeError UNSUPPORTED where nobody knows of origins, and what `resolveOrigin` throws
 */
export async function resolveEntry(
  store: BlockSource,
  entry: Entry,
  path: string,
  options?: StoreOptions,
): Promise<PlainEntry> {
  if (entry.kind !== 'origin') return entry;
  if (!store.resolveOrigin) throw unresolvedOrigin(path, entry);
  return store.resolveOrigin(entry, options);
}

/** Whether people would call it a directory. */
export function isDirectoryLike(entry: Entry): boolean {
  return entry.kind === 'directory' || (entry.kind === 'origin' && entry.of === 'directory');
}

export function unresolvedOrigin(path: string, { driver, reference }: OriginEntry): LazytreeError {
  return new LazytreeError(
    'UNSUPPORTED',
    `'${path}' is an origin that is not resolved: ${driver}:${reference}`,
    {
      hint: 'run `lazytree resolve` on the tree',
    },
  );
}
