import { digestOf, type Link, linkDigest } from '../format/link.js';
import {
  type BatchedRecord,
  decompress,
  PayloadError,
  RECORD_HEADER,
  readRecordHeader,
  recordProblem,
} from './record.js';

/** What somebody has sent is not what it says it is. */
export class UntrueRecordError extends Error {}

/** A record that has been found true: it holds the block that it says. */
export interface ReceivedRecord extends BatchedRecord {
  link: Link;
  /** Where the next one begins. */
  end: number;
}

/**
 * Checks records that came from elsewhere, one after another: headers, checksums, that they decompress to what they
 * say, and hashes. What passes can be appended to a store as it is.
 *
 * @param onContent gets the content of each, valid for as long as `bytes` are, in their order
 * @throws UntrueRecordError
 */
export function checkReceived(
  bytes: Buffer,
  onContent?: (content: Uint8Array, record: ReceivedRecord) => void,
): ReceivedRecord[] {
  const records: ReceivedRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    const header = readRecordHeader(bytes, at);
    if (!header) throw new UntrueRecordError(`no record at byte ${at} of ${bytes.length}`);
    const problem = recordProblem(bytes, at, header);
    if (problem) throw new UntrueRecordError(problem);
    const { link, stored, raw, compression } = header;
    const digest = linkDigest(link);
    const record = { link, digest, offset: at, end: at + RECORD_HEADER + stored, stored, raw, compression };
    const content = checkedContent(bytes, record);
    if (digestOf(content) !== digest) throw new UntrueRecordError('its content has another hash');
    records.push(record);
    onContent?.(content, record);
    at = record.end;
  }
  return records;
}

/** The block in a record that has been checked. */
export function contentOfRecord(bytes: Buffer, record: BatchedRecord): Uint8Array {
  const { offset, stored, raw, compression } = record;
  const start = offset + RECORD_HEADER;
  return decompress(compression, bytes.subarray(start, start + stored), raw);
}

function checkedContent(bytes: Buffer, record: BatchedRecord): Uint8Array {
  try {
    return contentOfRecord(bytes, record);
  } catch (error) {
    if (error instanceof PayloadError) throw new UntrueRecordError(error.message);
    throw error;
  }
}
