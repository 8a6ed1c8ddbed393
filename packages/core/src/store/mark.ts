import { isMissing } from '../errors.js';
import type { DirectoryNode } from '../format/directory-node.js';
import { isFile } from '../format/entry.js';
import { decodeFileNode } from '../format/file-node.js';
import { type Link, linkCodec, linkDigest, RAW } from '../format/link.js';
import { readNode, readShardNode, shardBound } from '../tree/directory.js';
import type { BlockSource, StoreOptions } from './block-store.js';
import type { FingerprintSet } from './fingerprint-set.js';

export interface MarkReport {
  /** Blocks that are reachable and not here: an unresolved or partly fetched tree. */
  missing: number;
}

/**
 * Adds every block reachable from `roots` to `marked`.
 *
 * @throws CorruptBlockError or InvalidNodeError for a node that cannot be read, since what is below it is unknown
 */
export async function mark(
  store: BlockSource,
  roots: Iterable<Link>,
  marked: FingerprintSet,
  options: StoreOptions = {},
): Promise<MarkReport> {
  const stack = [...roots].map((link) => ({ link, visit: directoryOrFile }));
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
      else if (entry.kind === 'origin' && entry.plus) stack.push({ link: entry.plus, visit: directory });
    }
  }

  async function file(link: Link): Promise<void> {
    const node = decodeFileNode(await store.get(link, options));
    for (const part of node.parts) stack.push({ link: part.link, visit: file });
  }

  for (let next = stack.pop(); next; next = stack.pop()) {
    const { link, visit } = next;
    if (!marked.add(linkDigest(link)) || linkCodec(link) === RAW) continue;
    try {
      await visit(link);
    } catch (error) {
      if (!isMissing(error)) throw error;
      missing += 1;
    }
  }
  return { missing };
}
