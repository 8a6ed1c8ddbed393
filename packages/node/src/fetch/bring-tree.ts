import { setTimeout as sleep } from 'node:timers/promises';
import {
  type BlockSource,
  type Codec,
  CorruptBlockError,
  DAG_CBOR,
  InvalidNodeError,
  isMissing,
  LazytreeError,
  type Link,
  type LocalStore,
  linkCodec,
  linkDigest,
  MAX_BLOCK_BYTES,
  nodeLinks,
  RAW,
} from '@lazytree/core';
import type { BlockWriter } from './block-writer.js';
import { firstAnswer } from './first-answer.js';
import type { KnownTrees } from './known-trees.js';
import type { Peer } from './peer.js';
import type { Peers } from './peers.js';
import { type Answer, answers, type KeepExtra, lied } from './request.js';
import type { Timing } from './timing.js';
import type { Verifier } from './verifier.js';

export interface BringTreeOptions {
  store: LocalStore;
  /** Brings one block, from wherever it is, and keeps it. */
  source: BlockSource;
  peers: Peers;
  writer: BlockWriter;
  verifier: Verifier;
  keepExtra: KeepExtra;
  complete: KnownTrees;
  timing: Timing;
  /** Roots whose nodes are all in the store. */
  have: readonly Link[];
  signal: AbortSignal;
  /** Whether it is done when every node can be read, be it in the store or on its way there. */
  readable: boolean;
  /** Of a tree of no more bytes than this, content comes as well, from a provider that sends it; it is hardly waited for. */
  content: number;
}

/** Milliseconds in which whoever waits for nodes to be readable goes on before they are written. */
const AFTER_MS = 100;

/** Milliseconds in which content is waited for, from its first part on. */
const CONTENT_MS = 100;

/** Nodes that are read or asked for together. */
const TOGETHER = 1024;
/** Levels of nodes below a root: more than any tree that can be made has. */
const MOST_LEVELS = 32_768;
/** Bytes that are expected of all nodes of a tree. */
const TYPICAL_TREE = 1 << 20;

/** A tree of which every node can be read. */
export interface BroughtTree {
  /** Resolves when all of them are in the store, or cannot be. */
  kept: Promise<void>;
}

const KEPT: BroughtTree = { kept: Promise.resolve() };

/**
 * Makes every node below a root be in the store or on its way there: with one request to the most promising provider, and
 * what is missing from its answer asked of the others. @throws InvalidNodeError, and what `source.get` throws
 */
export async function bringTree(root: Link, options: BringTreeOptions): Promise<BroughtTree> {
  const { store, complete } = options;
  if (linkCodec(root) === RAW || complete.has(root)) return KEPT;
  const lease = store.lease([root]);
  try {
    const tree: Incoming = { children: new Map(), kept: [] };
    const rest = (await isComplete(root, options)) ? undefined : await askForTree(root, tree, options);
    const seen = await walk(root, tree.children, options);
    const kept = Promise.all(tree.kept).then((all) =>
      all.every(Boolean) ? noteComplete(seen, options) : undefined,
    );
    void Promise.allSettled([kept, rest?.ended]).then(() => lease.release());
    return { kept };
  } catch (error) {
    lease.release();
    throw error;
  }
}

/** What has come of a tree. */
interface Incoming {
  /** Of each node those below it. */
  children: Map<string, readonly Link[]>;
  /** What is on its way to the store: whether it has come there. */
  kept: Promise<boolean>[];
}

/** Whether all that is needed is here; looks no further than to the first node that is not. */
async function isComplete(root: Link, options: BringTreeOptions): Promise<boolean> {
  try {
    await noteComplete(await walk(root, new Map(), { ...options, source: options.store }), options);
    return true;
  } catch (error) {
    options.signal.throwIfAborted();
    if (isMissing(error) || error instanceof CorruptBlockError) return false;
    throw error;
  }
}

/** What could not be kept is not here for good. */
async function noteComplete(
  seen: ReadonlySet<Link>,
  { store, complete }: Pick<BringTreeOptions, 'store' | 'complete'>,
): Promise<void> {
  for (const link of seen) if (!store.holds(linkDigest(link)) && !(await store.has(link))) return;
  complete.add(seen);
}

/** Every node below a root that is not known to be complete, read level by level. */
async function walk(
  root: Link,
  children: ReadonlyMap<string, readonly Link[]>,
  { source, complete, signal }: Pick<BringTreeOptions, 'source' | 'complete' | 'signal'>,
): Promise<Set<Link>> {
  const seen = new Set([root]);
  let level = [root];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MOST_LEVELS) throw new LazytreeError('UNSUPPORTED', 'a tree that is too deep');
    const next: Link[] = [];
    for (let at = 0; at < level.length; at += TOGETHER) {
      signal.throwIfAborted();
      const unknown: Link[] = [];
      for (const node of level.slice(at, at + TOGETHER)) {
        const below = children.get(linkDigest(node));
        if (below) add(below);
        else unknown.push(node);
      }
      for (const below of await Promise.all(unknown.map(childrenOf))) add(below);
    }
    level = next;

    function add(below: readonly Link[]): void {
      for (const link of below) {
        if (seen.has(link) || complete.has(link)) continue;
        seen.add(link);
        next.push(link);
      }
    }
  }
  return seen;

  async function childrenOf(node: Link): Promise<readonly Link[]> {
    return nodesBelow(await source.get(node, { signal }));
  }
}

