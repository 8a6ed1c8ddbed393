import {
  type BlockPlace,
  DAG_CBOR,
  digestOf,
  FRAME_HEADER,
  type FramePlace,
  LazytreeError,
  type Link,
  linkDigest,
  makeLink,
  nodeLinks,
  readFrame,
  readFrameHeader,
} from '@lazytree/core';
import pMap from 'p-map';
import type { GetOptions, HashedNode, Parcel, Provider, TreeOptions } from '../fetch/provider.js';
import type { RemoteIndex } from './index/remote-index.js';
import { packName } from './object-names.js';
import type { PackReader } from './packs/pack-reader.js';
import { type NodeRange, readManifest } from './root-manifest.js';
import type { Storage } from './storage/storage.js';

export interface RemoteProviderParts {
  name: string;
  storage: Storage;
  index: RemoteIndex;
  packs: PackReader;
  /** Whether a node is on this machine, by its digest. */
  isHere(digest: string): boolean;
  /** A tree's files in the order in which they were first read somewhere. */
  onOrder(root: Link, order: readonly Link[]): Promise<void>;
}

/** What one request of bulk asks for: a few ranges of packs. */
export const REMOTE_BATCH = { bytes: 32 << 20, requests: 2 };
/** Ranges of nodes that are read at the same time. */
const RANGES_AT_ONCE = 6;
/** Bytes of nodes in a parcel. */
const PARCEL_BYTES = 1 << 20;

/** A remote as one of those that have blocks. */
export function createRemoteProvider(parts: RemoteProviderParts): Provider {
  const { name, storage, index, packs } = parts;
  const complete = new Set<Link>();

  /** Where blocks are, also when packs have been made anew since that was last looked up. */
  async function* get(links: readonly Link[], options: GetOptions): AsyncGenerator<Parcel> {
    const answered = new Set<string>();
    try {
      yield* getOnce(links, answered, options);
    } catch (error) {
      const { code } = error as LazytreeError;
      if (code === 'NOT_FOUND') index.forget();
      else if (code !== 'CORRUPT') throw error;
      // A table may have been read wrong.
      const areUnsure = index.forgetPlaces();
      if (code === 'CORRUPT' && !areUnsure) throw error;
      // No block is answered for twice.
      const left = links.filter((link) => !answered.has(linkDigest(link)));
      yield* getOnce(left, answered, options);
    }
  }

  async function* getOnce(
    links: readonly Link[],
    answered: Set<string>,
    { signal, urgent }: GetOptions,
  ): AsyncGenerator<Parcel> {
    const found = await index.find(links, { signal });
    const missing = links.filter((link) => !found.has(link));
    for (const link of missing) answered.add(linkDigest(link));
    if (missing.length > 0) yield { records: Buffer.alloc(0), missing };
    const wanted = byFrame(found);
    const parcels = createQueue<Parcel>();
    const stop = new AbortController();
    const reading = packs
      .read(wanted, {
        signal: AbortSignal.any([signal, stop.signal]),
        ahead: urgent,
        onFrames: ({ records, found: digests, extra }) => {
          for (const digest of digests) answered.add(digest);
          return parcels.push({ records, missing: [], extra, hashed: true });
        },
      })
      .then(parcels.end, parcels.fail);
    try {
      yield* parcels.items();
    } finally {
      stop.abort();
      await reading;
    }
  }

  async function* tree(root: Link, { signal, have }: TreeOptions): AsyncGenerator<Parcel> {
    const found = await readManifest(storage, root, signal);
    if (!found) {
      // It may be below another root.
      yield* get([root], { signal, urgent: true });
      return;
    }
    // Who prefetches looks for it when the nodes are there.
    if (found.manifest.order.length > 0) await parts.onOrder(root, found.manifest.order);
    // All below is there, in tables that may be newer than those that were listed last.
    if (!complete.has(root)) index.forget();
    const nodes = new Map<string, Buffer>();
    const ranges = [...found.manifest.nodes];
    // What is new was written last, and comes first: the rest may be here.
    const steps = have.length > 0 ? ranges.map((range) => [range]) : [ranges];
    let waiting = [root];
    const sent = new Set<string>();
    for (const step of steps) {
      await readNodes(step, nodes, signal);
      const { ready, left } = walk(waiting, { nodes, sent, isHere: parts.isHere });
      yield* inParcels(ready);
      waiting = left;
      if (waiting.length === 0) break;
    }
    while (waiting.length > 0) {
      const places = await index.find(waiting, { signal });
      const missing = waiting.filter((link) => !places.has(link));
      if (missing.length > 0) yield { records: Buffer.alloc(0), missing };
      const frames = [...new Set([...places.values()].map(({ frame }) => frame))];
      await readNodes(frames, nodes, signal);
      const { ready, left } = walk(
        waiting.filter((link) => places.has(link)),
        { nodes, sent, isHere: parts.isHere },
      );
      yield* inParcels(ready);
      if (left.some((link) => places.has(link))) {
        throw new LazytreeError('CORRUPT', `${storage.describe()} has other blocks than its index says`, {
          hint: 'run `lazytree remote validate`',
        });
      }
      waiting = left;
    }
    complete.add(root);
  }

  async function readNodes(
    ranges: readonly NodeRange[],
    nodes: Map<string, Buffer>,
    signal: AbortSignal,
  ): Promise<void> {
    const readOnce = async (range: NodeRange) => {
      const bytes = await packs.bytes(range, signal);
      const where = `'${packName(range.pack)}' of ${storage.describe()}`;
      for (let at = 0; at < bytes.length; ) {
        const { codec, stored } = readFrameHeader(bytes, at, where);
        if (codec === DAG_CBOR) {
          for (const block of readFrame(bytes, at, where).blocks) nodes.set(digestOf(block), block);
        }
        at += FRAME_HEADER + stored;
      }
    };
    const readOne = async (range: NodeRange) => {
      try {
        await readOnce(range);
      } catch (error) {
        const { code } = error as LazytreeError;
        // The hint may be older than the packs: what is not found here is looked up.
        if (code === 'NOT_FOUND') return index.forget();
        if (code !== 'CORRUPT') throw error;
        // Bytes may have been changed on their way.
        await readOnce(range);
      }
    };
    await pMap(ranges, readOne, { concurrency: RANGES_AT_ONCE, signal });
  }

  return {
    id: `remote:${name}`,
    tier: 'remote',
    generous: true,
    batch: REMOTE_BATCH,
    describe: () => `the remote ${name} (${storage.describe()})`,
    get,
    tree,
    holds: (root) => (complete.has(root) ? 'all' : 'unknown'),
    distrust: () => undefined,
  };
}

