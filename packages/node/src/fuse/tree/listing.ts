import {
  checkShard,
  compareNames,
  type DirectoryIndex,
  type DirectoryLeaf,
  type DirectoryNode,
  decodeDirectoryNode,
  type Entry,
  formatLink,
  InvalidNodeError,
  type Link,
  type Shard,
  shardBound,
} from '@lazytree/core';
import type { ReadBlock } from './blocks.js';

/** Entries of a directory that lie in one node. */
export interface Part {
  /** Position of its first entry in the directory. */
  start: number;
  count: number;
  /** Name of its first entry; of the first part it does not matter. */
  first: string;
  /** Whether its entries have been wanted so far. */
  loaded: boolean;
  /** Node ids of its files and symlinks, by position in the part; 0 where there is none yet. */
  ids: number[];
  /** Which of its files have been read, if any. */
  read: Uint8Array | undefined;
  decode(read: ReadBlock): Entry[];
}

/** The content of one directory, by position. */
export interface Listing {
  link: Link;
  count: number;
  /** Content bytes and files below. */
  size: number;
  files: number;
  parts: Part[];
}

/** Opens a directory: one block, or the indexes of a large one. */
export function openListing(link: Link, read: ReadBlock): Listing {
  const node = decode(link, read);
  const { size, files } = node;
  if (node.kind === 'leaf') {
    const count = node.entries.length;
    // Who opens a directory wants its entries next.
    let opened: DirectoryLeaf | undefined = node;
    const part = partOf({ start: 0, count, first: '' }, (block) => {
      const first = opened;
      opened = undefined;
      return first ?? (decode(link, block) as DirectoryLeaf);
    });
    return { link, count, size, files, parts: [part] };
  }
  const parts: Part[] = [];
  const count = collectParts(parts, { node, start: 0, before: undefined, read });
  return { link, count, size, files, parts };
}

interface Above {
  node: DirectoryIndex;
  start: number;
  before: string | undefined;
  read: ReadBlock;
}

/** Returns the position after the last entry below `node`. */
function collectParts(parts: Part[], { node, start, before, read }: Above): number {
  let position = start;
  for (const shard of node.shards) {
    const place = { parent: node, shard, before };
    if (node.level === 1) {
      const { first, count } = shard;
      parts.push(partOf({ start: position, count, first }, (block) => leaf(place, block)));
      position += count;
    } else {
      const below = shardNode(place, read) as DirectoryIndex;
      position = collectParts(parts, { node: below, start: position, before: shardBound(place), read });
    }
  }
  return position;
}

interface Place {
  parent: DirectoryIndex;
  shard: Shard;
  before: string | undefined;
}

/** The check has seen to it that the level above a shard decides what it is. */
function leaf(place: Place, read: ReadBlock): DirectoryLeaf {
  return shardNode(place, read) as DirectoryLeaf;
}

function shardNode(place: Place, read: ReadBlock): DirectoryNode {
  const node = decode(place.shard.link, read);
  checkShard(place, node);
  return node;
}

function decode(link: Link, read: ReadBlock): DirectoryNode {
  const bytes = read(link);
  try {
    return decodeDirectoryNode(bytes);
  } catch (error) {
    if (!(error instanceof InvalidNodeError)) throw error;
    throw new InvalidNodeError(`${formatLink(link)}: ${error.message}`);
  }
}

function partOf(
  { start, count, first }: Pick<Part, 'start' | 'count' | 'first'>,
  leafOf: (read: ReadBlock) => DirectoryLeaf,
): Part {
  return {
    start,
    count,
    first,
    loaded: false,
    ids: new Array(count).fill(0),
    read: undefined,
    decode: (read) => leafOf(read).entries,
  };
}

/** The part that holds a position below the listing's count. */
export function partAt({ parts }: Listing, position: number): Part {
  return parts[lastWhere(parts, ({ start }) => start <= position)];
}

/** The position of a name, or -1. */
export function positionOf({ parts }: Listing, name: string, load: (part: Part) => readonly Entry[]): number {
  const part = parts[lastWhere(parts, ({ first }) => first === '' || compareNames(first, name) <= 0)];
  if (!part) return -1;
  const entries = load(part);
  const found = lastWhere(entries, (entry) => compareNames(entry.name, name) <= 0);
  return found >= 0 && entries[found].name === name ? part.start + found : -1;
}

/** The last of the items for which `holds`, which holds for none after one for which it does not; -1 for none. */
function lastWhere<T>(items: readonly T[], holds: (item: T) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(items[middle])) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
