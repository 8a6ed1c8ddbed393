import fs from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, fromSystemError, LazytreeError } from '../errors.js';
import { createMutex } from './mutex.js';

/** Where a record is. */
export interface Place {
  segment: number;
  /** Byte offset of the record's header. */
  offset: number;
}

/**
 * Append-only files of records, `<number>.seg`. A segment begins with 16 bytes: "LZTSEG1\n", its number as a
 * little-endian u32, and zero. What lies beyond the committed length that the index holds was never
 * acknowledged, and is cut off when the store is opened.
 */
export const SEGMENT_HEADER = 16;
const MAGIC = Buffer.from('LZTSEG1\n', 'latin1');
const OPEN_FILES = 128;

export interface Segments {
  /** Appends whole records, part after part; resolves with the place of the first byte once it can be read. */
  append(records: readonly Uint8Array[]): Promise<Place>;
  read(place: Place, length: number): Buffer;
  path(segment: number): string;
  /** Makes everything appended so far durable. Returns the lengths that are. */
  sync(): Promise<Map<number, number>>;
  /** Ends the current segment, after the appends that are under way: nothing goes to it or an earlier one again. */
  roll(): Promise<void>;
  /** The segments that the last `roll` left behind, and the bytes in them. */
  sealed(): Map<number, number>;
  remove(segment: number): Promise<void>;
  /** Counts a segment no longer, while whoever reads it may go on until it is removed. */
  retire(segment: number): void;
  truncate(segment: number, length: number): void;
  /** Cuts every segment to the given length, and those without one to nothing. */
  revert(committed: ReadonlyMap<number, number>): void;
  /** Known segments and the bytes in them, appended ones included. */
  lengths(): Map<number, number>;
  close(): void;
}

