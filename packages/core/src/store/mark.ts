import { isMissing } from '../errors.js';
import type { DirectoryNode } from '../format/directory-node.js';
import { isFile, type OriginEntry } from '../format/entry.js';
import { decodeFileNode } from '../format/file-node.js';
import { type Link, linkCodec, linkDigest, RAW } from '../format/link.js';
import { readNode, readShardNode, shardBound } from '../tree/directory.js';
import type { BlockSource, StoreOptions } from './block-store.js';
import { resolutionsOf } from './catalog.js';
import { createFingerprintSet } from './fingerprint-set.js';
import type { LocalStore } from './local.js';

export interface Marker {
  /**
   * Marks every block reachable from `roots`.
   *
   * @throws CorruptBlockError or InvalidNodeError for a node that cannot be read, since what is below it is unknown
   */
  mark(roots: Iterable<Link>): Promise<void>;
  /** Marks one block alone. */
  add(link: Link): void;
  /** Whether a block is marked; with a very small probability also for one that is not. */
  has(digest: string): boolean;
  /** Whether everything below a node is marked. */
  hasTree(root: Link): boolean;
  /** Blocks that are reachable and not here: an unresolved or partly fetched tree. */
  readonly missing: number;
}

/**
 * Finds what is reachable. Which nodes were visited is remembered exactly, codec and all: taking one node for
 * another, or content for the node whose bytes it has, would lose what is below. Marks may err, on the side of
 * keeping.
 */
export function createMarker(store: BlockSource, options: StoreOptions = {}): Marker {
  const marked = createFingerprintSet();
  const visited = new Set<Link>();
  let stack: { link: Link; visit: (link: Link) => Promise<void> }[] = [];
  let missing = 0;

  async function directoryOrFile(link: Link): Promise<void> {
    // A root may be a file's: `pin add TREE/path` pins what is there.
    try {
      await directory(link);
    } catch (error) {
      if (isMissing(error)) throw error;
      await file(link).catch(() => {
        throw error;
      });
    }
  }

  async function directory(link: Link): Promise<void> {
    await below(await readNode(store, link, options));
  }

  async function below(node: DirectoryNode, before?: string): Promise<void> {
    if (node.kind === 'index') {
      for (const shard of node.shards) {
        const place = { parent: node, shard, before };
        const visit = async () => below(await readShardNode(store, place, options), shardBound(place));
        stack.push({ link: shard.link, visit });
      }
      return;
    }
    for (const entry of node.entries) {
      if (isFile(entry)) stack.push({ link: entry.link, visit: file });
      else if (entry.kind === 'directory') stack.push({ link: entry.link, visit: directory });
      else if (entry.kind === 'origin') stack.push(...behind(entry));
    }
  }

  /** What is laid over it, and what it is known to stand for: that need not be fetched again. */
  function behind(entry: OriginEntry): typeof stack {
    const plus = entry.plus ? [{ link: entry.plus, visit: directory }] : [];
    const known = 'index' in store ? resolutionsOf(store as LocalStore, entry) : [];
    return [...plus, ...known.map((link) => ({ link, visit: directoryOrFile }))];
  }

  async function file(link: Link): Promise<void> {
    const node = decodeFileNode(await store.get(link, options));
    for (const part of node.parts) stack.push({ link: part.link, visit: file });
  }

  async function visitNext(link: Link, visit: (link: Link) => Promise<void>): Promise<void> {
    marked.add(linkDigest(link));
    if (linkCodec(link) === RAW || visited.has(link)) return;
    visited.add(link);
    try {
      await visit(link);
    } catch (error) {
      if (!isMissing(error)) throw error;
      missing += 1;
    }
  }
  return {
    async mark(roots) {
      stack = [...roots].map((link) => ({ link, visit: directoryOrFile }));
      for (let next = stack.pop(); next; next = stack.pop()) await visitNext(next.link, next.visit);
    },
    add: (link) => void marked.add(linkDigest(link)),
    has: (digest) => marked.has(digest),
    hasTree: (root) => visited.has(root),
    get missing() {
      return missing;
    },
  };
}
