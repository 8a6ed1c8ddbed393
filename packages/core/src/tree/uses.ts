import { isMissing, LazytreeError } from '../errors.js';
import type { DirectoryNode } from '../format/directory-node.js';
import { type DirectoryEntry, isFile } from '../format/entry.js';
import { decodeFileNode } from '../format/file-node.js';
import { type Link, linkCodec, linkDigest, RAW } from '../format/link.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { checkDirectory, readNode, readShardNode, shardBound } from './directory.js';

export interface NamedRoot {
  link: Link;
  name: string;
}

/** A path that needs a block: a file for content, a directory (with all below it) for a node. */
export interface Use {
  /** The ref or root that the path is in. */
  tree: string;
  path: string;
}

export interface UsedBlock {
  link: Link;
  uses: Use[];
}

export interface Uses {
  /** By digest: blocks of the set asked for, and those found unreadable on the way. */
  uses: Map<string, UsedBlock>;
  /** By digest: blocks that are reachable and not in the store. */
  missing: Map<string, UsedBlock>;
}

export interface FindUsesOptions extends StoreOptions {
  /** Read the content of files too, not just ask for its presence. */
  readContent?: boolean;
}

/**
 * Where in `roots` the blocks in `wanted` are used, and which blocks are missing. Subtrees known to be clean are
 * entered once.
 */
export async function findUses(
  store: BlockSource,
  roots: readonly NamedRoot[],
  wanted: ReadonlySet<string>,
  options: FindUsesOptions = {},
): Promise<Uses> {
  const found: Uses = { uses: new Map(), missing: new Map() };
  const clean = new Set<Link>();
  const { signal, readContent = false } = options;

  function note(table: Map<string, UsedBlock>, link: Link, use: Use): false {
    const block = table.get(linkDigest(link)) ?? { link, uses: [] };
    block.uses.push(use);
    table.set(linkDigest(link), block);
    return false;
  }

  /** Returns whether all is well at and below `link`; visits what `children` makes of it. */
  async function visit(link: Link, use: Use, children: () => Promise<boolean>): Promise<boolean> {
    signal?.throwIfAborted();
    if (clean.has(link)) return true;
    if (wanted.has(linkDigest(link))) return note(found.uses, link, use);
    try {
      const well = await children();
      if (well) clean.add(link);
      return well;
    } catch (error) {
      if (isMissing(error)) return note(found.missing, link, use);
      if (error instanceof LazytreeError && isUnreadable(error)) return note(found.uses, link, use);
      throw error;
    }
  }

  function directory(link: Link, use: Use, entry?: DirectoryEntry): Promise<boolean> {
    return visit(link, use, async () => {
      const node = await readNode(store, link, options);
      if (entry) checkDirectory(entry, node);
      return below(node, use);
    });
  }

  async function below(node: DirectoryNode, use: Use, before?: string): Promise<boolean> {
    let well = true;
    if (node.kind === 'index') {
      for (const shard of node.shards) {
        const place = { parent: node, shard, before };
        const children = async () =>
          below(await readShardNode(store, place, options), use, shardBound(place));
        well = (await visit(shard.link, use, children)) && well;
      }
      return well;
    }
    for (const entry of node.entries) {
      const inner = { tree: use.tree, path: use.path === '' ? entry.name : `${use.path}/${entry.name}` };
      if (entry.kind === 'directory') well = (await directory(entry.link, inner, entry)) && well;
      else if (isFile(entry)) well = (await file(entry.link, inner)) && well;
      else if (entry.kind === 'origin' && entry.plus) well = (await directory(entry.plus, inner)) && well;
    }
    return well;
  }

  function file(link: Link, use: Use): Promise<boolean> {
    return visit(link, use, async () => {
      if (linkCodec(link) === RAW) {
        if (readContent) await store.get(link, options);
        else if (!(await store.has(link, options))) return note(found.missing, link, use);
        return true;
      }
      let well = true;
      for (const part of decodeFileNode(await store.get(link, options)).parts) {
        well = (await file(part.link, use)) && well;
      }
      return well;
    });
  }

  /** Whether a root is a file's: `pin add TREE/path` pins what is there. */
  async function isFileRoot(link: Link): Promise<boolean> {
    if (linkCodec(link) === RAW) return true;
    try {
      decodeFileNode(await store.get(link, options));
      return true;
    } catch (error) {
      // A directory, or one that cannot be read, which the walk reports.
      if (error instanceof LazytreeError) return false;
      throw error;
    }
  }

  for (const { link, name } of roots) {
    const use = { tree: name, path: '' };
    await ((await isFileRoot(link)) ? file(link, use) : directory(link, use));
  }
  return found;
}

function isUnreadable({ code }: LazytreeError): boolean {
  return code === 'CORRUPT' || code === 'INVALID_NODE';
}
