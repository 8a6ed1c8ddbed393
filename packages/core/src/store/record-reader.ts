import fs from 'node:fs';
import { CorruptBlockError } from '../errors.js';
import { MAX_BLOCK_BYTES } from '../format/limits.js';
import { formatLink, linkDigest, makeLink, RAW } from '../format/link.js';
import { createSnappyDecoder } from '../wasm/snappy-decoder.js';
import {
  Compression,
  PayloadError,
  RECORD_HEADER,
  type RecordHeader,
  readRecordHeader,
  recordContent,
  recordProblem,
} from './record.js';

/** Reads blocks straight from segment files, for threads that have no store. */
export interface RecordReader {
  /**
   * The checked content of the record with `digest`, whose payload is `stored` bytes long. Valid until the next
   * read.
   *
   * @param until where in the segment the records end that are read next; without it, that is guessed
   * @throws CorruptBlockError
   */
  read(digest: string, segment: number, offset: number, stored: number, until?: number): Uint8Array;
}

/** Bytes that one system call reads while records are read one after another. */
const WINDOW = 1 << 20;
const OPEN_FILES = 32;
/** More than what a decoder wants to have free behind its input and its output. */
const MARGIN = 256;

export function createRecordReader(segmentPath: (segment: number) => string): RecordReader {
  const open = new Map<number, number>();
  const { memory, slack, decode } = createSnappyDecoder(WINDOW + MAX_BLOCK_BYTES + 2 * MARGIN);
  const window = memory.subarray(0, WINDOW);
  const output = WINDOW + slack;
  let windowSegment = -1;
  let windowStart = 0;
  let windowLength = 0;
  let lastEnd = -1;

  function segmentFd(segment: number): number {
    const known = open.get(segment);
    if (known !== undefined) return known;
    for (const [oldest, fd] of open) {
      if (open.size < OPEN_FILES) break;
      fs.closeSync(fd);
      open.delete(oldest);
    }
    const fd = fs.openSync(segmentPath(segment), 'r');
    open.set(segment, fd);
    return fd;
  }

  /** A record's bytes; where records are read one after another, many with one system call. */
  function readRecord(segment: number, offset: number, length: number, until: number | undefined): Buffer {
    const inside =
      segment === windowSegment && offset >= windowStart && offset + length <= windowStart + windowLength;
    if (!inside) {
      const want = until === undefined ? guess(segment, offset, length) : Math.min(until - offset, WINDOW);
      windowSegment = segment;
      windowStart = offset;
      const target = want < length ? length : want;
      if (target > WINDOW) return readAlone(segment, offset, length);
      windowLength = fs.readSync(segmentFd(segment), window, 0, target, offset);
    }
    lastEnd = offset + length;
    return window.subarray(offset - windowStart, Math.min(offset - windowStart + length, windowLength));
  }

  function guess(segment: number, offset: number, length: number): number {
    const sequential = segment === windowSegment && offset >= lastEnd && offset - lastEnd < WINDOW / 4;
    return sequential || windowSegment < 0 ? WINDOW : length;
  }

  function readAlone(segment: number, offset: number, length: number): Buffer {
    windowLength = 0;
    const bytes = Buffer.allocUnsafe(length);
    return bytes.subarray(0, fs.readSync(segmentFd(segment), bytes, 0, length, offset));
  }

  /** From the window to behind it; nothing is allocated for a block. @throws PayloadError */
  function content(record: Buffer, header: RecordHeader): Uint8Array {
    if (header.compression !== Compression.snappy || record.buffer !== memory.buffer)
      return recordContent(record, 0, header);
    const { stored, raw } = header;
    const payload = record.byteOffset - memory.byteOffset + RECORD_HEADER;
    if (!decode(payload, stored, output, raw)) throw new PayloadError('its payload cannot be decompressed');
    return memory.subarray(output, output + raw);
  }

  return {
    read(digest, segment, offset, stored, until) {
      const record = readRecord(segment, offset, RECORD_HEADER + stored, until);
      const header = readRecordHeader(record, 0);
      const problem = recordFault(record, header, digest);
      if (!header || problem) {
        throw new CorruptBlockError(
          formatLink(makeLink(RAW, digest)),
          segmentPath(segment),
          problem ?? 'no record is there',
        );
      }
      try {
        return content(record, header);
      } catch (error) {
        if (!(error instanceof PayloadError)) throw error;
        throw new CorruptBlockError(formatLink(header.link), segmentPath(segment), error.message);
      }
    },
  };
}

function recordFault(record: Buffer, header: RecordHeader | undefined, digest: string): string | undefined {
  if (!header) return 'its record has no valid header';
  if (linkDigest(header.link) !== digest) return 'its record is of another block';
  return recordProblem(record, 0, header);
}
