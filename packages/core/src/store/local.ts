import fs from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { BlockMissingError, errnoOf, fromSystemError, LazytreeError } from '../errors.js';
import { formatLink, type Link, linkDigest, makeLink } from '../format/link.js';
import { adoptRecords } from './adopt.js';
import {
  type BlockIndex,
  COLLECTION,
  corrupt,
  EPOCH,
  type Location,
  newEpoch,
  openBlockIndex,
} from './block-index.js';
import type { PrunableStore } from './block-store.js';
import { createFingerprintSet, type FingerprintSet } from './fingerprint-set.js';
import { createMutex } from './mutex.js';
import {
  type BatchedRecord,
  blockOfRecord,
  encodeRecord,
  RECORD_HEADER,
  type RecordHeader,
  readRecordHeader,
  recordContent,
} from './record.js';
import { openSegments, type Segments, segmentNumber } from './segments.js';

const FORMAT = 'lazytree store 1\n';
/** Pending bytes or blocks that start a commit without anyone asking for it. */
const COMMIT_BYTES = 16 << 20;
const COMMIT_BLOCKS = 4096;
/**
 * Reads wait for nothing. A walk that asks for one block after another lets signals, timers and other callers have their
 * turn that often.
 */
const SLICE_MS = 5;
/** Bytes of small blocks that are written together. */
const BUFFERED_BYTES = 1 << 20;
/** With so many times that much pending, writers wait for the commit that is under way. */
const COMMITS_BEHIND = 4;

export interface LocalStoreOptions {
  /** Make the store when there is none. */
  create?: boolean;
  /** Bytes after which a segment is followed by a new one. Default 256 MiB. */
  segmentBytes?: number;
}

export type { BatchedRecord } from './record.js';

export interface Lease {
  /** False when a collection was under way already: then nothing but what was touched since is safe. */
  readonly complete: boolean;
  release(): void;
}

/**
 * The store of one machine: a LevelDB index over append-only segments (docs/store.md). One process has it open
 * at a time.
 */
export interface LocalStore extends PrunableStore {
  readonly directory: string;
  readonly index: BlockIndex;
  readonly segments: Segments;
  /** Appends whole records at once, given as one part or several; like `put` for each of them. */
  append(bytes: Uint8Array | readonly Uint8Array[], records: readonly BatchedRecord[]): Promise<void>;
  /** Whether the block is here and appended; like `has`, without waiting. */
  holds(digest: string): boolean;
  /** Where a block's record is, without reading it. */
  locate(link: Link): Location | undefined;
  /**
   * Until it is released, gc keeps every block that was put or found here and all that is below `roots`, and no
   * segment file goes away. Every import and every bulk read holds one.
   */
  lease(roots?: readonly Link[]): Lease;
  /** Begins a collection, which has to keep all that is below the roots returned. One at a time. */
  beginCollection(): Link[];
  endCollection(): void;
  /** Says that a root is being named or pinned: a collection that is under way keeps it, too. */
  keepRoot(root: Link): void;
  /** The roots named since the last call, for the collection. */
  takeLateRoots(): Link[];
  /** Another one whenever blocks have gone otherwise than by gc. */
  epoch(): string;
  /** Another one whenever gc has removed blocks. */
  collection(): string;
  /** Forgets blocks that are no longer what they were. */
  forget(digests: readonly string[]): Promise<void>;
  /** Forgets blocks unless a lease has touched them. Returns those that stay. */
  forgetUntouched(digests: readonly string[]): Promise<Set<string>>;
  /** Cuts the dead end off a segment that nothing is appended to any more. */
  truncateSegment(segment: number, length: number): Promise<void>;
  /** Drops a segment whose blocks are all elsewhere; its file goes when no lease is held. */
  dropSegment(segment: number): Promise<void>;
}

/**
 * @throws LazytreeError LOCKED (with the holder's pid), NOT_FOUND without `create`, UNSUPPORTED for another
 * version, REFUSED for a read-only place
 */
