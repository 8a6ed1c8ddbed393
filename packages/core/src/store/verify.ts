import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { LazytreeError } from '../errors.js';
import { digestOf, formatLink, type Link, linkDigest, makeLink, RAW } from '../format/link.js';
import { pruneStatCaches } from '../import/stat-caches.js';
import { findUses, type NamedRoot, type Use } from '../tree/uses.js';
import { adoptRecords } from './adopt.js';
import { type BlockSource, forwarding, type StoreOptions } from './block-store.js';
import { dropUnreadable, history, listImports, listPins, listRefs } from './catalog.js';
import { createFingerprintSet, type FingerprintSet } from './fingerprint-set.js';
import { rewriteSegment } from './gc.js';
import { damagedTables } from './index-damage.js';
import type { LocalStore } from './local.js';
import { PayloadError, type RecordHeader, recordContent } from './record.js';
import { scanSegment } from './scan.js';
import { segmentHeader } from './segments.js';

export interface BadBlock {
  cid: string;
  problem: 'corrupt' | 'missing';
  reason: string;
  /** Where the block is used, in the trees whose roots the store knows. */
  uses: Use[];
}

export interface Damage {
  file: string;
  offset: number;
  length: number;
}

export interface VerifyReport {
  /** Records, or blocks of the tree, that were read. */
  blocks: number;
  /** Their bytes, decompressed. */
  bytes: number;
  bad: BadBlock[];
  /** Damaged stretches of segments, whether or not a block that is in use lies there, and of the index's tables. */
  damage: Damage[];
  /** Corrupt blocks that `repair` dropped, so that the next import or fetch brings them again. */
  dropped: number;
  /** Blocks that `repair` has found in segments though the index did not lead to them. */
  recovered: number;
  /** What is wrong with entries of the index, refs among them, that `repair` has removed since they could not be read. */
  lost: string[];
}

function newReport(): VerifyReport {
  return { blocks: 0, bytes: 0, bad: [], damage: [], dropped: 0, recovered: 0, lost: [] };
}

export interface VerifyOptions {
  repair?: boolean;
  signal?: AbortSignal;
  onProgress?: (progress: { blocks: number; bytes: number }) => void;
}

/** Reads and hashes every record of every segment, then looks for what the index or a known root lacks. */
export async function verifyStore(store: LocalStore, options: VerifyOptions = {}): Promise<VerifyReport> {
  await store.flush();
  const lease = store.lease();
  try {
    const report = newReport();
    if (options.repair) report.lost = await dropUnreadable(store);
    const scanned = store.segments.lengths();
    const good = await scanStore(store, report, { ...options, scanned });
    const corrupt = await corruptEntries(store, good, scanned);
    report.bad = await describeBad(store, await knownRoots(store), corrupt, options);
    if (options.repair) {
      await dropAndRecover(store, report, corrupt);
      await rewriteDamaged(store, report.damage, options.signal);
    }
    report.damage.push(...(await damagedTables(join(store.directory, 'index'))));
    return report;
  } finally {
    lease.release();
  }
}

/** Drops what is corrupt, and looks in the segments for what the index lacks. What is still not here, imports bring. */
async function dropAndRecover(
  store: LocalStore,
  report: VerifyReport,
  corrupt: ReadonlyMap<string, unknown>,
): Promise<void> {
  if (report.bad.length === 0 && corrupt.size === 0) return;
  report.dropped = corrupt.size;
  if (corrupt.size > 0) await store.forget([...corrupt.keys()]);
  await store.flush();
  const segments = join(store.directory, 'segments');
  report.recovered = await adoptRecords(segments, store.index, new Map(), corrupt);
  await pruneStatCaches(store.directory, () => false);
}

/** Moves what is whole out of damaged segments, and drops those. */
async function rewriteDamaged(
  store: LocalStore,
  damage: readonly Damage[],
  signal?: AbortSignal,
): Promise<void> {
  const damaged = new Set(damage.map(({ file }) => file));
  if (damaged.size === 0) return;
  await store.segments.roll();
  await store.flush();
  for (const segment of store.segments.lengths().keys()) {
    if (damaged.has(store.segments.path(segment))) await rewriteSegment(store, segment, signal);
  }
}

/** Tells the places of one digest apart. */
const placeSalt = (segment: number, offset: number) => Math.imul(segment, 0x01000193) ^ offset;

