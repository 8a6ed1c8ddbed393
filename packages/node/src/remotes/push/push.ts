import {
  type BlockSource,
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
  linkDigest,
  type WrittenPack,
} from '@lazytree/core';
import type { KeepPolicy } from '../../workspaces/thinning.js';
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
import type { SeenRefs } from '../seen-refs.js';
import type { PutObjectOptions, Storage } from '../storage/storage.js';
import { whoIsHere } from '../who-is-here.js';
import { allNodes, missingBlocks } from './missing-blocks.js';
import { nodeRanges } from './node-ranges.js';

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
  source: BlockSource;
  storage: Storage;
  index: RemoteIndex;
  seen: SeenRefs;
}

/** What nothing refers to is there for so long at least, unless a collection is told otherwise. */
export const GRACE_MS = 24 * 3_600_000;
/** Packs beyond this are looked for before they are sent: an earlier push may have sent them, and died. */
const LOOK_BYTES = 1 << 20;
/** Parts of packs that a root's nodes are read from at once; what is elsewhere is looked for. */
const MOST_RANGES = 16;

/**
 * Stores at a remote what it lacks of a tree, and then says that the tree is there, in this order: packs, the table that
 * says where in them blocks are, the root, the name. Whatever is written before the table is seen by nobody, so that a
 * push can end anywhere; done again it makes the same packs, and sends those that are not there.
 *
 * @throws LazytreeError REFUSED when somebody else has moved the name, and as the storage does
 */