export async function openLocalStore(
  directory: string,
  options: LocalStoreOptions = {},
): Promise<LocalStore> {
  const { create = true, segmentBytes = 256 << 20 } = options;
  await prepareDirectory(directory, create);
  const index = await openIndexLocked(directory);
  let segments: Segments;
  let committed: Map<number, number>;
  try {
    committed = await index.committedLengths();
    await adoptRecords(join(directory, 'segments'), index, committed);
    segments = openSegments(join(directory, 'segments'), committed, segmentBytes);
  } catch (error) {
    await index.close();
    throw fromSystemError(error, `opening the store ${directory}`);
  }
  return localStore(directory, index, segments, { acknowledged: committed, segmentBytes });
}

async function prepareDirectory(directory: string, create: boolean): Promise<void> {
  const formatFile = join(directory, 'format');
  try {
    const format = fs.readFileSync(formatFile, 'utf8');
    if (format !== FORMAT) {
      const found = JSON.stringify(format.trim().slice(0, 40));
      throw new LazytreeError(
        'UNSUPPORTED',
        `the store ${directory} has format ${found}, not 'lazytree store 1'`,
        {
          hint: 'use the version of lazytree that made it, or another LAZYTREE_HOME',
        },
      );
    }
    fs.accessSync(directory, fs.constants.W_OK);
    return;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw fromSystemError(error, `opening the store ${directory}`);
  }
  if (!create) {
    throw new LazytreeError('NOT_FOUND', `there is no store in ${directory}`, {
      hint: 'import something first, or set LAZYTREE_HOME',
    });
  }
  try {
    await mkdir(join(directory, 'segments'), { recursive: true });
    const draft = `${formatFile}.${process.pid}`;
    await writeFile(draft, FORMAT, { flush: true });
    await rename(draft, formatFile);
  } catch (error) {
    throw fromSystemError(readOnlyReason(directory) ?? error, `creating the store ${directory}`);
  }
}

/** A recursive mkdir says ENOENT where the nearest directory that is there cannot be written to. */
function readOnlyReason(directory: string): unknown {
  let nearest = directory;
  while (!fs.existsSync(nearest) && dirname(nearest) !== nearest) nearest = dirname(nearest);
  try {
    fs.accessSync(nearest, fs.constants.W_OK);
    return undefined;
  } catch (error) {
    return error;
  }
}

/** LevelDB holds the lock (fcntl); the `lock` file only says who. */
async function openIndexLocked(directory: string): Promise<BlockIndex> {
  const lockFile = join(directory, 'lock');
  const indexDirectory = join(directory, 'index');
  const holdsSegments = hasSegments(directory);
  if (!fs.existsSync(indexDirectory) && holdsSegments) throw corrupt(indexDirectory, 'it is gone');
  try {
    const index = await openWithReserve(directory, () => openBlockIndex(indexDirectory));
    try {
      if (index.getText('meta', EPOCH) === undefined) {
        if (holdsSegments) throw corrupt(indexDirectory, 'it has lost its content');
        await index.write({ texts: [newEpoch()], durable: true });
      }
      writeLock(directory, lockFile);
    } catch (error) {
      await index.close();
      throw fromSystemError(error, `locking the store ${directory}`);
    }
    const { close } = index;
    return {
      ...index,
      async close() {
        fs.rmSync(lockFile, { force: true });
        await close();
      },
    };
  } catch (error) {
    if (!(error instanceof LazytreeError) || error.code !== 'LOCKED') throw error;
    throw new LazytreeError('LOCKED', `the store ${directory} is locked by ${holder(lockFile)}`, {
      cause: error,
      hint: 'wait for it to end, or stop it',
    });
  }
}

function writeLock(directory: string, lockFile: string): void {
  try {
    fs.writeFileSync(lockFile, `${process.pid}\n`);
  } catch (error) {
    if (errnoOf(error) !== 'ENOSPC') throw error;
    fs.rmSync(join(directory, 'reserve'), { force: true });
    fs.writeFileSync(lockFile, `${process.pid}\n`);
  }
}

