import { open } from 'node:fs/promises';
import type { Link } from '../format/link.js';
import { pruneStatCaches } from '../import/stat-caches.js';
import { COLLECTION, newEpoch } from './block-index.js';
import { forgetImports, forgetResolutions, history, listImports, listPins, listRefs } from './catalog.js';
import type { BatchedRecord, LocalStore } from './local.js';
import { createMarker, type Marker } from './mark.js';
import { RECORD_HEADER } from './record.js';
import { scanSegment } from './scan.js';
import { SEGMENT_HEADER } from './segments.js';

export interface GcOptions {
  /** Roots to keep besides those that pins and refs name. */
  roots?: Iterable<Link>;
  /** Snapshots of each ref whose roots are kept. Default: all of them. */
  keep?: number;
  /** A segment is rewritten when at least this part of it is dead. Default 0.1. */
  deadRatio?: number;
  /** Only count. */
  dryRun?: boolean;
  signal?: AbortSignal;
  onProgress?: (progress: GcProgress) => void;
}

export interface GcProgress {
  phase: 'mark' | 'sweep' | 'rewrite';
  done: number;
}

export interface GcReport {
  kept: number;
  removed: number;
  /** Bytes by which the segments became smaller. */
  reclaimed: number;
  /** Reachable blocks that are not here. */
  missing: number;
}

const SWEEP_BATCH = 1000;
const REWRITE_BYTES = 4 << 20;

/**
 * Removes what no pin, ref or lease can reach, and gives its space back. Safe while imports run in this process:
 * they hold a lease (see LocalStore.lease).
 */
export async function gc(store: LocalStore, options: GcOptions = {}): Promise<GcReport> {
  // What was put before is not what is put meanwhile.
  await store.flush();
  const leased = store.beginCollection();
  try {
    return await collect(store, { ...options, roots: [...(options.roots ?? []), ...leased] });
  } finally {
    store.endCollection();
  }
}

async function collect(store: LocalStore, options: GcOptions): Promise<GcReport> {
  const { deadRatio = 0.1, dryRun = false, signal, onProgress } = options;
  await store.segments.roll();
  // What was on its way to the sealed segments is in the index from here on.
  await store.flush();
  const sealed = store.segments.sealed();

  onProgress?.({ phase: 'mark', done: 0 });
  const marked = createMarker(store, signal ? { signal } : {});
  await marked.mark(await rootsToKeep(store, options, marked));

  if (!dryRun) {
    await store.index.write({ texts: [newEpoch(COLLECTION)], durable: true });
    await pruneStatCaches(store.directory, marked.hasTree);
  }

  const live = new Map<number, LiveRecords>();
  const report = { kept: 0, removed: 0, reclaimed: 0 };
  let doomed = new Map<string, LiveRecords & { segment: number }>();
  for await (const [digest, { segment, offset, stored }] of store.index.entries()) {
    signal?.throwIfAborted();
    if (marked.has(digest)) {
      report.kept += 1;
      addLive(live, segment, { bytes: RECORD_HEADER + stored, end: offset + RECORD_HEADER + stored });
      continue;
    }
    doomed.set(digest, { segment, bytes: RECORD_HEADER + stored, end: offset + RECORD_HEADER + stored });
    if (doomed.size < SWEEP_BATCH) continue;
    await forgetDoomed();
    onProgress?.({ phase: 'sweep', done: report.removed });
  }
  await forgetDoomed();

  /** A tree that was named since the marking is marked now. */
  async function forgetDoomed(): Promise<void> {
    await marked.mark(store.takeLateRoots());
    const dead = [...doomed.keys()].filter((digest) => !marked.has(digest));
    const staying = dryRun ? new Set<string>() : await store.forgetUntouched(dead);
    report.removed += dead.length - staying.size;
    for (const [digest, record] of doomed) {
      if (marked.has(digest) || staying.has(digest)) addLive(live, record.segment, record);
    }
    doomed = new Map();
  }

  for (const [segment, length] of sealed) {
    const { bytes, end } = live.get(segment) ?? NOTHING_LIVE;
    if (dryRun) {
      if (length - bytes >= length * deadRatio) report.reclaimed += length - bytes;
      continue;
    }
    // Dead records at the end, such as a failed import leaves, go without a copy of anything: also on a full disk.
    if (end === SEGMENT_HEADER) await store.dropSegment(segment);
    else if (end < length) await store.truncateSegment(segment, end);
    const keep = end === SEGMENT_HEADER || end - bytes < end * deadRatio;
    report.reclaimed += length - (keep ? end : await rewriteSegment(store, segment, signal));
    onProgress?.({ phase: 'rewrite', done: report.reclaimed });
  }
  if (!dryRun) {
    const gone = (await listImports(store)).filter(({ root }) => !store.locate(root));
    await forgetImports(
      store,
      gone.map(({ root }) => root),
    );
    await forgetResolutions(store);
  }
  return { ...report, missing: marked.missing };
}

