import {
  checkRefName,
  createPackWriter,
  DAG_CBOR,
  digestOf,
  formatLink,
  getRef,
  history,
  type ImageCompression,
  LazytreeError,
  type Link,
  type LocalStore,
  makeLink,
  type WrittenPack,
} from '@lazytree/core';
import type { AccessOrders } from '../../prefetch/access-order.js';
import type { KeepPolicy } from '../../workspaces/thinning.js';
import { LEAST_GRACE_MS } from '../collect/collect.js';
import { LIFETIME_MS as LOCK_LIFETIME_MS } from '../collect/lock.js';
import type { RemoteIndex } from '../index/remote-index.js';
import { type FrameEntries, tablesOf } from '../index/table-parts.js';
import { packName, refName, rootName, tableName } from '../object-names.js';
import {
  encodeRef,
  MAX_MESSAGE,
  type ReadRef,
  type RemoteSnapshot,
  readRef,
  withSnapshot,
} from '../remote-ref.js';
import { encodeManifest, MAX_NODE_RANGES, type NodeRange, readManifest } from '../root-manifest.js';
import type { SeenRef, SeenRefs } from '../seen-refs.js';
import type { PutObjectOptions, Storage } from '../storage/storage.js';
import { whoIsHere } from '../who-is-here.js';
import { allNodes, missingBlocks } from './missing-blocks.js';
import { nodeRanges } from './node-ranges.js';
import { orderOf } from './order-of.js';
import { type TreeSource, wholeDirectories } from './whole-directories.js';

export interface PushProgress {
  /** Blocks that have been compressed, and what they were before. */
  blocks: number;
  bytes: number;
  totalBlocks: number;
}

export interface PushOptions {
  root: Link;
  /** The name that is to stand for it there. Without one it is pinned there. */
  name?: string | undefined;
  message?: string;
  /** Take the name whoever has it. */
  force?: boolean;
  keep: KeepPolicy;
  compression?: ImageCompression;
  signal: AbortSignal;
  onProgress?: (progress: PushProgress) => void;
}

export interface Pushed {
  root: Link;
  /** Blocks that were not there, and the bytes that they and all about them took. */
  blocks: number;
  bytes: number;
  packs: number;
  /** False when all was there, the name included. */
  changed: boolean;
}

export interface PushParts {
  store: LocalStore;
  source: TreeSource;
  storage: Storage;
  index: RemoteIndex;
  seen: SeenRefs;
  orders: AccessOrders;
}

/** Packs beyond this are looked for before they are sent: an earlier push may have sent them, and died. */
const LOOK_BYTES = 1 << 20;
/** Shorter than the shortest grace period: two collections, of which the second one removes, are further apart. */
const QUICK_MS = LEAST_GRACE_MS / 2;
/** Parts of packs that a root's nodes are read from at once; what is elsewhere is looked for. */
const MOST_RANGES = 16;

/**
 * Stores at a remote what it lacks of a tree, and then says that the tree is there, in this order: packs, the table that
 * says where in them blocks are, the root, the name. Whatever is written before the table is seen by nobody, so that a
 * push can end anywhere; done again it makes the same packs, and sends those that are not there.
 *
 * @throws LazytreeError REFUSED when somebody else has moved the name, and as the storage does
 */
export async function push(given: PushParts, options: PushOptions): Promise<Pushed> {
  const { root, name, signal } = options;
  const parts = { ...given, source: wholeDirectories(given.source, { store: given.store, root, signal }) };
  if (name !== undefined) checkRefName(name);
  checkMessage(options.message);
  const { store, storage, index, seen } = parts;
  const last = name === undefined ? undefined : await seen.read(name);
  const there = name === undefined ? undefined : await readName(storage, { name, last }, options);
  await refuseForeign(parts, there, options);
  const lease = store.lease([root]);
  try {
    await store.flush();
    const order = await orderOf(parts, options);
    const under: UnderWay = { unsure: new Set(), packs: new Set(), lost: new Set() };
    // What was listed before will do: whether it holds is looked up in the end.
    let before = await lookAt(index, { signal });
    let sent: Sent = { blocks: 0, bytes: 0, packs: 0, nodes: [], some: true };
    let named: Named | undefined;
    for (;;) {
      sent = add(sent, await sendMissing(parts, options, under));
      const now = await lookAt(index, { signal, newerThan: performance.now() });
      const looked = performance.now();
      // What was there may have been condemned meanwhile: then it has to be sent.
      const isThere = before.tables.every((id) => now.tables.includes(id));
      const isUndisturbed = await undisturbed(parts, { before, now, under }, signal);
      before = now;
      if (!isThere || !isUndisturbed) continue;
      named = await giveName(parts, { there, sent, last, before: named, order }, options);
      if (performance.now() - looked < QUICK_MS) break;
      // It took long enough for collections to take the root for one that nobody needs.
      const later = await lookAt(index, { signal, newerThan: performance.now() });
      if (later.collection === now.collection) break;
    }
    if (named.ref) await seen.write({ ...named.ref, nodes: named.nodes });
    return {
      root,
      blocks: sent.blocks,
      bytes: sent.bytes,
      packs: sent.packs,
      changed: named.changed || sent.blocks > 0,
    };
  } finally {
    lease.release();
  }
}

