import type { EncodedNode } from '../format/file-node.js';
import { type Link, linkDigest, makeLink, RAW } from '../format/link.js';
import type { BlockStore } from '../store/block-store.js';
import type { BatchedRecord, LocalStore } from '../store/local.js';
import { encodeRecord, ownRecord, RECORD_HEADER, readRecordHeader, recordContent } from '../store/record.js';
import type { IngestSink } from './new-blocks.js';

/** The way of an import's blocks into a store: asks for each block once, writes whole batches of records. */
export interface BlockSink extends IngestSink {
  putNodes(nodes: readonly EncodedNode[]): Promise<void>;
  /** Resolves when all that was put is durable. */
  flush(): Promise<void>;
  /** Blocks that were new to the store, and the bytes that they take there. */
  readonly added: { blocks: number; bytes: number };
}

const NODE_BATCH = 512 << 10;

export function createBlockSink(store: BlockStore, signal?: AbortSignal): BlockSink {
  /** Wanted, and not yet in the store. */
  const claimed = new Set<string>();
  const added = { blocks: 0, bytes: 0 };
  let nodes: Buffer[] = [];
  let nodeBytes = 0;

  const local = 'append' in store ? (store as LocalStore) : undefined;

  /** Whether the block has to be put, which the caller then does. A local store answers without waiting. */
  function claim(digest: string): boolean | Promise<boolean> {
    const before = claimed.size;
    if (claimed.add(digest).size === before) return false;
    if (!local) return store.has(makeLink(RAW, digest), { signal }).then((isHere) => settle(digest, isHere));
    return settle(digest, local.holds(digest));
  }

  function settle(digest: string, isHere: boolean): boolean {
    if (isHere) claimed.delete(digest);
    return !isHere;
  }

  async function emit(records: Buffer): Promise<void> {
    signal?.throwIfAborted();
    const batch = listRecords(records);
    if (local) await local.append(records, batch);
    else {
      for (const { link, bytes } of decodeRecords(records, batch))
        await store.put({ link, bytes }, { signal });
    }
    for (const { digest } of batch) claimed.delete(digest);
    added.blocks += batch.length;
    added.bytes += records.length;
  }

  async function writeNodes(): Promise<void> {
    const records = Buffer.concat(nodes);
    nodes = [];
    nodeBytes = 0;
    if (records.length > 0) await emit(records);
  }

  return {
    added,
    async query(digests) {
      const wanted = new Uint8Array(digests.length / 32);
      for (let i = 0; i < wanted.length; i++) {
        const claimed = claim(digests.slice(i * 32, i * 32 + 32));
        if (claimed === true || (claimed !== false && (await claimed))) wanted[i] = 1;
      }
      return wanted;
    },
    emit,
    async putNodes(encoded) {
      for (const { link, bytes } of encoded) {
        if (!(await claim(linkDigest(link)))) continue;
        const record = encodeRecord(link, bytes);
        nodes.push(record);
        nodeBytes += record.length;
      }
      if (nodeBytes >= NODE_BATCH) await writeNodes();
    },
    async flush() {
      await writeNodes();
      await store.flush();
    },
  };
}

/** What is in a batch of records of our own. */
export function listRecords(records: Buffer): BatchedRecord[] {
  const batch: BatchedRecord[] = [];
  for (let offset = 0; offset < records.length; ) {
    const record = ownRecord(records, offset);
    batch.push(record);
    offset += RECORD_HEADER + record.stored;
  }
  return batch;
}

function* decodeRecords(
  records: Buffer,
  batch: readonly BatchedRecord[],
): Generator<{ link: Link; bytes: Uint8Array }> {
  for (const { offset } of batch) {
    const header = readRecordHeader(records, offset);
    if (header) yield { link: header.link, bytes: recordContent(records, offset, header) };
  }
}