function hasSegments(directory: string): boolean {
  try {
    return fs.readdirSync(join(directory, 'segments')).some((name) => segmentNumber(name) !== undefined);
  } catch (error) {
    throw fromSystemError(error, `opening the store ${directory}`);
  }
}

/** Space that is kept so that a store on a full disk can be opened, and made smaller. */
const RESERVE_BYTES = 1 << 20;

async function openWithReserve(directory: string, open: () => Promise<BlockIndex>): Promise<BlockIndex> {
  const reserve = join(directory, 'reserve');
  try {
    const index = await open();
    keepReserve(reserve);
    return index;
  } catch (error) {
    if (!(error instanceof LazytreeError) || error.code !== 'NO_SPACE' || !fs.existsSync(reserve))
      throw error;
    await rm(reserve);
    return open();
  }
}

function keepReserve(reserve: string): void {
  if (fs.statSync(reserve, { throwIfNoEntry: false })?.size === RESERVE_BYTES) return;
  try {
    fs.writeFileSync(reserve, Buffer.alloc(RESERVE_BYTES));
  } catch (error) {
    // There is no space to keep; a part of it must not take what is left.
    fs.rmSync(reserve, { force: true });
    if (errnoOf(error) !== 'ENOSPC' && errnoOf(error) !== 'EDQUOT') throw error;
  }
}