/** What a push has done so far that a collection may undo until the root is there. */
interface UnderWay {
  /** Nodes that it has sent: what was there below them may have gone since. */
  unsure: Set<Link>;
  /** Packs that its tables name, and those of them that are gone. */
  packs: Set<string>;
  lost: Set<string>;
}

interface Sent {
  blocks: number;
  bytes: number;
  packs: number;
  /** Where nodes are that were not there. */
  nodes: NodeRange[];
  /** Whether these are not all. */
  some: boolean;
}

function add(a: Sent, b: Sent): Sent {
  return {
    blocks: a.blocks + b.blocks,
    bytes: a.bytes + b.bytes,
    packs: a.packs + b.packs,
    nodes: [...b.nodes, ...a.nodes],
    some: b.some,
  };
}

/** What a listing of tables says. */
interface Look {
  tables: readonly string[];
  /** Another one whenever a collection begins, goes on or ends. */
  collection: string | undefined;
  /** When the lock was written, and the youngest table, by the storage's clock. */
  locked: number;
  youngest: number;
}

async function lookAt(
  index: RemoteIndex,
  options: { signal: AbortSignal; newerThan?: number },
): Promise<Look> {
  const tables = await index.list(options);
  const lock = await index.collection({ signal: options.signal });
  return {
    tables: tables.map(({ id }) => id),
    collection: lock?.version,
    locked: lock?.modified ?? Number.NEGATIVE_INFINITY,
    youngest: tables.reduce((most, { modified }) => Math.max(most, modified), 0),
  };
}

/**
 * A collection that has read the tables before a push has written its own does not know that the packs are needed. When
 * one may have been at work since the push began, they get other versions: it deletes only what it has seen, and what it
 * has deleted is not there to be touched.
 */
async function undisturbed(
  { storage }: PushParts,
  { before, now, under }: { before: Look; now: Look; under: UnderWay },
  signal: AbortSignal,
): Promise<boolean> {
  if (under.packs.size === 0 || now.collection === undefined) return true;
  // The table that was just written says what time it is.
  if (now.collection === before.collection && now.locked < now.youngest - LOCK_LIFETIME_MS) return true;
  for (const pack of under.packs) {
    if (await storage.touch(packName(pack), { signal })) continue;
    under.packs.delete(pack);
    under.lost.add(pack);
  }
  return under.lost.size === 0;
}

interface Named {
  nodes: NodeRange[];
  /** What the name is now, if one was to be given. */
  ref: ReadRef | undefined;
  changed: boolean;
}

/** Writes the root, and then the name. */
async function giveName(
  parts: PushParts,
  given: {
    there: ReadName;
    sent: Sent;
    last: SeenRef | undefined;
    before: Named | undefined;
    order: readonly Link[];
  },
  options: PushOptions,
): Promise<Named> {
  const { sent, last, before, order } = given;
  const there = before ? before.ref : given.there;
  const nodes = await nodesOf(parts, { sent, last }, options);
  const isNamed = newest(there)?.root === options.root;
  const isNew = await nameRoot(parts, { nodes, order, isNamed }, options);
  const moved = await pointTo(parts, there, options);
  return { nodes, ref: moved.ref, changed: moved.changed || isNew || before?.changed === true };
}

