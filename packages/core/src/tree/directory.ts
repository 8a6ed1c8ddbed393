import { InvalidNodeError } from '../errors.js';
import { type DirectoryIndex, decodeDirectoryNode, type Shard } from '../format/directory-node.js';
import type { Entry } from '../format/entry.js';
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
  else for (const shard of node.shards) yield* readShard(store, node, shard, options);
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
  let node = await readNode(store, link, options);
  while (node.kind === 'index') {
    let candidate: Shard | undefined;
    for (const shard of node.shards) {
      if (compareNames(shard.first, name) > 0) break;
      candidate = shard;
    }
    if (!candidate) return undefined;
    node = await readShardNode(store, node, candidate, options);
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

/** Reads a shard and checks it against what the index above says of it; levels fall, so there is no cycle. */
export async function readShardNode(
  store: BlockSource,
  parent: DirectoryIndex,
  shard: Shard,
  options?: StoreOptions,
) {
  const node = await readNode(store, shard.link, options);
  const level = node.kind === 'leaf' ? 0 : node.level;
  const first = node.kind === 'leaf' ? node.entries[0]?.name : node.shards[0].first;
  const count =
    node.kind === 'leaf' ? node.entries.length : node.shards.reduce((sum, below) => sum + below.count, 0);
  const agrees =
    level === parent.level - 1 &&
    first === shard.first &&
    count === shard.count &&
    node.size === shard.size &&
    node.files === shard.files;
  if (!agrees)
    throw new InvalidNodeError(`${formatLink(shard.link)}: a shard that is not what its index says`);
  return node;
}

async function* readShard(
  store: BlockSource,
  parent: DirectoryIndex,
  shard: Shard,
  options?: StoreOptions,
): AsyncGenerator<Entry> {
  const node = await readShardNode(store, parent, shard, options);
  if (node.kind === 'leaf') yield* checkRange(parent, shard, node.entries);
  else for (const below of node.shards) yield* readShard(store, node, below, options);
}

/** Entries of a shard lie below the first entry of the next one, so that no name comes twice. */
function checkRange(parent: DirectoryIndex, shard: Shard, entries: Entry[]): Entry[] {
  const next = parent.shards[parent.shards.indexOf(shard) + 1];
  const last = entries.at(-1);
  if (next && last && compareNames(last.name, next.first) >= 0) {
    throw new InvalidNodeError(`${formatLink(shard.link)}: a shard that overlaps the next one`);
  }
  return entries;
}