function byFrame(found: ReadonlyMap<Link, BlockPlace>): Map<FramePlace, string[]> {
  const frames = new Map<string, { frame: FramePlace; digests: string[] }>();
  for (const [link, { frame }] of found) {
    const digest = linkDigest(link);
    const key = `${frame.pack}${frame.offset}`;
    const known = frames.get(key);
    if (known) known.digests.push(digest);
    else frames.set(key, { frame, digests: [digest] });
  }
  return new Map([...frames.values()].map(({ frame, digests }) => [frame, digests]));
}

interface WalkOptions {
  nodes: ReadonlyMap<string, Buffer>;
  /** Digests of what has been sent. */
  sent: Set<string>;
  isHere(digest: string): boolean;
}

/** Nodes that can be sent, parents before children, and links to those that are neither known nor here. */
function walk(
  from: readonly Link[],
  { nodes, sent, isHere }: WalkOptions,
): { ready: HashedNode[]; left: Link[] } {
  const ready: HashedNode[] = [];
  const left = new Map<string, Link>();
  const stack = [...from].reverse();
  for (let link = stack.pop(); link !== undefined; link = stack.pop()) {
    const digest = linkDigest(link);
    if (sent.has(digest)) continue;
    const bytes = nodes.get(digest);
    if (!bytes) {
      if (!isHere(digest)) left.set(digest, link);
      continue;
    }
    sent.add(digest);
    const below = nodeLinks(bytes, DAG_CBOR);
    ready.push({ link: makeLink(DAG_CBOR, digest), bytes, below });
    for (let i = below.length - 1; i >= 0; i--) stack.push(below[i]);
  }
  return { ready, left: [...left.values()] };
}

function* inParcels(nodes: readonly HashedNode[]): Generator<Parcel> {
  for (let from = 0, to = 0; from < nodes.length; from = to) {
    for (let bytes = 0; to < nodes.length && bytes < PARCEL_BYTES; to++) bytes += nodes[to].bytes.length;
    yield { records: NO_RECORDS, missing: [], nodes: nodes.slice(from, to) };
  }
}

const NO_RECORDS = Buffer.alloc(0);

/** What one side puts in while the other takes it out. */
function createQueue<T>() {
  const items: { item: T; taken(): void }[] = [];
  let wake: () => void = () => undefined;
  let over = false;
  let abandoned = false;
  let failure: { error: unknown } | undefined;
  return {
    /** Resolves when it has been taken. */
    async push(item: T): Promise<void> {
      if (abandoned) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      items.push({ item, taken: resolve });
      wake();
      await promise;
    },
    end() {
      over = true;
      wake();
    },
    fail(error: unknown) {
      failure = { error };
      wake();
    },
    async *items(): AsyncGenerator<T> {
      try {
        for (;;) {
          const next = items.shift();
          if (next) {
            next.taken();
            yield next.item;
          } else if (failure) throw failure.error;
          else if (over) return;
          else {
            const { promise, resolve } = Promise.withResolvers<void>();
            wake = resolve;
            await promise;
          }
        }
      } finally {
        abandoned = true;
        for (const { taken } of items.splice(0)) taken();
      }
    },
  };
}
