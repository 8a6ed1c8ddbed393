import fs from 'node:fs';
import { LazytreeError } from '../errors.js';
import type { Metadata } from '../format/entry.js';
import { toFsPath } from '../format/name.js';
import { createRecordReader } from '../store/record-reader.js';
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

/**
 * Creates files in directories that exist. None of the files may be there already: what is in the way is never
 * written to nor followed.
 */
export function createFileWriter(segmentPath: (segment: number) => string) {
  const records = createRecordReader(segmentPath);

  function chunk(job: WriteJob, index: number): Uint8Array {
    const [segment, offset, stored] = job.places.subarray(index * PLACE, (index + 1) * PLACE);
    return records.read(job.digests.slice(index * 32, index * 32 + 32), segment, offset, stored);
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
