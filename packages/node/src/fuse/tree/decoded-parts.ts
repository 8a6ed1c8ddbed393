import type { Entry } from '@lazytree/core';
import { MissingBlocks, type ReadBlock } from './blocks.js';
import type { Part } from './listing.js';

/** Entries that are kept decoded; some 200 bytes each. What is beyond is decoded again from the store. */
const ENTRIES = 32_768;

/** The entries of parts, the most recently used of which are kept. */
export interface DecodedParts {
  /** @throws MissingBlocks, InvalidNodeError */
  entries(part: Part): readonly Entry[];
  /** Those of a part that has been wanted before, or undefined: nothing is fetched for it. @throws InvalidNodeError */
  known(part: Part): readonly Entry[] | undefined;
}

export function createDecodedParts(read: ReadBlock): DecodedParts {
  const kept = new Map<Part, readonly Entry[]>();
  let count = 0;
  /** Asked for again and again while its entries are gone through. */
  let latest: { part: Part; entries: readonly Entry[] } | undefined;

  function find(part: Part): readonly Entry[] {
    let entries = kept.get(part);
    if (entries) {
      // A map is in the order of insertion: with many kept, those in use are not to be the first to go.
      if (count > ENTRIES / 2) {
        kept.delete(part);
        kept.set(part, entries);
      }
      return entries;
    }
    entries = part.decode(read);
    kept.set(part, entries);
    count += entries.length;
    for (const [oldest, { length }] of kept) {
      if (count <= ENTRIES || oldest === part) break;
      kept.delete(oldest);
      count -= length;
    }
    return entries;
  }

  function entries(part: Part): readonly Entry[] {
    if (latest?.part !== part) latest = { part, entries: find(part) };
    return latest.entries;
  }

  return {
    entries,
    known(part) {
      if (!part.loaded) return undefined;
      try {
        return entries(part);
      } catch (error) {
        if (error instanceof MissingBlocks) return undefined;
        throw error;
      }
    },
  };
}