/** The holder writes its pid right after it has the lock. */
function holder(lockFile: string): string {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  for (let attempt = 0; attempt < 20; attempt++) {
    try {
      const pid = Number(fs.readFileSync(lockFile, 'utf8'));
      if (pid > 0 && fs.existsSync(`/proc/${pid}`)) return `process ${pid}`;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
    Atomics.wait(nap, 0, 0, 10);
  }
  return 'another process';
}

function headerOf(record: Buffer): RecordHeader {
  const header = readRecordHeader(record, 0);
  if (!header) throw new Error('a record of our own without a header');
  return header;
}

function localStore(
  directory: string,
  index: BlockIndex,
  segments: Segments,
  { acknowledged, segmentBytes }: { acknowledged: Map<number, number>; segmentBytes: number },
): LocalStore {
  const name = `local(${directory})`;
  const writing = createMutex();
  const draining = createMutex();
  /** Put, not yet appended: small blocks are written together. */
  let buffered = new Map<string, Buffer>();
  let bufferedBytes = 0;
  /** Being appended. */
  let appending = new Map<string, Buffer>();
  /** Appended, not yet in the index. */
  let pending = new Map<string, Location>();
  /** On its way into the index. */
  let committing = new Map<string, Location>();
  /** On its way out of the index. */
  let dying = new Set<string>();
  let pendingBytes = 0;
  /** All that was ever appended, when there was nothing to begin with: a first import need not look for every block. */
  const known = acknowledged.size > 0 ? undefined : createFingerprintSet();
  let background: Promise<void> | undefined;
  let backgroundError: unknown;
  let lastFlush = Promise.resolve();
  /** Waits for the one before. */
  let nextFlush: Promise<void> | undefined;
  let sliceEnd = performance.now() + SLICE_MS;
  const leases = new Map<Lease, readonly Link[]>();
  let collecting = false;
  let lateRoots: Link[] = [];
  let touched: FingerprintSet = createFingerprintSet();
  let unwanted: number[] = [];

  function find(digest: string): Location | undefined {
    if (known?.has(digest) === false) return undefined;
    const location = pending.get(digest) ?? committing.get(digest);
    if (location || dying.has(digest)) return location;
    return index.find(digest);
  }

  function isHere(digest: string): boolean {
    return buffered.has(digest) || appending.has(digest) || find(digest) !== undefined;
  }

  function touch(digest: string): void {
    if (leases.size > 0 || collecting) touched.add(digest);
  }

  /** Appends what is buffered. After a failure it is still there, and the next call tries again. */
  const appendBuffered = () =>
    draining(async () => {
      if (buffered.size === 0) return;
      appending = buffered;
      buffered = new Map();
      bufferedBytes = 0;
      const records: BatchedRecord[] = [];
      let offset = 0;
      for (const [digest, record] of appending) {
        const { stored, raw, compression } = headerOf(record);
        records.push({ digest, offset, stored, raw, compression });
        offset += record.length;
      }
      try {
        await appendBatch([Buffer.concat([...appending.values()], offset)], records);
      } catch (error) {
        buffered = new Map([...appending, ...buffered]);
        bufferedBytes += offset;
        throw error;
      } finally {
        appending = new Map();
      }
    });

  /** Payload before index: what the index names is on disk. */
  async function commit(durable: boolean): Promise<void> {
    await appendBuffered();
    return writing(async () => {
      if (pending.size > 0) {
        committing = pending;
        pending = new Map();
        pendingBytes = 0;
      }
      try {
        const lengths = await segments.sync();
        await index.write({ blocks: committing, segments: lengths, durable });
        for (const [segment, length] of lengths) acknowledged.set(segment, length);
        committing = new Map();
      } catch (error) {
        pending = new Map([...committing, ...pending]);
        committing = new Map();
        throw fromSystemError(error, `writing to ${directory}`);
      }
    });
  }

  async function commitWhenDue(): Promise<void> {
    if (backgroundError) {
      const error = backgroundError;
      backgroundError = undefined;
      throw error;
    }
    const due = Math.max(pendingBytes / COMMIT_BYTES, pending.size / COMMIT_BLOCKS);
    if (due < 1) return;
    if (background && due < COMMITS_BEHIND) return;
    await background;
    background = commit(false)
      .catch((error: unknown) => {
        backgroundError = error;
      })
      .finally(() => {
        background = undefined;
      });
  }

  async function flushNow(): Promise<void> {
    await background;
    await commit(true);
    if (backgroundError) {
      const error = backgroundError;
      backgroundError = undefined;
      throw error;
    }
  }

  /** All who come before one begins share it: many small trees at a time are written with few syncs. */
  function flush(): Promise<void> {
    nextFlush ??= lastFlush.then(() => {
      nextFlush = undefined;
      return flushNow();
    });
    lastFlush = nextFlush.catch(() => undefined);
    return nextFlush;
  }

  async function append(
    bytes: Uint8Array | readonly Uint8Array[],
    records: readonly BatchedRecord[],
  ): Promise<void> {
    for (const { digest } of records) touch(digest);
    await appendBatch(bytes instanceof Uint8Array ? [bytes] : bytes, records);
    await commitWhenDue();
  }

  async function appendBatch(parts: readonly Uint8Array[], records: readonly BatchedRecord[]): Promise<void> {
    const { segment, offset } = await segments.append(parts);
    for (const { digest, offset: at, stored, raw, compression } of records) {
      known?.add(digest);
      pending.set(digest, { segment, offset: offset + at, stored, raw, compression });
    }
    for (const { length } of parts) pendingBytes += length;
  }

  function read(link: Link, location: Location): Uint8Array {
    return blockOfRecord(link, segments.read(location, RECORD_HEADER + location.stored), directory);
  }

  async function forget(digests: readonly string[]): Promise<void> {
    await writing(() => index.write({ forget: digests, texts: [newEpoch()], durable: true }));
  }

  async function nextSlice(): Promise<void> {
    await yieldToEvents();
    sliceEnd = performance.now() + SLICE_MS;
  }

  async function dropSegments(): Promise<void> {
    if (leases.size > 0) return;
    const drop = unwanted;
    unwanted = [];
    for (const segment of drop) await segments.remove(segment);
  }

  return {
    directory,
    index,
    segments,
    describe: () => name,
    append,
    async get(link, { signal } = {}) {
      if (performance.now() > sliceEnd) await nextSlice();
      signal?.throwIfAborted();
      const digest = linkDigest(link);
      const record = buffered.get(digest) ?? appending.get(digest);
      if (record) return recordContent(record, 0, headerOf(record));
      const location = find(digest);
      if (!location) throw new BlockMissingError(formatLink(link), name);
      return read(link, location);
    },
    async has(link, { signal } = {}) {
      if (performance.now() > sliceEnd) await nextSlice();
      signal?.throwIfAborted();
      const digest = linkDigest(link);
      if (!isHere(digest)) return false;
      touch(digest);
      return true;
    },
    holds(digest) {
      const found = find(digest) !== undefined;
      if (found) touch(digest);
      return found;
    },
    locate(link) {
      const location = find(linkDigest(link));
      if (location) touch(linkDigest(link));
      return location;
    },
    async put({ link, bytes }, { signal } = {}) {
      signal?.throwIfAborted();
      const digest = linkDigest(link);
      touch(digest);
      if (isHere(digest)) return;
      const record = encodeRecord(link, bytes);
      buffered.set(digest, record);
      bufferedBytes += record.length;
      if (bufferedBytes < Math.min(BUFFERED_BYTES, segmentBytes)) return;
      await appendBuffered();
      await commitWhenDue();
    },
    flush: () => flush(),
    async *links({ signal } = {}) {
      await commit(false);
      for await (const [digest, location] of index.entries()) {
        signal?.throwIfAborted();
        const header = readRecordHeader(segments.read(location, RECORD_HEADER), 0);
        yield header?.link ?? makeLink(0x55, digest);
      }
    },
    async delete(links) {
      await commit(false);
      await forget(links.map(linkDigest));
    },
    lease(roots = []) {
      const lease = {
        complete: !collecting,
        release() {
          if (!leases.delete(lease) || leases.size > 0) return;
          if (!collecting) touched = createFingerprintSet();
          dropSegments().catch((error: unknown) => {
            backgroundError = error;
          });
        },
      };
      leases.set(lease, roots);
      return lease;
    },
    beginCollection() {
      if (collecting) throw new LazytreeError('FAILED', `gc of ${directory} is running already`);
      collecting = true;
      return [...leases.values()].flat();
    },
    endCollection() {
      collecting = false;
      lateRoots = [];
      if (leases.size === 0) touched = createFingerprintSet();
    },
    keepRoot(root) {
      if (collecting) lateRoots.push(root);
    },
    takeLateRoots() {
      const roots = lateRoots;
      lateRoots = [];
      return roots;
    },
    epoch: () => index.getText('meta', EPOCH) ?? '',
    collection: () => index.getText('meta', COLLECTION) ?? '',
    forget,
    async forgetUntouched(digests) {
      return writing(async () => {
        const doomed = digests.filter(
          (digest) => !touched.has(digest) && !pending.has(digest) && !buffered.has(digest),
        );
        const staying = new Set(digests);
        dying = new Set(doomed);
        try {
          await index.write({ forget: doomed });
        } finally {
          dying = new Set();
        }
        for (const digest of doomed) staying.delete(digest);
        return staying;
      });
    },
    async truncateSegment(segment, length) {
      await writing(() => index.write({ segments: [[segment, length]], durable: true }));
      acknowledged.set(segment, length);
      segments.truncate(segment, length);
    },
    async dropSegment(segment) {
      await writing(() => index.write({ forgetSegments: [segment], durable: true }));
      acknowledged.delete(segment);
      segments.retire(segment);
      unwanted.push(segment);
      await dropSegments();
    },
    async close() {
      await background;
      try {
        await commit(true);
        await dropSegments();
      } catch (error) {
        // What could not be committed is lost with this process; its bytes must not fill the disk as well.
        segments.revert(acknowledged);
        throw error;
      } finally {
        segments.close();
        await index.close();
      }
    },
  };
}