interface LiveRecords {
  /** What they take, with the segment's header. */
  bytes: number;
  /** Where the last one ends. */
  end: number;
}

const NOTHING_LIVE: LiveRecords = { bytes: SEGMENT_HEADER, end: SEGMENT_HEADER };

function addLive(live: Map<number, LiveRecords>, segment: number, { bytes, end }: LiveRecords): void {
  const known = live.get(segment) ?? NOTHING_LIVE;
  live.set(segment, { bytes: known.bytes + bytes, end: Math.max(known.end, end) });
}

/** Snapshots themselves are marked here; their roots are for `mark`. */
async function rootsToKeep(
  store: LocalStore,
  { roots = [], keep = Number.POSITIVE_INFINITY }: GcOptions,
  marked: Marker,
): Promise<Link[]> {
  const found = [...roots, ...(await listPins(store)).map(({ root }) => root)];
  for (const ref of await listRefs(store)) {
    found.push(ref.root);
    let count = 0;
    for await (const { link, snapshot } of history(store, ref)) {
      if (count++ >= keep) break;
      marked.add(link);
      found.push(snapshot.root);
    }
  }
  return found;
}

/** Copies what the index still finds in `segment` to the current one. Returns the bytes copied. */
export async function rewriteSegment(
  store: LocalStore,
  segment: number,
  signal?: AbortSignal,
): Promise<number> {
  let batch: Buffer[] = [];
  let records: BatchedRecord[] = [];
  let bytes = 0;
  let copied = 0;
  let damaged = false;
  const append = async () => {
    if (batch.length > 0) await store.append(Buffer.concat(batch), records);
    batch = [];
    records = [];
    bytes = 0;
  };
  const handle = await open(store.segments.path(segment), 'r');
  try {
    for await (const found of scanSegment(handle, store.segments.lengths().get(segment) ?? 0)) {
      signal?.throwIfAborted();
      if (found.kind === 'damage') {
        damaged = true;
        continue;
      }
      const { digest, offset, header, record } = found;
      const location = store.index.find(digest);
      if (location?.segment !== segment || location.offset !== offset) continue;
      const { stored, raw, compression } = header;
      records.push({ digest, offset: bytes, stored, raw, compression });
      batch.push(Buffer.from(record));
      bytes += record.length;
      copied += record.length;
      if (bytes >= REWRITE_BYTES) await append();
    }
    await append();
  } finally {
    await handle.close();
  }
  await store.flush();
  if (damaged && (await isStillUsed(store, segment))) return store.segments.lengths().get(segment) ?? 0;
  await store.dropSegment(segment);
  return copied;
}

/** Whether the index still points into `segment`: to records too damaged to copy, which stay for `verify`. */
async function isStillUsed(store: LocalStore, segment: number): Promise<boolean> {
  for await (const [, location] of store.index.entries()) if (location.segment === segment) return true;
  return false;
}
