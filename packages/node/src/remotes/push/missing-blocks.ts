import {
  type BlockSource,
  DAG_CBOR,
  type Link,
  linkCodec,
  nodeLinks,
  type StoreOptions,
} from '@lazytree/core';

/** Blocks of a tree that are not where they are looked for. */
export interface MissingBlocks {
  /** In the order of a walk: of a directory first its small files, then its large ones and its subdirectories. */
  content: Link[];
  /** Parents before children. */
  nodes: Link[];
  /** Whether something of the tree is there. */
  some: boolean;
}

/** Which of some blocks are there. */
export type FindPresent = (links: Iterable<Link>) => Promise<ReadonlySet<Link>>;

export interface MissingBlocksOptions extends StoreOptions {
  findPresent: FindPresent;
  /** Nodes that say nothing of what is below them, be they there or not. */
  unsure?: ReadonlySet<Link>;
}

/** Nodes that are read or looked for together. */
const TOGETHER = 1024;

/**
 * What of a tree is not there, when a node that is there has all below it there, too: nothing below it is looked at.
 * Lookups are few and large: one for each level of the tree.
 *
 * @throws LazytreeError BLOCK_MISSING and others for a node that cannot be read
 */
export async function missingBlocks(
  source: BlockSource,
  root: Link,
  { findPresent, unsure, signal }: MissingBlocksOptions,
): Promise<MissingBlocks> {
  const children = new Map<Link, Link[]>();
  const met = new Set<Link>();
  const absent = new Set<Link>();
  let some = false;
  for (let level = [root]; level.length > 0; ) {
    const present = await findPresent(level);
    some ||= present.size > 0;
    const below: Link[] = [];
    for (const node of level) {
      const isThere = present.has(node);
      if (isThere && !unsure?.has(node)) continue;
      if (!isThere) absent.add(node);
      signal?.throwIfAborted();
      const links = nodeLinks(await source.get(node, { signal }));
      children.set(node, links);
      for (const link of links) {
        if (met.has(link)) continue;
        met.add(link);
        below.push(link);
      }
    }
    level = below.filter((link) => linkCodec(link) === DAG_CBOR);
    const content = below.filter((link) => linkCodec(link) !== DAG_CBOR);
    for (let at = 0; at < content.length; at += TOGETHER * 64) {
      const part = content.slice(at, at + TOGETHER * 64);
      const there = await findPresent(part);
      for (const link of part) if (!there.has(link)) absent.add(link);
    }
  }
  return { ...inOrder(root, children, absent), some };
}

function inOrder(
  root: Link,
  children: ReadonlyMap<Link, readonly Link[]>,
  absent: Set<Link>,
): Omit<MissingBlocks, 'some'> {
  const nodes: Link[] = [];
  const content: Link[] = [];
  const entered = new Set<Link>();
  const stack = [root];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    const links = children.get(node);
    if (!links || entered.has(node)) continue;
    entered.add(node);
    if (absent.has(node)) nodes.push(node);
    for (const link of links) {
      if (linkCodec(link) === DAG_CBOR) continue;
      if (absent.delete(link)) content.push(link);
    }
    for (let i = links.length - 1; i >= 0; i--) if (linkCodec(links[i]) === DAG_CBOR) stack.push(links[i]);
  }
  return { content, nodes };
}

/** All nodes of a tree. */
export async function allNodes(source: BlockSource, root: Link, signal: AbortSignal): Promise<Set<Link>> {
  const met = new Set([root]);
  const stack = [root];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    for (const link of nodeLinks(await source.get(node, { signal }), DAG_CBOR)) {
      if (met.has(link)) continue;
      met.add(link);
      stack.push(link);
    }
  }
  return met;
}