/** @param under to which is added what is sent */
async function sendMissing(parts: PushParts, options: PushOptions, under: UnderWay): Promise<Sent> {
  const { store, source, storage, index } = parts;
  const { root, signal, compression, onProgress } = options;
  const packs: Omit<WrittenPack, 'parts'>[] = [];
  const writer = createPackWriter(store, {
    signal,
    source,
    ...(compression ? { compression } : {}),
    async onPack({ parts: bytes, ...pack }) {
      packs.push(pack);
      await sendPack(storage, { ...pack, parts: bytes }, signal);
    },
  });
  let sent: Sent;
  let tables: Generator<Buffer>;
  let table: IteratorResult<Buffer>;
  try {
    // Where nothing is, all is missing.
    if ((await index.list({ signal })).length === 0) writer.prepare();
    const { content, nodes, some } = await missingBlocks(source, root, {
      signal,
      unsure: under.unsure,
      async findPresent(links) {
        const found = [...(await index.findLasting(links, { signal }))];
        return new Set(found.filter(([, { frame }]) => !under.lost.has(frame.pack)).map(([link]) => link));
      },
    });
    sent = { blocks: content.length + nodes.length, bytes: 0, packs: 0, nodes: [], some };
    for (const node of nodes) under.unsure.add(node);
    const progress: PushProgress = { blocks: 0, bytes: 0, totalBlocks: sent.blocks };
    for (const list of [content, nodes]) {
      for (const link of list) {
        progress.bytes += await writer.add(link);
        progress.blocks += 1;
        onProgress?.(progress);
      }
    }
    await writer.seal();
    // The first one, mostly the only one, is made while the last packs are on their way, and written when all are there.
    tables = tablesOf(entriesOf(packs));
    table = tables.next();
    await writer.finish();
  } finally {
    await writer.close();
  }
  for (; !table.done; table = tables.next()) {
    const { value: bytes } = table;
    const id = digestOf(bytes);
    const name = tableName(id);
    const written = await storage.put(name, [bytes], { signal });
    const info = { id, name, size: bytes.length, version: written?.version ?? '', modified: Date.now() };
    await index.added(info, bytes);
    sent.bytes += bytes.length;
  }
  sent.packs = packs.length;
  for (const { id, size, frames } of packs) {
    under.packs.add(id);
    under.lost.delete(id);
    sent.bytes += size;
    sent.nodes.push(
      ...nodeRanges(
        frames.filter(({ codec }) => codec === DAG_CBOR).map((frame) => ({ pack: id, ...frame })),
      ),
    );
  }
  return sent;
}

/** Sends a pack that is not there. One that a push has sent before, and left, is taken over: from now on it is young. */
async function sendPack(
  storage: Storage,
  { id, parts, size }: WrittenPack,
  signal: AbortSignal,
): Promise<void> {
  const name = packName(id);
  if (size >= LOOK_BYTES && (await storage.touch(name, { signal }))) return;
  await storage.put(name, parts, { signal });
}

function entriesOf(packs: readonly Omit<WrittenPack, 'parts'>[]): FrameEntries[] {
  return packs.flatMap(({ id, frames }) =>
    frames.map(({ offset, length, codec, digests }) => ({
      frame: { pack: id, offset, length },
      links: digests.map((digest) => makeLink(codec, digest)),
      slots: digests.map((_, slot) => slot),
    })),
  );
}

/**
 * From here on the root is there for everybody. One that is there, and that no name may need by now, is written again: a
 * collection that has found it unneeded then finds another version, and leaves it.
 *
 * @param given.order one that is longer than what is there takes its place
 * @returns whether it was not there before, or not pinned
 */
async function nameRoot(
  { storage }: PushParts,
  { nodes, order, isNamed }: { nodes: readonly NodeRange[]; order: readonly Link[]; isNamed: boolean },
  { root, name, signal }: PushOptions,
): Promise<boolean> {
  const pinned = name === undefined;
  const fresh = { root, nodes, order, pinned, time: Date.now() };
  // Most roots are new; one that is named was there a moment ago.
  const read = () => readManifest(storage, root, signal).catch(damaged);
  let there = isNamed ? await read() : undefined;
  for (;;) {
    const last = there === 'damaged' ? undefined : there?.manifest;
    const isKept = last?.pinned === true || (last !== undefined && isNamed && !pinned);
    const known = last?.order ?? [];
    if (isKept && order.length <= known.length) return false;
    const body = [
      encodeManifest({
        ...(last ?? fresh),
        order: order.length > known.length ? order : known,
        pinned: pinned || last?.pinned === true,
      }),
    ];
    if (await storage.put(rootName(root), body, { signal, ...expected(there) }))
      return !last || (pinned && !last.pinned);
    there = await read();
  }
}

