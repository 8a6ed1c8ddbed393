import { BlockMissingError } from '../errors.js';
import { formatLink, linkDigest } from '../format/link.js';
import { listRecords } from '../import/block-sink.js';
import type { LocalStore } from '../store/local.js';
import { type BatchedRecord, encodeRecord, RECORD_HEADER } from '../store/record.js';
import { createTreeWriter, type TreeStore, type TreeWriter } from './tree-writer.js';

/** A tree that is made where there is no store, as in a thread. Memory grows with its content. */
export interface RecordedTree extends TreeWriter {
  /** The records of its blocks, each of them once, for `addRecords`. */
  records(): Buffer;
}

/** It takes no entries of other trees: there are none to lay anything over. */
export function createRecordedTree(signal: AbortSignal): RecordedTree {
  const records: Uint8Array[] = [];
  const digests = new Set<string>();
  const name = 'recorded';
  const store: TreeStore = {
    describe: () => name,
    get: (link) => Promise.reject(new BlockMissingError(formatLink(link), name)),
    has: async (link) => digests.has(linkDigest(link)),
    holds: (digest) => digests.has(digest),
    async put({ link, bytes }) {
      if (digests.has(linkDigest(link))) return;
      digests.add(linkDigest(link));
      records.push(encodeRecord(link, bytes));
    },
    async append(bytes, batch) {
      for (const { digest } of batch) digests.add(digest);
      records.push(...(bytes instanceof Uint8Array ? [bytes] : bytes));
    },
    lease: () => ({ complete: true, release() {} }),
    keepRoot() {},
    async flush() {},
    async close() {},
  };
  return { ...createTreeWriter(store, { signal, alone: true }), records: () => Buffer.concat(records) };
}

/** Appends those of a recorded tree's blocks that are not in the store. The caller holds a lease. */
export async function addRecords(store: LocalStore, records: Buffer): Promise<void> {
  const all = listRecords(records);
  const wanted = all.filter(({ digest }) => !store.holds(digest));
  if (wanted.length === all.length) return store.append(records, all);
  const pieces: Buffer[] = [];
  const batch: BatchedRecord[] = [];
  let at = 0;
  for (const record of wanted) {
    const piece = records.subarray(record.offset, record.offset + RECORD_HEADER + record.stored);
    pieces.push(piece);
    batch.push({ ...record, offset: at });
    at += piece.length;
  }
  if (batch.length > 0) await store.append(pieces, batch);
}