function nodesBelow(node: Uint8Array): Link[] {
  return nodeLinks(node, DAG_CBOR);
}

/**
 * Takes what one provider has of a tree. What is still missing then is found by walking it.
 *
 * @returns the end of the content that follows
 */
async function askForTree(
  root: Link,
  incoming: Incoming,
  options: BringTreeOptions,
): Promise<{ ended: Promise<void> }> {
  const { peers, timing, signal } = options;
  const { answer: rest } = await firstAnswer({
    peers,
    timing,
    signal,
    bytes: TYPICAL_TREE,
    root,
    async ask(peer, limits) {
      const nodes = receiveTree(peer, root, incoming, { ...options, ...limits });
      return (await nodes.next()).done ? undefined : nodes;
    },
  });
  const content = Promise.withResolvers<void>();
  const ended = takeRest(rest, content.resolve);
  // Of what is little, it is here before anyone can ask for it.
  await Promise.race([ended, content.promise.then(() => sleep(CONTENT_MS, undefined, { ref: false }))]);
  signal.throwIfAborted();
  return { ended };
}

async function takeRest(rest: AsyncGenerator<Part> | undefined, onContent: () => void): Promise<void> {
  try {
    for (let next = await rest?.next(); next && !next.done; next = await rest?.next())
      if (next.value.content) onContent();
  } catch {
    // Who failed is in quarantine now; what has come is kept, and others are asked for the rest.
  }
}

/** What a part of an answer was of. */
interface Part {
  content: boolean;
}

/** Keeps what a provider sends of a tree, part by part. Nothing that does not belong to the tree is taken. */
async function* receiveTree(
  peer: Peer,
  root: Link,
  { children, kept }: Incoming,
  {
    have,
    writer,
    verifier,
    keepExtra,
    timing,
    signal,
    patience,
    readable,
    content: most,
  }: BringTreeOptions & { patience: number },
): AsyncGenerator<Part> {
  const expected = new Set([linkDigest(root)]);
  const received = new Set<string>();
  const leaves = new Set<string>();
  let leafBytes = 0;
  let repeated = 0;
  const ask = (own: AbortSignal) => peer.provider.tree(root, { signal: own, have, content: most });
  const request = {
    verifier,
    keepExtra,
    signal,
    urgent: true,
    expected: TYPICAL_TREE,
    patience,
    stall: timing.stall,
  };
  for await (const answer of answers(peer, ask, request)) {
    const { records, nodes, missing } = answer;
    take(answer);
    peer.answered(records.length + nodes.length, missing.length);
    await (most > 0 ? keepExtra(answer) : writer.keep(answer));
    if (nodes.length > 0) kept.push((await writer.keepLater(nodes, { after: readable ? AFTER_MS : 0 })).kept);
    if (records.length + nodes.length > 0) yield { content: leafBytes > 0 };
  }

  /** Notes the content of a node that is to come, and returns the nodes below it. */
  function childrenIn(node: Uint8Array): readonly Link[] | undefined {
    const links = validLinks(node, most > 0 ? undefined : DAG_CBOR);
    if (most === 0) return links;
    for (const link of links ?? []) if (linkCodec(link) === RAW) leaves.add(linkDigest(link));
    return links?.filter((link) => linkCodec(link) === DAG_CBOR);
  }

  function takeNode(digest: string, below: readonly Link[] | undefined): void {
    if (!expected.has(digest)) throw lied(peer, 'it has sent a node that is not in the tree');
    // A liar could send one for ever.
    if (received.has(digest) && ++repeated > received.size) throw lied(peer, 'it repeats itself');
    received.add(digest);
    if (below) children.set(digest, below);
    for (const child of below ?? []) expected.add(linkDigest(child));
  }

  function take({ records, content, nodes, missing }: Answer): void {
    records.forEach(({ digest, offset, end }, index) => {
      if (leaves.delete(digest)) {
        leafBytes += end - offset;
        if (leafBytes > most + 2 * MAX_BLOCK_BYTES) throw lied(peer, 'it has sent more than was asked for');
        return;
      }
      const known = most === 0 ? children.get(digest) : undefined;
      takeNode(digest, known ?? childrenIn(content(index)));
    });
    for (const { link, below } of nodes) takeNode(linkDigest(link), below);
    for (const link of missing) {
      if (!expected.has(linkDigest(link))) throw lied(peer, 'it lacks a node that is not in the tree');
    }
  }
}

/** An invalid node is what the tree has: whoever made the tree is to blame, and the walk will say so. */
function validLinks(node: Uint8Array, only?: Codec): Link[] | undefined {
  try {
    return nodeLinks(node, only);
  } catch (error) {
    if (error instanceof InvalidNodeError) return undefined;
    throw error;
  }
}
