import { InvalidNodeError } from '../errors.js';
import type { DirectoryNode } from '../format/directory-node.js';
import type { Entry } from '../format/entry.js';
import type { Link } from '../format/link.js';
import { compareNames } from '../format/name.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { readNode, readShardNode, type ShardPlace, shardBound } from './directory.js';
import { resolveEntry } from './resolve-entry.js';
import { walkTree } from './walk.js';

export interface Change {
  path: string;
  /** `type`: the path changed its kind; a file that only became executable is `modified`. */
  change: 'added' | 'removed' | 'modified' | 'type';
  from?: Entry;
  to?: Entry;
}

/**
 * What has to happen to `from` for it to become `to`, in order of path. Reads only what differs: subtrees and
 * shards with one CID are never opened.
 */
export async function* diffTrees(
  store: BlockSource,
  from: Link,
  to: Link,
  options: StoreOptions = {},
): AsyncGenerator<Change> {
  yield* diffDirectories(store, from, to, '', options);
}

async function* diffDirectories(
  store: BlockSource,
  from: Link,
  to: Link,
  prefix: string,
  options: StoreOptions,
): AsyncGenerator<Change> {
  if (from === to) return;
  const [before, after] = await differingEntries(store, from, to, options);
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    const a = before[i];
    const b = after[j];
    const order = a && b ? compareNames(a.name, b.name) : a ? -1 : 1;
    if (order <= 0) i += 1;
    if (order >= 0) j += 1;
    if (order < 0) yield* whole(store, 'removed', prefix, a, options);
    else if (order > 0) yield* whole(store, 'added', prefix, b, options);
    else yield* diffEntries(store, a, b, prefix + a.name, options);
  }
}

async function* diffEntries(
  store: BlockSource,
  a: Entry,
  b: Entry,
  path: string,
  options: StoreOptions,
): AsyncGenerator<Change> {
  if (isToResolve(store, a, b)) {
    const [from, to] = await Promise.all([a, b].map((entry) => resolveEntry(store, entry, path, options)));
    yield* diffEntries(store, from, to, path, options);
  } else if (a.kind === 'directory' && b.kind === 'directory') {
    if (!sameMetadata(a, b)) yield { path, change: 'modified', from: a, to: b };
    yield* diffDirectories(store, a.link, b.link, `${path}/`, options);
  } else if (!sameEntry(a, b)) {
    yield { path, change: sameType(a, b) ? 'modified' : 'type', from: a, to: b };
    if (a.kind === 'directory') yield* below(store, 'removed', path, a, options);
    if (b.kind === 'directory') yield* below(store, 'added', path, b, options);
  }
}

/** Where origins are known, what they stand for is compared; unless they say the same. */
function isToResolve(store: BlockSource, a: Entry, b: Entry): boolean {
  if (!store.resolveOrigin || (a.kind !== 'origin' && b.kind !== 'origin') || sameEntry(a, b)) return false;
  const [one, other] = [a, b].map((entry) => (entry.kind === 'origin' ? entry.of : entry.kind));
  return (one === 'directory') === (other === 'directory') && one !== 'symlink' && other !== 'symlink';
}

async function* whole(
  store: BlockSource,
  change: 'added' | 'removed',
  prefix: string,
  found: Entry,
  options: StoreOptions,
): AsyncGenerator<Change> {
  const path = prefix + found.name;
  const entry = store.resolveOrigin ? await resolveEntry(store, found, path, options) : found;
  yield change === 'added' ? { path, change, to: entry } : { path, change, from: entry };
  if (entry.kind === 'directory') yield* below(store, change, path, entry, options);
}

async function* below(
  store: BlockSource,
  change: 'added' | 'removed',
  path: string,
  directory: Entry & { link: Link },
  options: StoreOptions,
): AsyncGenerator<Change> {
  const origins = store.resolveOrigin ? 'resolve' : 'list';
  for await (const { path: inner, entry } of walkTree(store, directory.link, { ...options, origins })) {
    const full = `${path}/${inner}`;
    yield change === 'added' ? { path: full, change, to: entry } : { path: full, change, from: entry };
  }
}

function sameType(a: Entry, b: Entry): boolean {
  const type = ({ kind }: Entry) => (kind === 'executable' ? 'file' : kind);
  return type(a) === type(b);
}

function sameMetadata({ metadata: a }: Entry, { metadata: b }: Entry): boolean {
  return a?.mode === b?.mode && a?.seconds === b?.seconds && a?.nanoseconds === b?.nanoseconds;
}

/** Whether two entries of one name say the same. */
export function sameEntry(a: Entry, b: Entry): boolean {
  if (a.kind !== b.kind || !sameMetadata(a, b)) return false;
  if (a.kind === 'symlink') return b.kind === 'symlink' && a.target === b.target;
  if (a.kind === 'origin') {
    return (
      b.kind === 'origin' &&
      a.of === b.of &&
      a.driver === b.driver &&
      a.reference === b.reference &&
      a.integrity === b.integrity &&
      a.plus === b.plus
    );
  }
  return 'link' in b && a.link === b.link;
}

type Lists = [Entry[], Entry[]];

/** The entries of both directories, less those in shards that both have. */
async function differingEntries(
  store: BlockSource,
  from: Link,
  to: Link,
  options: StoreOptions,
): Promise<Lists> {
  const [a, b] = await Promise.all([readNode(store, from, options), readNode(store, to, options)]);
  const [left, right] = [await leaves(store, a), await leaves(store, b)];
  const shared = new Set(left.filter(({ link }) => link).map(({ link }) => link));
  const both = new Set(right.map(({ link }) => link).filter((link) => link && shared.has(link)));

  /** The leaves of an index as they stand in its lowest level, or the one leaf that there is. */
  async function leaves(source: BlockSource, node: DirectoryNode, before?: string): Promise<Leaf[]> {
    if (node.kind === 'leaf') return [{ entries: async () => node.entries }];
    if (node.level === 1) return node.shards.map((shard) => leafOf(source, { parent: node, shard, before }));
    const found: Leaf[] = [];
    for (const shard of node.shards) {
      const place = { parent: node, shard, before };
      found.push(...(await leaves(source, await readShardNode(source, place, options), shardBound(place))));
    }
    return found;
  }

  function leafOf(source: BlockSource, place: ShardPlace): Leaf {
    return {
      link: place.shard.link,
      async entries() {
        const node = await readShardNode(source, place, options);
        if (node.kind === 'index') throw new InvalidNodeError('an index where a leaf belongs');
        return node.entries;
      },
    };
  }

  async function collect(list: Leaf[]): Promise<Entry[]> {
    const entries: Entry[] = [];
    for (const leaf of list) {
      if (leaf.link === undefined || !both.has(leaf.link)) entries.push(...(await leaf.entries()));
    }
    return entries;
  }

  return [await collect(left), await collect(right)];
}

interface Leaf {
  link?: Link;
  entries: () => Promise<Entry[]>;
}
