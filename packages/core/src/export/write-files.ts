import fs from 'node:fs';
import { CorruptBlockError, LazytreeError } from '../errors.js';
import type { Metadata } from '../format/entry.js';
import { formatLink, makeLink, RAW } from '../format/link.js';
import { toFsPath } from '../format/name.js';
import { RECORD_HEADER } from '../store/record.js';
import { createRecordReader } from '../store/record-reader.js';
import { setMetadata } from './metadata.js';

/**
 * Files to write from the records of segment files. Column by column and in few strings, because each string of
 * a message is copied on its own.
 */
export interface WriteJob {
  /** Directories that exist. */
  directories: string[];
  /** Names of the files, with slashes between them. */
  names: string;
  /** {@link FileColumn} of each file. */
  files: Uint32Array;
  /** Digest of each chunk of each file, 32 characters each. */
  digests: string;
  /** {@link ChunkColumn} of each chunk of each file. */
  chunks: Float64Array;
  metadata: (Metadata | undefined)[] | undefined;
  /** Whether anybody wants to know the stamps. */
  stamps: boolean;
}

const FileColumn = { directory: 0, executable: 1, chunks: 2 } as const;
const FILE_COLUMNS = 3;
/** `stored` bytes lie in the segment, `size` bytes are the content. */
const ChunkColumn = { segment: 0, offset: 1, stored: 2, size: 3 } as const;
const CHUNK_COLUMNS = 4;

/** mtime, ctime and inode of each file as written; empty when nobody wants to know. */
export interface WrittenFiles {
  stamps: Float64Array;
}

/** What lies between two records that are read with one system call. */
const GAP = 64 << 10;

/**
 * Creates files in directories that exist. None of the files may be there already: what is in the way is never
 * written to nor followed.
 */
export function createFileWriter(segmentPath: (segment: number) => string) {
  const records = createRecordReader(segmentPath);

  function chunk(job: WriteJob, index: number, until: number): Uint8Array {
    const at = index * CHUNK_COLUMNS;
    const digest = job.digests.slice(index * 32, index * 32 + 32);
    const segment = job.chunks[at + ChunkColumn.segment];
    const offset = job.chunks[at + ChunkColumn.offset];
    const content = records.read(digest, segment, offset, job.chunks[at + ChunkColumn.stored], until);
    if (content.length !== job.chunks[at + ChunkColumn.size]) {
      throw new CorruptBlockError(
        formatLink(makeLink(RAW, digest)),
        segmentPath(segment),
        'its length is not the one its file says',
      );
    }
    return content;
  }

  return function writeFiles(job: WriteJob): WrittenFiles {
    const names = job.names.split('/');
    const stamps = new Float64Array(job.stamps ? names.length * 3 : 0);
    const ends = readAheads(job.chunks);
    let next = 0;

    function writeOne(path: string, file: number): void {
      const count = job.files[file * FILE_COLUMNS + FileColumn.chunks];
      const fd = createFile(path, job.files[file * FILE_COLUMNS + FileColumn.executable] === 1);
      try {
        for (const end = next + count; next < end; next++) writeFully(fd, chunk(job, next, ends[next]));
        const metadata = job.metadata?.[file];
        if (metadata) setMetadata(toFsPath(path), metadata, fd);
        if (!job.stamps) return;
        const { mtimeMs, ctimeMs, ino } = fs.fstatSync(fd);
        stamps[file * 3] = mtimeMs;
        stamps[file * 3 + 1] = ctimeMs;
        stamps[file * 3 + 2] = ino;
      } finally {
        fs.closeSync(fd);
      }
    }

    for (let file = 0; file < names.length; file++) {
      const directory = job.directories[job.files[file * FILE_COLUMNS + FileColumn.directory]];
      const path = `${directory}/${names[file]}`;
      try {
        writeOne(path, file);
      } catch (error) {
        throw describe(error, path);
      }
    }
    return { stamps };
  };
}

/** For each chunk, where the run of records that it is in ends: so far it pays to read ahead. */
function readAheads(chunks: Float64Array): Float64Array {
  const count = chunks.length / CHUNK_COLUMNS;
  const ends = new Float64Array(count);
  for (let i = count - 1; i >= 0; i--) {
    const at = i * CHUNK_COLUMNS;
    const end = chunks[at + ChunkColumn.offset] + RECORD_HEADER + chunks[at + ChunkColumn.stored];
    const after = at + CHUNK_COLUMNS;
    const follows =
      i + 1 < count &&
      chunks[after + ChunkColumn.segment] === chunks[at + ChunkColumn.segment] &&
      chunks[after + ChunkColumn.offset] >= end &&
      chunks[after + ChunkColumn.offset] - end <= GAP;
    ends[i] = follows ? ends[i + 1] : end;
  }
  return ends;
}

const CREATE = fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_NOFOLLOW;

/** @throws Error EEXIST when anything has that name */
export function createFile(path: string, executable: boolean): number {
  return fs.openSync(toFsPath(path), CREATE, executable ? 0o777 : 0o666);
}

export function writeFully(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(fd, bytes, done, bytes.length - done);
}

/** Why a job failed, as it travels between threads: errors lose their class there. */
export interface WriteFailure {
  /** Of a LazytreeError, or of the operating system. */
  code?: string | undefined;
  message: string;
  hint?: string | undefined;
  ours: boolean;
  path: string;
}

function describe(error: unknown, path: string): WriteFailure {
  if (error instanceof LazytreeError) {
    const { code, message, hint } = error;
    return { code, message, hint, ours: true, path };
  }
  const { code, message } = error as NodeJS.ErrnoException;
  return { code, message, ours: false, path };
}
