import {
  type BlockSource,
  DAG_CBOR,
  type Link,
  linkCodec,
  linkDigest,
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

/** Which of some digests are there. */
export type FindPresent = (digests: Iterable<string>) => Promise<ReadonlySet<string>>;

export interface MissingBlocksOptions extends StoreOptions {
  findPresent: FindPresent;
  /** Nodes, by digest, that say nothing of what is below them, be they there or not. */
  unsure?: ReadonlySet<string>;
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
  const children = new Map<string, Link[]>();
  const met = new Set<string>();
  const absentContent = new Set<string>();
  const absentNodes = new Set<string>();
  let some = false;
  for (let level = [root]; level.length > 0; ) {
    const present = await findPresent(level.map(linkDigest));
    some ||= present.size > 0;
    const below: Link[] = [];
    for (const node of level) {
      const digest = linkDigest(node);
      const isThere = present.has(digest);
      if (isThere && !unsure?.has(digest)) continue;
      if (!isThere) absentNodes.add(digest);
      signal?.throwIfAborted();
      const links = nodeLinks(await source.get(node, { signal }));
      children.set(digest, links);
      for (const link of links) {
        if (met.has(link)) continue;
        met.add(link);
        below.push(link);
      }
    }
    level = below.filter((link) => linkCodec(link) === DAG_CBOR);
    const content = below.filter((link) => linkCodec(link) !== DAG_CBOR).map(linkDigest);
    for (let at = 0; at < content.length; at += TOGETHER * 64) {
      const part = content.slice(at, at + TOGETHER * 64);
      const there = await findPresent(part);
      for (const digest of part) if (!there.has(digest)) absentContent.add(digest);
    }
  }
  return { ...inOrder(root, children, { absentNodes, absentContent }), some };
}

function inOrder(
  root: Link,
  children: ReadonlyMap<string, readonly Link[]>,
  { absentNodes, absentContent }: Record<'absentNodes' | 'absentContent', Set<string>>,
): Omit<MissingBlocks, 'some'> {
  const nodes: Link[] = [];
  const content: Link[] = [];
  const entered = new Set<string>();
  const stack = [root];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    const digest = linkDigest(node);
    const links = children.get(digest);
    if (!links || entered.has(digest)) continue;
    entered.add(digest);
    if (absentNodes.has(digest)) nodes.push(node);
    for (const link of links) {
      if (linkCodec(link) === DAG_CBOR) continue;
      if (absentContent.delete(linkDigest(link))) content.push(link);
    }
    for (let i = links.length - 1; i >= 0; i--) if (linkCodec(links[i]) === DAG_CBOR) stack.push(links[i]);
  }
  return { content, nodes };
}

/** Digests of all nodes of a tree. */
export async function allNodes(source: BlockSource, root: Link, signal: AbortSignal): Promise<Set<string>> {
  const met = new Set([linkDigest(root)]);
  const stack = [root];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    for (const link of nodeLinks(await source.get(node, { signal }), DAG_CBOR)) {
      if (met.has(linkDigest(link))) continue;
      met.add(linkDigest(link));
      stack.push(link);
    }
  }
  return met;
}
