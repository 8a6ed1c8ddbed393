import { setTimeout as sleep, setImmediate as yieldToEvents } from 'node:timers/promises';
import {
  type BatchedRecord,
  contentOfRecord,
  encodeRecords,
  type Link,
  type LocalStore,
  linkDigest,
  splitReceived,
} from '@lazytree/core';
import { createSpareBlocks } from './spare-blocks.js';

/** Whole records, found true. */
export interface Batch {
  bytes: Buffer;
  records: readonly BatchedRecord[];
}

/** A block that this process has hashed. */
export interface HashedBlock {
  link: Link;
  bytes: Uint8Array;
}

export interface KeepOptions {
  /** The store has them, and not as they should be. */
  damaged?: boolean;
}

/** Puts what has come into the store, many records at a time. */
export interface BlockWriter {
  /**
   * Resolves when the store has them, or else to the reason why it cannot take them: then they are remembered for as
   * long as there is room. From the call on, `find` finds them.
   */
  keep(batch: Batch, options?: KeepOptions): Promise<Error | undefined>;
  /** The same for a block that came without a record, which is not remembered. */
  put(link: Link, bytes: Uint8Array, options?: KeepOptions): Promise<Error | undefined>;
  /**
   * The same for blocks without records, which are made and kept a part at a time, from `after` milliseconds on: whoever
   * only wants to read them need not wait for that. Resolves as soon as the next ones may come.
   *
   * @returns `kept` resolves to whether the store has them
   */
  keepLater(blocks: readonly HashedBlock[], options: { after: number }): Promise<{ kept: Promise<boolean> }>;
  /** What is on its way to the store, or could not be kept there. */
  find(link: Link): Uint8Array | undefined;
  /** Whether a block is on its way to the store. */
  isComing(digest: string): boolean;
  /** Resolves when what was to be kept later is kept, or cannot be. */
  close(): Promise<void>;
}

export interface BlockWriterOptions {
  store: LocalStore;
  /** Told of blocks that the store has got. */
  onKept(records: readonly BatchedRecord[]): void;
  /** Told each time that blocks are not on their way to the store any more, and have not come there. */
  onFailed(): void;
  /** Told of blocks that could not be kept, once in a while. */
  onNotKept(error: unknown, blocks: number): void;
}

/** Blocks that come within this are made durable together. */
const FLUSH_MS = 500;
/** Bytes that are appended together. */
const GROUP_BYTES = 4 << 20;
const TELL_MS = 10_000;
/** Bytes of blocks of which records are made at a time: some milliseconds' work. */
const PART_BYTES = 128 << 10;
/** Bytes of blocks that may wait for that. */
const LATER_BYTES = 32 << 20;

interface Group {
  batches: Batch[];
  bytes: number;
  damaged: string[];
  done: PromiseWithResolvers<Error | undefined>;
}

