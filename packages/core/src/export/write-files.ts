import fs from 'node:fs';
import { CorruptBlockError, LazytreeError } from '../errors.js';
import type { Metadata } from '../format/entry.js';
import { formatLink, linkDigest, makeLink, RAW } from '../format/link.js';
import { toFsPath } from '../format/name.js';
import {
  RECORD_HEADER,
  type RecordHeader,
  readRecordHeader,
  recordContent,
  recordProblem,
} from '../store/record.js';
import { setMetadata } from './metadata.js';

/** Files to write from the records of segment files, column by column so that they travel between threads. */
export interface WriteJob {
  paths: string[];
  executable: boolean[];
  /** Chunks of each file. */
  counts: number[];
  /** Digest of each chunk of each file, 32 characters each. */
  digests: string;
  /** Segment, offset and stored bytes of each chunk of each file. */
  places: Float64Array;
  metadata: (Metadata | undefined)[] | undefined;
}

export const PLACE = 3;

/** Stamps of the files as written: mtime, ctime and inode of each. */
export interface WrittenFiles {
  stamps: Float64Array;
}

export const WINDOW = 1 << 20;

/**
 * Creates files in directories that exist. None of the files may be there already: what is in the way is never
 * written to nor followed.
 */
export function createFileWriter(segmentPath: (segment: number) => string) {
  const open = new Map<number, number>();
  const window = Buffer.allocUnsafeSlow(WINDOW);
  let windowSegment = -1;
  let windowStart = 0;
  let windowLength = 0;
  let lastEnd = -1;

  function segmentFd(segment: number): number {
    const known = open.get(segment);
    if (known !== undefined) return known;
    for (const [oldest, fd] of open) {
      if (open.size < 32) break;
      fs.closeSync(fd);
      open.delete(oldest);
    }
    const fd = fs.openSync(segmentPath(segment), 'r');
    open.set(segment, fd);
    return fd;
  }

  /** A record's bytes; where records are read one after another, many with one system call. */
  function readRecord(segment: number, offset: number, length: number): Buffer {
    const inside =
      segment === windowSegment && offset >= windowStart && offset + length <= windowStart + windowLength;
    if (!inside) {
      const sequential = segment === windowSegment && offset >= lastEnd && offset - lastEnd < WINDOW / 4;
      const want = sequential || windowSegment < 0 ? WINDOW : length;
      windowSegment = segment;
      windowStart = offset;
      const target = want < length ? length : want;
      if (target > WINDOW) return readAlone(segment, offset, length);
      windowLength = fs.readSync(segmentFd(segment), window, 0, target, offset);
    }
    lastEnd = offset + length;
    return window.subarray(offset - windowStart, Math.min(offset - windowStart + length, windowLength));
  }

  function readAlone(segment: number, offset: number, length: number): Buffer {
    windowLength = 0;
    const bytes = Buffer.allocUnsafe(length);
    return bytes.subarray(0, fs.readSync(segmentFd(segment), bytes, 0, length, offset));
  }

  function chunk(job: WriteJob, index: number): Uint8Array {
    const [segment, offset, stored] = job.places.subarray(index * PLACE, (index + 1) * PLACE);
    const digest = job.digests.slice(index * 32, index * 32 + 32);
    const record = readRecord(segment, offset, RECORD_HEADER + stored);
    const header = readRecordHeader(record, 0);
    const problem = recordFault(record, header, digest);
    const where = segmentPath(segment);
    if (!header || problem) {
      throw new CorruptBlockError(formatLink(makeLink(RAW, digest)), where, problem ?? 'no record is there');
    }
    try {
      return recordContent(record, 0, header);
    } catch (error) {
      throw new CorruptBlockError(formatLink(header.link), where, (error as Error).message);
    }
  }

  function writeOne(job: WriteJob, file: number, firstChunk: number, stamps: Float64Array): void {
    const path = toFsPath(job.paths[file]);
    const fd = createFile(job.paths[file], job.executable[file]);
    try {
      for (let i = 0; i < job.counts[file]; i++) writeFully(fd, chunk(job, firstChunk + i));
      const metadata = job.metadata?.[file];
      if (metadata) setMetadata(path, metadata, fd);
      const { mtimeMs, ctimeMs, ino } = fs.fstatSync(fd);
      stamps.set([mtimeMs, ctimeMs, ino], file * 3);
    } finally {
      fs.closeSync(fd);
    }
  }

  return function writeFiles(job: WriteJob): WrittenFiles {
    const stamps = new Float64Array(job.paths.length * 3);
    let next = 0;
    for (let file = 0; file < job.paths.length; file++) {
      try {
        writeOne(job, file, next, stamps);
      } catch (error) {
        throw describe(error, job.paths[file]);
      }
      next += job.counts[file];
    }
    return { stamps };
  };
}

function recordFault(record: Buffer, header: RecordHeader | undefined, digest: string): string | undefined {
  if (!header) return 'its record has no valid header';
  if (linkDigest(header.link) !== digest) return 'its record is of another block';
  return recordProblem(record, 0, header);
}

const CREATE = fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_NOFOLLOW;

/** @throws Error EEXIST when anything has that name */
export function createFile(path: string, executable: boolean): number {
  return fs.openSync(toFsPath(path), CREATE, executable ? 0o777 : 0o666);
}

export function writeFully(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(fd, bytes, done, bytes.length - done);
}

/** Threads hand errors over as plain objects with a code: enough to be raised again on the other side. */
function describe(error: unknown, path: string): unknown {
  if (error instanceof LazytreeError)
    return { code: error.code, message: error.message, hint: error.hint, path };
  const { code, message } = error as NodeJS.ErrnoException;
  return { code, message, path };
}
