import { InvalidNodeError } from '../errors.js';
import {
  type DirectoryIndex,
  type DirectoryNode,
  decodeDirectoryNode,
  type Shard,
} from '../format/directory-node.js';
import type { DirectoryEntry, Entry } from '../format/entry.js';
import { formatLink, type Link } from '../format/link.js';
import { compareNames } from '../format/name.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';

/** A directory's entries in order of name, shard after shard. */
export async function* readDirectory(
  store: BlockSource,
  link: Link,
  options?: StoreOptions,
): AsyncGenerator<Entry> {
  const node = await readNode(store, link, options);
  if (node.kind === 'leaf') yield* node.entries;
  else for (const shard of node.shards) yield* readShard(store, { parent: node, shard }, options);
}

/** All of a directory's entries at once. */
export async function listDirectory(
  store: BlockSource,
  link: Link,
  options?: StoreOptions,
): Promise<Entry[]> {
  const node = await readNode(store, link, options);
  if (node.kind === 'leaf') return node.entries;
  const entries: Entry[] = [];
  for await (const entry of readDirectory(store, link, options)) entries.push(entry);
  return entries;
}

/** One entry, reading only the shards that lead to it. */
export async function findEntry(
  store: BlockSource,
  link: Link,
  name: string,
  options?: StoreOptions,
): Promise<Entry | undefined> {
  let node: DirectoryNode = await readNode(store, link, options);
  let before: string | undefined;
  while (node.kind === 'index') {
    let candidate: Shard | undefined;
    for (const shard of node.shards) {
      if (compareNames(shard.first, name) > 0) break;
      candidate = shard;
    }
    if (!candidate) return undefined;
    const place: ShardPlace = { parent: node, shard: candidate, before };
    before = shardBound(place);
    node = await readShardNode(store, place, options);
  }
  return node.entries.find((entry) => entry.name === name);
}

export async function readNode(store: BlockSource, link: Link, options?: StoreOptions) {
  const bytes = await store.get(link, options);
  try {
    return decodeDirectoryNode(bytes);
  } catch (error) {
    if (error instanceof InvalidNodeError)
      throw new InvalidNodeError(`${formatLink(link)}: ${error.message}`);
    throw error;
  }
}

/** A shard, the index that it is in, and the name that all of that index comes before, if there is one. */
export interface ShardPlace {
  parent: DirectoryIndex;
  shard: Shard;
  before?: string | undefined;
}

/** The name that everything in a shard comes before: the first of the next one, here or above. */
export function shardBound({ parent, shard, before }: ShardPlace): string | undefined {
  return parent.shards[parent.shards.indexOf(shard) + 1]?.first ?? before;
}

/** Reads a shard and checks it; see {@link checkShard}. */
export async function readShardNode(store: BlockSource, place: ShardPlace, options?: StoreOptions) {
  const node = await readNode(store, place.shard.link, options);
  checkShard(place, node);
  return node;
}

/**
 * Checks a shard against what the index above says of it: levels fall, so there is no cycle, and names stay below
 * those of the next shard, so none comes twice.
 *
 * @throws InvalidNodeError
 */
export function checkShard(place: ShardPlace, node: DirectoryNode): void {
  const { parent, shard } = place;
  const level = node.kind === 'leaf' ? 0 : node.level;
  const names =
    node.kind === 'leaf' ? node.entries.map(({ name }) => name) : node.shards.map(({ first }) => first);
  const count =
    node.kind === 'leaf' ? names.length : node.shards.reduce((sum, below) => sum + below.count, 0);
  const agrees =
    level === parent.level - 1 &&
    names[0] === shard.first &&
    count === shard.count &&
    node.size === shard.size &&
    node.files === shard.files;
  if (!agrees)
    throw new InvalidNodeError(`${formatLink(shard.link)}: a shard that is not what its index says`);
  const bound = shardBound(place);
  if (bound !== undefined && compareNames(names[names.length - 1], bound) >= 0) {
    throw new InvalidNodeError(`${formatLink(shard.link)}: a shard that overlaps the next one`);
  }
}

async function* readShard(
  store: BlockSource,
  place: ShardPlace,
  options?: StoreOptions,
): AsyncGenerator<Entry> {
  const node = await readShardNode(store, place, options);
  if (node.kind === 'leaf') {
    yield* node.entries;
    return;
  }
  const before = shardBound(place);
  for (const shard of node.shards) yield* readShard(store, { parent: node, shard, before }, options);
}

/** @throws InvalidNodeError when a directory is not what the entry above says */
export function checkDirectory(entry: DirectoryEntry, { size, files }: DirectoryNode): void {
  if (entry.size === size && entry.files === files) return;
  throw new InvalidNodeError(
    `'${entry.name}' (${formatLink(entry.link)}): totals that are not those of its entry`,
  );
}
