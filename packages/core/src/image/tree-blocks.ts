import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { InvalidNodeError } from '../errors.js';
import { formatLink, type Link, linkCodec, linkDigest, RAW } from '../format/link.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { nodeLinks } from './node-links.js';

/** A node, and the content blocks that no node before it names. */
export interface NodeBlock {
  link: Link;
  bytes: Uint8Array;
  /** Whether no block before had these bytes. */
  isNew: boolean;
  content: Link[];
}

export interface TreeBlocksOptions extends StoreOptions {
  /** What makes two blocks one: the digest, as in stores, or the CID, as elsewhere. */
  distinct: 'digest' | 'cid';
}

const SLICE_MS = 5;

/**
 * Every block of the tree under `root`, each one once, parents before children: of a directory first its small
 * files, then its large ones and its subdirectories, in order of name. Content is named, not read. Follows links
 * alone: that the nodes are well formed beyond that is not checked.
 *
 * @throws LazytreeError BLOCK_MISSING, CORRUPT or INVALID_NODE for a node that cannot be read
 */
export async function* treeBlocks(
  store: BlockSource,
  root: Link,
  options: TreeBlocksOptions,
): AsyncGenerator<NodeBlock> {
  const { signal, distinct } = options;
  const met = new Set<string>();
  const entered = new Set<Link>();
  const stack = [root];
  let sliceStart = performance.now();

  function isNew(link: Link): boolean {
    const before = met.size;
    met.add(distinct === 'cid' ? link : linkDigest(link));
    return met.size > before;
  }

  for (let link = stack.pop(); link; link = stack.pop()) {
    if (entered.has(link)) continue;
    entered.add(link);
    if (performance.now() - sliceStart > SLICE_MS) {
      await yieldToEvents();
      sliceStart = performance.now();
    }
    signal?.throwIfAborted();
    const bytes = await store.get(link, { signal });
    const node: NodeBlock = { link, bytes, isNew: isNew(link), content: [] };
    const links = linksIn(link, bytes);
    for (const inner of links) if (linkCodec(inner) === RAW && isNew(inner)) node.content.push(inner);
    for (const inner of links.reverse()) if (linkCodec(inner) !== RAW) stack.push(inner);
    yield node;
  }
}

function linksIn(link: Link, bytes: Uint8Array): Link[] {
  try {
    return nodeLinks(bytes);
  } catch (error) {
    if (error instanceof InvalidNodeError)
      throw new InvalidNodeError(`${formatLink(link)}: ${error.message}`);
    throw error;
  }
}