/** Longer ones could not be read again. @throws LazytreeError USAGE */
function checkMessage(message = ''): void {
  if (message.length <= MAX_MESSAGE) return;
  throw new LazytreeError('USAGE', `a message of ${message.length} characters; the limit is ${MAX_MESSAGE}`);
}

/** Where all nodes of the tree are: those just sent, and those that were there before under the same name. */
async function nodesOf(
  { source, index }: PushParts,
  { sent, last }: { sent: Sent; last: SeenRef | undefined },
  { root, signal }: PushOptions,
): Promise<NodeRange[]> {
  if (!sent.some) return sent.nodes.slice(0, MAX_NODE_RANGES);
  // What is new comes first: who has the rest reads no further.
  const both = [...sent.nodes, ...(last?.nodes ?? [])];
  if (last && both.length <= MOST_RANGES) return both;
  const nodes = await allNodes(source, root, signal);
  const places = await index.find(nodes, { signal });
  const frames = new Set([...places.values()].map(({ frame }) => frame));
  return nodeRanges(frames).slice(0, MOST_RANGES);
}

/** @returns what the name is then, and whether it has been moved */
async function pointTo(
  parts: PushParts,
  before: ReadName,
  options: PushOptions,
): Promise<{ ref: ReadRef | undefined; changed: boolean }> {
  const { storage } = parts;
  const { root, name, message = '', keep, signal } = options;
  if (name === undefined) return { ref: undefined, changed: false };
  const snapshot: RemoteSnapshot = { root, time: Date.now(), by: whoIsHere(), message };
  for (let there = before; ; there = await readName(storage, { name }, options)) {
    if (there !== before) await refuseForeign(parts, there, options);
    if (there !== 'damaged' && newest(there)?.root === root) return { ref: there, changed: false };
    const last = there === 'damaged' ? undefined : there?.ref;
    const ref = withSnapshot(last, name, { snapshot, keep });
    const written = await storage.put(refName(name), [encodeRef(ref)], { signal, ...expected(there) });
    if (written) return { ref: { ref, version: written.version }, changed: true };
  }
}

/** What stands under a name: a damaged one is there, and can only be replaced. */
type ReadName = ReadRef | 'damaged' | undefined;

/**
 * @param last what it was when this machine last saw it. When it is to be moved on from there, it need not be read: the
 * write says whether it is that still
 */
async function readName(
  storage: Storage,
  { name, last }: { name: string; last?: SeenRef | undefined },
  { root, force = false, signal }: Pick<PushOptions, 'root' | 'force' | 'signal'>,
): Promise<ReadName> {
  if (last && newest(last)?.root !== root) return { ref: last.ref, version: last.version };
  const reading = readRef(storage, name, signal);
  return force ? reading.catch(damaged) : reading;
}

/** For what is to be written anew. */
function damaged(error: { code?: string }): 'damaged' {
  if (error.code === 'CORRUPT') return 'damaged';
  throw error;
}

function newest(there: ReadName): RemoteSnapshot | undefined {
  return there === 'damaged' ? undefined : there?.ref.snapshots[0];
}

/** What has to be there still when it is replaced. */
function expected(there: { version: string } | 'damaged' | undefined): Pick<PutObjectOptions, 'expected'> {
  if (there === 'damaged') return {};
  return { expected: there ? { version: there.version } : 'nothing' };
}

/** A name is moved on from what is known here, and not from what somebody else has made of it. */
async function refuseForeign(
  { store, storage, seen }: PushParts,
  there: ReadName,
  { root, force }: PushOptions,
): Promise<void> {
  if (!there || there === 'damaged' || force) return;
  const { name, snapshots } = there.ref;
  const [{ root: now, by, time }] = snapshots;
  if (now === root || newest(await seen.read(name))?.root === now || (await wasHere(store, name, now)))
    return;
  const when = new Date(time).toISOString();
  throw new LazytreeError(
    'REFUSED',
    `'${name}' of ${storage.describe()} was moved by ${by} at ${when}, to ${formatLink(now)}`,
    { hint: 'pull it and go on from there, or push with --force' },
  );
}

/** Whether a name has stood for a root on this machine. */
async function wasHere(store: LocalStore, name: string, root: Link): Promise<boolean> {
  const ref = getRef(store, name);
  if (!ref) return false;
  for await (const { snapshot } of history(store, ref)) if (snapshot.root === root) return true;
  return false;
}
