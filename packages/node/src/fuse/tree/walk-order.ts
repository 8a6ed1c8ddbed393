import type { DecodedParts } from './decoded-parts.js';
import { partAt } from './listing.js';
import type { Directory, Nodes } from './nodes.js';

/** Entries that are looked at for the next directory; beyond these nobody is likely to wait for the answer. */
const MOST_ENTRIES = 4096;
/** So few are quicker gone through than entries. */
const FEW = 32;

export interface WalkOrderOptions {
  nodes: Nodes;
  parts: DecodedParts;
}

/** The order in which a walk comes to the directories that have been listed: each before what is beside it. */
export function createWalkOrder({ nodes, parts }: WalkOrderOptions) {
  /** The first directory in one from `position` on, of those that the kernel knows. Fetches nothing. */
  function firstFrom({ children, content }: Directory, position: number): Directory | undefined {
    if (!children) return undefined;
    const listing = content?.listing;
    if (!listing || children.size <= FEW) {
      let first = Number.POSITIVE_INFINITY;
      for (const at of children.keys()) if (at >= position && at < first) first = at;
      const id = children.get(first);
      return id === undefined ? undefined : nodes.directory(id);
    }
    const end = Math.min(listing.count, position + MOST_ENTRIES);
    for (let at = position; at < end; ) {
      const part = partAt(listing, at);
      const entries = parts.known(part);
      if (!entries) return undefined;
      for (const stop = Math.min(end, part.start + part.count); at < stop; at++) {
        const { kind } = entries[at - part.start];
        if (kind !== 'directory' && kind !== 'origin') continue;
        const id = children.get(at);
        if (id !== undefined) return nodes.directory(id);
      }
    }
    return undefined;
  }

  /** The directory that a walk comes to after `directory`. */
  return function after(directory: Directory): Directory | undefined {
    const below = firstFrom(directory, 0);
    if (below) return below;
    for (let at = directory; at.parent; at = at.parent) {
      const beside = firstFrom(at.parent, at.position + 1);
      if (beside) return beside;
    }
    return undefined;
  };
}
