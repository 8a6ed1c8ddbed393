import {
  createMarker,
  decodeTable,
  digestOf,
  LazytreeError,
  type Link,
  linkCodec,
  linkDigest,
  RAW,
} from '@lazytree/core';
import type { RemoteIndex, TableInfo } from '../index/remote-index.js';
import { type FrameEntries, framesOf, tablesOf } from '../index/table-parts.js';
import { CONDEMNED, fromHex, PACKS, tableName, toHex } from '../object-names.js';
import type { PackReader } from '../packs/pack-reader.js';
import type { ObjectInfo, Storage } from '../storage/storage.js';
import { liveRoots } from './live-roots.js';
import { withLock } from './lock.js';
import { createNodeSource } from './node-source.js';
import { repack } from './repack.js';

/** Shorter grace periods are refused: a push counts on its root being there for so long before it has a name. */
export const LEAST_GRACE_MS = 1000;

export interface CollectOptions {
  /** What nothing refers to is removed when nothing has for so long. */
  graceMs: number;
  signal: AbortSignal;
  onProgress?: (progress: { done: number; total: number }) => void;
}

export interface Collected {
  /** Roots that are kept, and those that were removed because nothing names them. */
  roots: number;
  removedRoots: number;
  /** Blocks that a root needs; that none needs since now; that are needed again. */
  live: number;
  condemned: number;
  restored: number;
  /** Packs that were removed, and their bytes. */
  removed: number;
  bytes: number;
}

export interface CollectParts {
  storage: Storage;
  index: RemoteIndex;
  packs: PackReader;
}

/** A table, read whole. */
interface ReadTable {
  info: TableInfo;
  frames: FrameEntries[];
}

/**
 * Removes from a remote what no root needs, in two steps at least a grace period apart. First, blocks that no root needs
 * are *condemned*: their entries move from the tables to others that no push looks at, so that from then on nobody relies
 * on them. Packs of which every block has been condemned for the grace period are removed by a later collection, unless a
 * root has come to need one: that of a push that had looked before.
 *
 * Every step adds before it removes, so that it can end anywhere.
 *
 * @throws LazytreeError USAGE (too short a grace period); REFUSED while somebody else collects; CORRUPT when a root's nodes cannot be read, and then nothing
 * has been removed
 */
export async function collect(parts: CollectParts, options: CollectOptions): Promise<Collected> {
  if (options.graceMs < LEAST_GRACE_MS)
    throw new LazytreeError('USAGE', `a grace period of ${options.graceMs} ms; the least is a second`);
  return withLock(parts.storage, options.signal, (signal) => collectLocked(parts, { ...options, signal }));
}

async function collectLocked(parts: CollectParts, options: CollectOptions): Promise<Collected> {
  const { storage, index, packs } = parts;
  const { graceMs, signal, onProgress } = options;
  const now = await storage.now({ signal });
  const tables = await readTables(parts, await index.list({ signal, newerThan: performance.now() }), signal);
  const condemned = await readTables(parts, await index.listCondemned(signal), signal);
  const { live, dead } = await liveRoots(storage, { now, graceMs, signal });
  // A root that has come since then may be in a table that has come since then.
  index.forget();
  const nodes = createNodeSource(storage.describe(), { index, packs });
  const marker = createMarker(nodes, { signal });
  let done = 0;
  for (const [root, manifest] of live) {
    onProgress?.({ done: done++, total: live.size });
    if (manifest) await nodes.readAhead(manifest.nodes, signal);
    await marker.mark([root]);
  }
  if (marker.missing > 0) {
    throw new LazytreeError('CORRUPT', `${marker.missing} nodes of roots are not in ${storage.describe()}`, {
      hint: 'nothing was removed; push those trees again, or remove their refs',
    });
  }
  // Content keeps a node of the same bytes no more than it keeps what is below that.
  const isLive = (link: Link) =>
    linkCodec(link) === RAW ? marker.has(linkDigest(link)) : marker.hasTree(link);
  const sorted = sortOut({ tables, condemned, isLive });
  await writeTables(parts, { tables, sorted, signal });
  let removedRoots = 0;
  for (const { name, version } of dead) {
    if (await storage.delete(name, { signal, version })) removedRoots += 1;
  }
  const removed = await removePacks(parts, { condemned, now, graceMs, signal });
  index.forget();
  return {
    roots: live.size,
    removedRoots,
    live: blocksOf(sorted.kept),
    condemned: blocksOf(sorted.dropped),
    restored: blocksOf(sorted.restored),
    ...removed,
  };
}