export function createBlockWriter({ store, onKept, onFailed, onNotKept }: BlockWriterOptions): BlockWriter {
  const coming = new Map<string, { bytes: Buffer; record: BatchedRecord }>();
  const later = new Map<string, HashedBlock>();
  let laterBytes = 0;
  let lastOfLater: Promise<boolean> = Promise.resolve(true);
  const closing = new AbortController();
  const spare = createSpareBlocks();
  const groups: Group[] = [];
  let writing = false;
  let flushing: NodeJS.Timeout | undefined;
  let told = Number.NEGATIVE_INFINITY;
  let untold = 0;

  /** What comes while a group is being written is the next one. */
  function groupFor(bytes: number): Group {
    const last = groups.at(-1);
    if (last && last.bytes + bytes <= GROUP_BYTES) return last;
    const group = { batches: [], bytes: 0, damaged: [], done: Promise.withResolvers<Error | undefined>() };
    groups.push(group);
    return group;
  }

  async function writeAll(): Promise<void> {
    writing = true;
    for (let group = groups.shift(); group; group = groups.shift()) {
      const problem = await write(group);
      for (const { records } of group.batches) {
        for (const { digest } of records) coming.delete(digest);
        if (!problem) onKept(records);
      }
      if (problem) onFailed();
      group.done.resolve(problem);
    }
    writing = false;
  }

  async function write({ batches, damaged }: Group): Promise<Error | undefined> {
    try {
      if (damaged.length > 0) await store.forget(damaged);
      await store.append(
        batches.map((batch) => batch.bytes),
        recordsOf(batches),
      );
      flushSoon();
      return undefined;
    } catch (error) {
      let blocks = 0;
      for (const { bytes: all, records } of batches) {
        for (const record of records) spare.add(record.digest, contentOfRecord(all, record));
        blocks += records.length;
      }
      return notKept(error, blocks);
    }
  }

  function notKept(error: unknown, blocks: number): Error {
    untold += blocks;
    if (performance.now() - told >= TELL_MS) {
      told = performance.now();
      onNotKept(error, untold);
      untold = 0;
    }
    return error as Error;
  }

  /** What is committed is found by every thread that reads the store, and by whoever comes after a crash. */
  function flushSoon(): void {
    flushing ??= setTimeout(() => {
      flushing = undefined;
      store.flush().catch((error: unknown) => void notKept(error, 0));
    }, FLUSH_MS).unref();
  }

  function keep(batch: Batch, { damaged = false }: KeepOptions = {}): Promise<Error | undefined> {
    if (batch.records.length === 0) return Promise.resolve(undefined);
    const group = groupFor(batch.bytes.length);
    group.batches.push(batch);
    group.bytes += batch.bytes.length;
    for (const record of batch.records) {
      coming.set(record.digest, { bytes: batch.bytes, record });
      if (damaged) group.damaged.push(record.digest);
    }
    if (!writing) void writeAll();
    return group.done.promise;
  }

  /** Not for as long when the writer is closed meanwhile. */
  async function pauseUntil(time: number): Promise<void> {
    await sleep(Math.max(0, time - performance.now()), undefined, { signal: closing.signal }).catch(
      () => undefined,
    );
  }

  async function keepInParts(blocks: readonly HashedBlock[]): Promise<boolean> {
    let all = true;
    for (let from = 0, to = 0; from < blocks.length; from = to) {
      for (let bytes = 0; to < blocks.length && bytes < PART_BYTES; to++) bytes += blocks[to].bytes.length;
      const part = blocks.slice(from, to);
      const bytes = encodeRecords(part);
      const kept = keep({ bytes, records: splitReceived(bytes) });
      for (const { link } of part) later.delete(linkDigest(link));
      all = !(await kept) && all;
      for (const block of part) laterBytes -= block.bytes.length;
      await yieldToEvents();
    }
    return all;
  }

  return {
    keep,
    async keepLater(blocks, { after }) {
      for (const block of blocks) {
        later.set(linkDigest(block.link), block);
        laterBytes += block.bytes.length;
      }
      const from = performance.now() + after;
      const kept = lastOfLater.then(() => pauseUntil(from)).then(() => keepInParts(blocks));
      lastOfLater = kept;
      if (laterBytes > LATER_BYTES) await kept;
      return { kept };
    },
    async put(link, bytes, { damaged = false } = {}) {
      try {
        if (damaged) await store.forget([linkDigest(link)]);
        await store.put({ link, bytes });
        flushSoon();
        return undefined;
      } catch (error) {
        return notKept(error, 1);
      }
    },
    find(link) {
      const digest = linkDigest(link);
      const found = coming.get(digest);
      if (found) return contentOfRecord(found.bytes, found.record);
      return later.get(digest)?.bytes ?? spare.find(digest);
    },
    isComing: (digest) => coming.has(digest) || later.has(digest),
    async close() {
      closing.abort();
      await lastOfLater;
      clearTimeout(flushing);
    },
  };
}

/** Where the records are when the batches are one after another. */
function recordsOf(batches: readonly Batch[]): BatchedRecord[] {
  const all: BatchedRecord[] = [];
  let start = 0;
  for (const { bytes, records } of batches) {
    for (const record of records)
      all.push(start === 0 ? record : { ...record, offset: start + record.offset });
    start += bytes.length;
  }
  return all;
}