/** Returns the digests, each with its place, of all records that are what they say. */
async function scanStore(
  store: LocalStore,
  report: VerifyReport,
  { scanned, signal, onProgress }: VerifyOptions & { scanned: Map<number, number> },
): Promise<FingerprintSet> {
  const good = createFingerprintSet();
  for (const [segment, length] of scanned) {
    const file = store.segments.path(segment);
    const handle = await open(file, 'r').catch((cause: unknown) => {
      report.damage.push({ file, offset: 0, length });
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    });
    if (!handle) continue;
    try {
      const header = segmentHeader(segment);
      const { buffer } = await handle.read(Buffer.alloc(header.length), 0, header.length, 0);
      if (!buffer.equals(header)) report.damage.push({ file, offset: 0, length: header.length });
      for await (const found of scanSegment(handle, length)) {
        signal?.throwIfAborted();
        if (found.kind === 'damage') {
          report.damage.push({ file, offset: found.offset, length: found.length });
          continue;
        }
        report.blocks += 1;
        report.bytes += found.header.raw;
        if (isWhole(found.digest, found.record, found.header)) {
          good.add(found.digest, placeSalt(segment, found.offset));
        } else report.damage.push({ file, offset: found.offset, length: found.record.length });
        onProgress?.({ blocks: report.blocks, bytes: report.bytes });
      }
    } finally {
      await handle.close();
    }
  }
  return good;
}

function isWhole(digest: string, record: Buffer, header: RecordHeader): boolean {
  try {
    return digestOf(recordContent(record, 0, header)) === digest;
  } catch (error) {
    if (error instanceof PayloadError) return false;
    throw error;
  }
}

/** Blocks that the index has in places where no good record of them is, with what is wrong. */
async function corruptEntries(
  store: LocalStore,
  good: FingerprintSet,
  scanned: ReadonlyMap<number, number>,
): Promise<Map<string, string>> {
  const corrupt = new Map<string, string>();
  for await (const [digest, { segment, offset }] of store.index.entries()) {
    if (good.has(digest, placeSalt(segment, offset))) continue;
    // Written, by this process, since the scan.
    if (offset >= (scanned.get(segment) ?? 0) && offset < (store.segments.lengths().get(segment) ?? 0))
      continue;
    corrupt.set(digest, `damaged in ${store.segments.path(segment)} at byte ${offset}`);
  }
  return corrupt;
}

async function knownRoots(store: LocalStore): Promise<NamedRoot[]> {
  const roots = new Map<Link, string>();
  for (const { root } of await listImports(store)) roots.set(root, formatLink(root));
  for (const { root } of await listPins(store)) roots.set(root, formatLink(root));
  for (const ref of await listRefs(store)) {
    try {
      for await (const { snapshot } of history(store, ref))
        roots.set(snapshot.root, formatLink(snapshot.root));
    } catch (error) {
      // A snapshot that cannot be read is among the corrupt blocks; the ref's own root is known without it.
      if (!(error instanceof LazytreeError)) throw error;
    }
    roots.set(ref.root, ref.name);
  }
  return [...roots].map(([link, name]) => ({ link, name }));
}

async function describeBad(
  store: BlockSource,
  roots: readonly NamedRoot[],
  corrupt: ReadonlyMap<string, string>,
  options: StoreOptions,
): Promise<BadBlock[]> {
  const { uses, missing } = await findUses(store, roots, new Set(corrupt.keys()), options);
  const bad: BadBlock[] = [];
  for (const [digest, reason] of corrupt) {
    const found = uses.get(digest);
    const cid = formatLink(found?.link ?? makeLink(RAW, digest));
    bad.push({ cid, problem: 'corrupt', reason, uses: found?.uses ?? [] });
  }
  for (const { link, uses: needed } of missing.values()) {
    bad.push({ cid: formatLink(link), problem: 'missing', reason: 'not in the store', uses: needed });
  }
  return bad;
}

/** Reads and hashes every block of one tree, wherever `store` gets them from. */
export async function verifyTree(
  store: BlockSource,
  root: NamedRoot,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const { signal, onProgress } = options;
  const report = newReport();
  const corrupt = new Map<string, string>();
  const counted = createFingerprintSet();
  const checked: BlockSource = {
    ...forwarding(store),
    async get(link, getOptions) {
      try {
        const bytes = await store.get(link, getOptions);
        if (counted.add(linkDigest(link))) {
          report.blocks += 1;
          report.bytes += bytes.length;
          onProgress?.({ blocks: report.blocks, bytes: report.bytes });
        }
        if (digestOf(bytes) === linkDigest(link)) return bytes;
        throw new LazytreeError('CORRUPT', 'its content has another hash');
      } catch (error) {
        if (error instanceof LazytreeError && error.code === 'CORRUPT')
          corrupt.set(linkDigest(link), error.message);
        throw error;
      }
    },
  };
  const { uses, missing } = await findUses(checked, [root], new Set(), { signal, readContent: true });
  for (const { link, uses: where } of uses.values()) {
    const reason = corrupt.get(linkDigest(link)) ?? 'it is not a valid node';
    report.bad.push({ cid: formatLink(link), problem: 'corrupt', reason, uses: where });
  }
  for (const { link, uses: where } of missing.values()) {
    report.bad.push({ cid: formatLink(link), problem: 'missing', reason: 'not in the store', uses: where });
  }
  if (options.repair && 'forget' in store) await dropAndRecover(store as LocalStore, report, corrupt);
  return report;
}