/** The number of a segment file, or undefined for another file. */
export function segmentNumber(name: string): number | undefined {
  const digits = /^(\d{8,})\.seg$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The 16 bytes that a segment begins with. */
export function segmentHeader(segment: number): Buffer {
  const header = Buffer.alloc(SEGMENT_HEADER);
  MAGIC.copy(header);
  header.writeUInt32LE(segment, MAGIC.length);
  return header;
}

export function segmentPath(directory: string, segment: number): string {
  return join(directory, `${String(segment).padStart(8, '0')}.seg`);
}

interface Tail {
  segment: number;
  fd: number;
  length: number;
}

/**
 * @param committed the durable length of each segment that the index knows; other files are removed
 * @param maxBytes a segment that has reached this is followed by a new one
 */
export function openSegments(
  directory: string,
  committed: ReadonlyMap<number, number>,
  maxBytes: number,
): Segments {
  const lengths = new Map(committed);
  const retired = new Map<number, number>();
  const readers = new Map<number, number>();
  const inTurn = createMutex();
  let tail: Tail | undefined;
  let dirty = new Map<number, Tail>();
  let nextSegment = Math.max(0, ...committed.keys()) + 1;
  let full = true;
  let sealed = 0;

  const path = (segment: number) => segmentPath(directory, segment);

  cutTails();

  /** A segment without a committed length holds not one whole record: see adoptRecords. */
  function cutTails(): void {
    const present = new Set<number>();
    for (const name of fs.readdirSync(directory)) {
      const segment = segmentNumber(name);
      if (segment === undefined) continue;
      const length = committed.get(segment);
      if (length === undefined) {
        fs.unlinkSync(join(directory, name));
        continue;
      }
      present.add(segment);
      const stat = fs.statSync(join(directory, name));
      if (stat.size > length) fs.truncateSync(join(directory, name), length);
    }
    const last = nextSegment - 1;
    const length = committed.get(last);
    if (present.has(last) && length !== undefined && length < maxBytes) {
      const { size } = fs.statSync(path(last));
      if (size === length) {
        tail = { segment: last, fd: fs.openSync(path(last), 'r+'), length };
        full = false;
      }
    }
  }

  async function begin(): Promise<Tail> {
    const segment = nextSegment;
    const header = segmentHeader(segment);
    const fd = fs.openSync(path(segment), 'wx+', 0o644);
    try {
      writeFully(fd, header, 0);
      const handle = await open(directory, 'r');
      await handle.sync().finally(() => handle.close());
    } catch (error) {
      fs.closeSync(fd);
      fs.unlinkSync(path(segment));
      throw error;
    }
    nextSegment = segment + 1;
    full = false;
    if (tail && !dirty.has(tail.segment)) fs.closeSync(tail.fd);
    tail = { segment, fd, length: SEGMENT_HEADER };
    lengths.set(segment, SEGMENT_HEADER);
    return tail;
  }

  return {
    path,
    append: (records) =>
      inTurn(async () => {
        try {
          const target = !tail || full || tail.length >= maxBytes ? await begin() : tail;
          const offset = target.length;
          dirty.set(target.segment, target);
          try {
            await write(target.fd, records, offset);
          } catch (error) {
            // Nobody knows of these bytes, and the next append begins where they did.
            fs.ftruncateSync(target.fd, offset);
            throw error;
          }
          target.length = offset + lengthOf(records);
          lengths.set(target.segment, target.length);
          return { segment: target.segment, offset };
        } catch (error) {
          throw fromSystemError(error, `writing to ${directory}`);
        }
      }),
    read({ segment, offset }, length) {
      const known = lengths.get(segment) ?? retired.get(segment);
      if (known === undefined || offset + length > known) {
        throw new LazytreeError('CORRUPT', `segment ${segment} has no ${length} bytes at ${offset}`);
      }
      const buffer = Buffer.allocUnsafe(length);
      const read = fs.readSync(reader(segment), buffer, 0, length, offset);
      if (read !== length)
        throw new LazytreeError('CORRUPT', `${path(segment)} is cut short at ${offset + read}`);
      return buffer;
    },
    sync: () =>
      inTurn(async () => {
        const targets = dirty;
        const durable = new Map([...targets.values()].map(({ segment, length }) => [segment, length]));
        try {
          for (const { fd } of targets.values()) await datasync(fd);
        } catch (error) {
          throw fromSystemError(error, `writing to ${directory}`);
        }
        dirty = new Map();
        for (const target of targets.values()) if (target !== tail) fs.closeSync(target.fd);
        return durable;
      }),
    roll: () =>
      inTurn(async () => {
        full = true;
        sealed = nextSegment - 1;
      }),
    sealed: () => new Map([...lengths].filter(([segment]) => segment <= sealed)),
    retire(segment) {
      const length = lengths.get(segment);
      if (length !== undefined) retired.set(segment, length);
      lengths.delete(segment);
    },
    async remove(segment) {
      lengths.delete(segment);
      retired.delete(segment);
      const fd = readers.get(segment);
      if (fd !== undefined) fs.closeSync(fd);
      readers.delete(segment);
      await unlink(path(segment));
    },
    truncate(segment, length) {
      lengths.set(segment, length);
      fs.truncateSync(path(segment), length);
    },
    revert(wanted) {
      for (const [segment, length] of lengths) {
        const keep = wanted.get(segment) ?? 0;
        if (keep < length) fs.truncateSync(path(segment), keep);
      }
    },
    lengths: () => new Map(lengths),
    close() {
      const open = new Set([...readers.values(), ...[...dirty.values()].map(({ fd }) => fd)]);
      if (tail) open.add(tail.fd);
      for (const fd of open) fs.closeSync(fd);
      readers.clear();
      dirty.clear();
      tail = undefined;
    },
  };

  function reader(segment: number): number {
    const known = readers.get(segment);
    if (known !== undefined) return known;
    const fd = openForReading(path(segment));
    readers.set(segment, fd);
    if (readers.size > OPEN_FILES) {
      const [oldest, oldFd] = readers.entries().next().value as [number, number];
      readers.delete(oldest);
      fs.closeSync(oldFd);
    }
    return fd;
  }
}

function openForReading(path: string): number {
  try {
    return fs.openSync(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw new LazytreeError('CORRUPT', `the segment ${path} is gone`);
    throw fromSystemError(error, `opening ${path}`);
  }
}

function writeFully(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += fs.writeSync(fd, bytes, done, bytes.length - done, position + done);
  }
}

async function write(fd: number, parts: readonly Uint8Array[], position: number): Promise<void> {
  let left = parts.filter(({ length }) => length > 0);
  for (let at = position; left.length > 0; ) {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    fs.writev(fd, left, at, (error, written) => (error ? reject(error) : resolve(written)));
    const written = await promise;
    at += written;
    left = without(left, written);
  }
}

/** What is left of parts behind so many bytes. */
function without(parts: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skip = bytes;
  return parts.flatMap((part) => {
    const start = Math.min(skip, part.length);
    skip -= start;
    return start < part.length ? [part.subarray(start)] : [];
  });
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

function datasync(fd: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  fs.fdatasync(fd, (error) => (error ? reject(error) : resolve()));
  return promise;
}