export async function readTables(
  { index }: Pick<CollectParts, 'index'>,
  infos: readonly TableInfo[],
  signal: AbortSignal,
  fresh = false,
): Promise<ReadTable[]> {
  const tables: ReadTable[] = [];
  for (const info of infos) {
    const bytes = await index.read(info, signal, fresh);
    tables.push({ info, frames: framesOf(decodeTable(bytes, info.name)) });
  }
  return tables;
}

interface Sorted {
  /** What is needed, those restored among them. */
  kept: FrameEntries[];
  dropped: FrameEntries[];
  /** What was condemned, and is needed by a push that had looked before. */
  restored: FrameEntries[];
}

export function sortOut({
  tables,
  condemned,
  isLive,
}: {
  tables: readonly ReadTable[];
  condemned: readonly ReadTable[];
  isLive(link: Link): boolean;
}): Sorted {
  const met = new Set<Link>();
  const isNew = (link: Link) => isLive(link) && !met.has(link) && Boolean(met.add(link));
  const entries = tables.flatMap(({ frames }) => frames);
  const dropped = parts(entries, (link) => !isLive(link));
  const there = parts(entries, isNew);
  const restored = parts(
    condemned.flatMap(({ frames }) => frames),
    isNew,
  );
  return { kept: [...there, ...restored], dropped, restored };
}

/** Of each frame the blocks that `isIn` takes; frames without any are left out. */
function parts(entries: readonly FrameEntries[], isIn: (link: Link) => boolean): FrameEntries[] {
  const some: FrameEntries[] = [];
  for (const { frame, links, slots } of entries) {
    const part: FrameEntries = { frame, links: [], slots: [] };
    links.forEach((link, i) => {
      if (!isIn(link)) return;
      part.links.push(link);
      part.slots.push(slots[i]);
    });
    if (part.links.length > 0) some.push(part);
  }
  return some;
}

function blocksOf(entries: readonly FrameEntries[]): number {
  return entries.reduce((sum, { links }) => sum + links.length, 0);
}

/** Puts one set of tables in the place of another. */
export async function writeTables(
  collected: CollectParts,
  { tables, sorted, signal }: { tables: readonly ReadTable[]; sorted: Sorted; signal: AbortSignal },
): Promise<void> {
  const { storage } = collected;
  const { kept, dropped, restored } = sorted;
  const { frames, moved } = await repack(collected, kept, signal);
  if (dropped.length + restored.length + moved.length === 0 && tables.length <= 1) return;
  const written = new Set<string>();
  for (const table of tablesOf(frames)) {
    const name = tableName(digestOf(table));
    written.add(name);
    await storage.put(name, [table], { signal });
  }
  for (const table of tablesOf([...dropped, ...moved])) {
    await storage.put(CONDEMNED + toHex(digestOf(table)), [table], { signal });
  }
  for (const { info } of tables) if (!written.has(info.name)) await storage.delete(info.name, { signal });
}

interface RemoveOptions {
  /** As they were before. */
  condemned: readonly ReadTable[];
  now: number;
  graceMs: number;
  signal: AbortSignal;
}

/** Removes packs that no table has named for the grace period, and such that none has ever named. */
async function removePacks(
  collected: CollectParts,
  { condemned, now, graceMs, signal }: RemoveOptions,
): Promise<{ removed: number; bytes: number }> {
  const { storage, index } = collected;
  const isOld = ({ modified }: { modified: number }) => modified <= now - graceMs;
  // As they are now: pushes go on meanwhile.
  index.forget();
  const condemnedNow = await index.listCondemned(signal);
  const naming = [...(await index.list({ signal })), ...condemnedNow.filter((info) => !isOld(info))];
  const needed = new Set<string>();
  for (const { frames } of await readTables(collected, naming, signal)) {
    for (const { frame } of frames) needed.add(frame.pack);
  }
  const doomed: ObjectInfo[] = [];
  for await (const object of storage.list(PACKS, { signal })) {
    const id = fromHex(object.name.slice(PACKS.length));
    if (id !== undefined && isOld(object) && !needed.has(id)) doomed.push(object);
  }
  let bytes = 0;
  let removed = 0;
  for (const { name, version, size } of doomed) {
    if (!(await storage.delete(name, { signal, version }))) continue;
    removed += 1;
    bytes += size;
  }
  for (const { info } of condemned.filter((table) => isOld(table.info))) {
    await storage.delete(info.name, { signal, version: info.version });
  }
  return { removed, bytes };
}
