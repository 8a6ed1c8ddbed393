import { digestOf, type Link, linkDigest } from '../format/link.js';
import { createSnappyDecoder, type SnappyDecoder } from '../wasm/snappy-decoder.js';
import {
  type BatchedRecord,
  Compression,
  decompress,
  PayloadError,
  RECORD_HEADER,
  readRecordHeader,
  recordProblem,
} from './record.js';

/** What somebody has sent is not what it says it is. */
export class UntrueRecordError extends Error {}

/** A record among those that somebody has sent. */
export interface ReceivedRecord extends BatchedRecord {
  link: Link;
  crc: number;
  /** Where the next one begins. */
  end: number;
}

/** The records in `bytes`, one after another, by their headers alone. @throws UntrueRecordError */
export function splitReceived(bytes: Buffer): ReceivedRecord[] {
  const records: ReceivedRecord[] = [];
  for (let at = 0; at < bytes.length; at = records[records.length - 1].end) {
    const header = readRecordHeader(bytes, at);
    if (!header) throw new UntrueRecordError(`no record at byte ${at} of ${bytes.length}`);
    const { link, crc, stored, raw, compression } = header;
    const end = at + RECORD_HEADER + stored;
    if (end > bytes.length) throw new UntrueRecordError('a record that is cut short');
    records.push({ link, crc, digest: linkDigest(link), offset: at, end, stored, raw, compression });
  }
  return records;
}

/** The block in a record, which belongs to the caller. @throws PayloadError */
export function contentOfRecord(
  bytes: Buffer,
  { offset, stored, raw, compression }: BatchedRecord,
): Uint8Array {
  const start = offset + RECORD_HEADER;
  return decompress(compression, bytes.subarray(start, start + stored), raw);
}

/** Where records are decompressed; a larger one, which nobody makes, is decompressed elsewhere. */
const ARENA_BYTES = 4 << 20;

/** Finds out whether records are true. @throws UntrueRecordError */
export type ReceivedChecker = (bytes: Buffer, records: readonly ReceivedRecord[]) => void;

/**
 * A checker of checksums, of hashes, and that records decompress to what they say. What is true can be appended to a
 * store as it is. Nothing is allocated for a record.
 */
export function createReceivedChecker(): ReceivedChecker {
  const decoder = createSnappyDecoder(ARENA_BYTES);
  return (bytes, records) => {
    for (const record of records) {
      const problem = recordProblem(bytes, record.offset, record);
      if (problem) throw new UntrueRecordError(problem);
      const inArena = record.compression === Compression.snappy && fits(record, decoder);
      const content = inArena ? decode(bytes, record, decoder) : decodeElsewhere(bytes, record);
      if (digestOf(content) !== record.digest) throw new UntrueRecordError('its content has another hash');
    }
  };
}

function fits({ stored, raw }: ReceivedRecord, { slack }: SnappyDecoder): boolean {
  return stored + raw + 2 * slack <= ARENA_BYTES;
}

function decode(bytes: Buffer, record: ReceivedRecord, { memory, slack, decode }: SnappyDecoder): Buffer {
  const { offset, stored, raw } = record;
  bytes.copy(memory, 0, offset + RECORD_HEADER, offset + RECORD_HEADER + stored);
  const to = stored + slack;
  if (!decode(0, stored, to, raw)) throw new UntrueRecordError('its payload cannot be decompressed');
  return memory.subarray(to, to + raw);
}

function decodeElsewhere(bytes: Buffer, record: ReceivedRecord): Uint8Array {
  try {
    return contentOfRecord(bytes, record);
  } catch (error) {
    if (error instanceof PayloadError) throw new UntrueRecordError(error.message);
    throw error;
  }
}