export async function push(parts: PushParts, options: PushOptions): Promise<Pushed> {
  const { root, name, signal } = options;
  if (name !== undefined) checkRefName(name);
  checkMessage(options.message);
  const { store, storage, index } = parts;
  const there = name === undefined ? undefined : await readName(storage, name, options);
  await refuseForeign(parts, there, options);
  const lease = store.lease([root]);
  try {
    await store.flush();
    // What was there below nodes that have just been sent may have gone since.
    const unsure = new Set<string>();
    let sent: Sent = { blocks: 0, bytes: 0, packs: 0, nodes: [], some: true };
    let before: readonly string[] | undefined;
    // What was listed before will do: whether it holds is looked up in the end.
    let now = (await index.list({ signal })).map(({ id }) => id);
    // What was there may have been condemned meanwhile: then it has to be sent.
    while (before === undefined || !before.every((id) => now.includes(id))) {
      before = now;
      sent = add(sent, await sendMissing(parts, options, unsure));
      now = await idsOf(index, signal);
    }
    const nodes = await nodesOf(parts, sent, options);
    const isNamed = newest(there)?.root === root;
    const isNew = await nameRoot(parts, { nodes, isNamed }, options);
    const changed = await pointTo(parts, there, options);
    if (name !== undefined) await parts.seen.write(name, { root, nodes });
    return {
      root,
      blocks: sent.blocks,
      bytes: sent.bytes,
      packs: sent.packs,
      changed: changed || isNew || sent.blocks > 0,
    };
  } finally {
    lease.release();
  }
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

/** Which tables there are now. */
async function idsOf(index: RemoteIndex, signal: AbortSignal): Promise<string[]> {
  return (await index.list({ signal, newerThan: performance.now() })).map(({ id }) => id);
}

/** @param unsure nodes that this push has sent before, to which those are added that it sends now */
async function sendMissing(parts: PushParts, options: PushOptions, unsure: Set<string>): Promise<Sent> {
  const { store, source, storage, index } = parts;
  const { root, signal, compression, onProgress } = options;
  const { content, nodes, some } = await missingBlocks(source, root, {
    signal,
    unsure,
    findPresent: async (digests) => new Set((await index.findLasting(digests, { signal })).keys()),
  });
  const sent: Sent = { blocks: content.length + nodes.length, bytes: 0, packs: 0, nodes: [], some };
  if (sent.blocks === 0) return sent;
  for (const node of nodes) unsure.add(linkDigest(node));
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
  const progress: PushProgress = { blocks: 0, bytes: 0, totalBlocks: sent.blocks };
  try {
    for (const list of [content, nodes]) {
      for (const link of list) {
        progress.bytes += await writer.add(link);
        progress.blocks += 1;
        onProgress?.(progress);
      }
    }
    await writer.finish();
  } finally {
    await writer.close();
  }
  for (const table of tablesOf(entriesOf(packs))) {
    const id = digestOf(table);
    const name = tableName(id);
    const written = await storage.put(name, [table], { signal });
    const info = { id, name, size: table.length, version: written?.version ?? '', modified: Date.now() };
    await index.added(info, table);
    sent.bytes += table.length;
  }
  sent.packs = packs.length;
  for (const { id, size, frames } of packs) {
    sent.bytes += size;
    sent.nodes.push(
      ...nodeRanges(
        frames.filter(({ codec }) => codec === DAG_CBOR).map((frame) => ({ pack: id, ...frame })),
      ),
    );
  }
  return sent;
}

/** Sends a pack that is not there. One that a push has sent before, and left, is taken over while it is young enough. */
async function sendPack(
  storage: Storage,
  { id, parts, size }: WrittenPack,
  signal: AbortSignal,
): Promise<void> {
  const name = packName(id);
  if (size >= LOOK_BYTES) {
    for await (const { name: found, modified } of storage.list(name, { signal })) {
      if (found === name && (await storage.now({ signal })) - modified < GRACE_MS / 2) return;
    }
  }
  await storage.put(name, parts, { signal });
}

function entriesOf(packs: readonly Omit<WrittenPack, 'parts'>[]): FrameEntries[] {
  return packs.flatMap(({ id, frames }) =>
    frames.map(({ offset, length, digests }) => ({
      frame: { pack: id, offset, length },
      digests: [...digests],
      slots: digests.map((_, slot) => slot),
    })),
  );
}

/**
 * From here on the root is there for everybody. One that is there, and that no name may need by now, is written again: a
 * collection that has found it unneeded then finds another version, and leaves it.
 *
 * @returns whether it was not there before, or not pinned
 */
async function nameRoot(
  { storage }: PushParts,
  { nodes, isNamed }: { nodes: readonly NodeRange[]; isNamed: boolean },
  { root, name, signal }: PushOptions,
): Promise<boolean> {
  const pinned = name === undefined;
  const fresh = { root, nodes, pinned, time: Date.now() };
  // Most roots are new; one that is named was there a moment ago.
  const read = () => readManifest(storage, root, signal).catch(damaged);
  let there = isNamed ? await read() : undefined;
  for (;;) {
    const last = there === 'damaged' ? undefined : there?.manifest;
    if (last?.pinned || (last && isNamed && !pinned)) return false;
    const body = [encodeManifest({ ...(last ?? fresh), pinned })];
    if (await storage.put(rootName(root), body, { signal, ...expected(there) })) return !last || pinned;
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
  { source, index, seen }: PushParts,
  sent: Sent,
  { root, name, signal }: PushOptions,
): Promise<NodeRange[]> {
  if (!sent.some) return sent.nodes.slice(0, MAX_NODE_RANGES);
  const last = name === undefined ? undefined : await seen.read(name);
  // What is new comes first: who has the rest reads no further.
  const both = [...sent.nodes, ...(last?.nodes ?? [])];
  if (last && both.length <= MOST_RANGES) return both;
  const nodes = await allNodes(source, root, signal);
  const places = await index.find(nodes, { signal });
  const frames = new Set([...places.values()].map(({ frame }) => frame));
  return nodeRanges(frames).slice(0, MOST_RANGES);
}

/** @returns whether the name has been moved */
async function pointTo(parts: PushParts, before: ReadName, options: PushOptions): Promise<boolean> {
  const { storage } = parts;
  const { root, name, message = '', keep, signal } = options;
  if (name === undefined) return false;
  const snapshot: RemoteSnapshot = { root, time: Date.now(), by: whoIsHere(), message };
  for (let there = before; ; there = await readName(storage, name, options)) {
    if (there !== before) await refuseForeign(parts, there, options);
    if (newest(there)?.root === root) return false;
    const last = there === 'damaged' ? undefined : there?.ref;
    const ref = withSnapshot(last, name, { snapshot, keep });
    if (await storage.put(refName(name), [encodeRef(ref)], { signal, ...expected(there) })) return true;
  }
}

/** What stands under a name: a damaged one is there, and can only be replaced. */
type ReadName = ReadRef | 'damaged' | undefined;

async function readName(
  storage: Storage,
  name: string,
  { force = false, signal }: Pick<PushOptions, 'force' | 'signal'>,
): Promise<ReadName> {
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
  if (now === root || (await seen.read(name))?.root === now || (await wasHere(store, name, now))) return;
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
