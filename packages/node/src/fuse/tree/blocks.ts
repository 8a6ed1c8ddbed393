import type { DirectoryEntry, FileEntry, Link, OriginEntry, SharedReader } from '@lazytree/core';
import { CorruptBlockError } from '@lazytree/core';

/** The bytes of a block, valid until `recycle`. @throws MissingBlocks when it has to be fetched first */
export type ReadBlock = (link: Link) => Uint8Array;

/** Thrown by what needs blocks that are not here. It is tried again once they are. */
export class MissingBlocks extends Error {
  readonly links: readonly Link[];
  /** Blocks that are here and not what they should be. */
  readonly corrupt: boolean;

  constructor(links: readonly Link[], corrupt = false) {
    super('blocks that are not here');
    this.links = links;
    this.corrupt = corrupt;
  }
}

/** Thrown by what needs to know what an origin stands for. It is tried again once that is said. */
export class MissingOrigin extends Error {
  readonly entry: OriginEntry;
  /** Takes what the entry stands for. */
  readonly take: (found: DirectoryEntry | FileEntry) => void;

  constructor(entry: OriginEntry, take: (found: DirectoryEntry | FileEntry) => void) {
    super('an origin that is not resolved');
    this.entry = entry;
    this.take = take;
  }
}

const CACHE_BYTES = 8 << 20;

export interface Blocks {
  read: ReadBlock;
  /**
   * Keeps a block for the next that ask for it: one that is used in parts, or has just been fetched. Its bytes are to
   * be the cache's own.
   */
  keep(link: Link, bytes: Uint8Array): void;
  /** Says that what was read so far is not needed any more. */
  recycle(): void;
}

/** Blocks of the local store, with a small cache of those that are likely to be asked for again. */
export function createBlocks(store: SharedReader): Blocks {
  const kept = new Map<Link, Uint8Array>();
  let bytesKept = 0;

  return {
    read(link) {
      const recent = kept.get(link);
      if (recent) return recent;
      let found: Uint8Array | undefined;
      try {
        found = store.get(link);
      } catch (error) {
        if (error instanceof CorruptBlockError) throw new MissingBlocks([link], true);
        throw error;
      }
      if (!found) throw new MissingBlocks([link]);
      return found;
    },
    keep(link, bytes) {
      if (kept.has(link)) return;
      kept.set(link, bytes);
      bytesKept += bytes.length;
      for (const [oldest, { length }] of kept) {
        if (bytesKept <= CACHE_BYTES || oldest === link) break;
        kept.delete(oldest);
        bytesKept -= length;
      }
    },
    recycle: store.recycle,
  };
}
