import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { digestOf } from '../format/digest.js';
import type { Link } from '../format/link.js';
import { LINK_LENGTH } from '../format/link-length.js';
import {
  type CachedDirectory,
  createRecordEncoder,
  decodeDirectory,
  NO_RECORD,
  type RecordPlace,
} from './stat-record.js';

/**
 * A time stamp this close to the moment of looking, in milliseconds, can hide another change: the kernel's clock
 * of time stamps moves in steps of up to 10 ms (CONFIG_HZ=100).
 */
export const RACY_MS = 30;

/**
 * What an import remembers of a directory on disk, so that the next one reads only what has changed. A file: a
 * header with the root, then the records of directories, children before parents. A later import appends the
 * records of what has changed and then points the header to the new root, so that what is unchanged is not
 * written again; when most of the file is out of date a new one takes its place. Records hold names, stamps and
 * links as they lie in memory here; the file is private to the machine, and one that does not check out is as
 * good as none. So is one that cannot be read or written: no import fails for its cache.
 */
const MAGIC = 0x3153_5a4c;
const VERSION = 3;
/** Offsets in the header. */
const At = {
  magic: 0,
  version: 4,
  offset: 8,
  length: 16,
  link: 20,
  size: 56,
  files: 64,
  time: 72,
  preserve: 80,
  live: 84,
  epoch: 92,
  crc: 108,
};
const HEADER = 112;
const EPOCH_LENGTH = 16;
const WHOLE_FILE = 64 << 20;
const BUFFER = 1 << 20;
/** A cache is written anew when less than this part of it is in use. */
const LEAST_LIVE = 0.5;

export interface StatCacheReader {
  root: Link;
  size: number;
  files: number;
  rootRecord: RecordPlace;
  /** Of the file. */
  identity: string;
  /** Bytes of the file, and those of them that the root leads to. */
  length: number;
  live: number;
  /** The whole file, unless it is too large to be held. */
  shared: SharedArrayBuffer | undefined;
  /** Stamps from this time on are not. */
  trusted: number;
  directory(place: RecordPlace): CachedDirectory | undefined;
  /** Whether what it says is what is asked for, and still there. */
  fits(use: StatCacheUse): boolean;
  close(): void;
}

interface StatCacheUse {
  preserve: boolean;
  /** Of the store that has what the cache promises, see LocalStore.epoch; empty where there is none. */
  epoch?: string;
}

/**
 * Opens a cache, or returns undefined when there is none. Before it is believed, it has to fit the use that is made
 * of it. As in git's index, what had changed just before the cache was written is not trusted: it may have changed
 * once more at the same time stamp.
 */
export function openStatCache(file: string): StatCacheReader | undefined {
  return orNone(() => {
    const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    try {
      const header = readHeader(fd);
      if (header) return createReader(file, fd, header);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    fs.closeSync(fd);
    return undefined;
  });
}

function createReader(file: string, fd: number, header: Header): StatCacheReader {
  const stat = fs.fstatSync(fd);
  const { size: length } = stat;
  const identity = identityOf(stat);
  const trusted = header.time - RACY_MS;
  const shared = length <= WHOLE_FILE ? new SharedArrayBuffer(length) : undefined;
  const whole = shared && readAt(fd, 0, length, Buffer.from(shared));
  return {
    ...header,
    identity,
    length,
    shared,
    trusted,
    directory({ offset, length: bytes }) {
      if (offset + bytes > length) return undefined;
      const record = whole?.subarray(offset, offset + bytes) ?? orNone(() => readAt(fd, offset, bytes));
      return record && decodeDirectory(record, trusted);
    },
    fits({ preserve, epoch = '' }) {
      if (header.preserve !== preserve || header.epoch !== shortEpoch(epoch)) return false;
      const now = fs.statSync(file, { throwIfNoEntry: false });
      return now?.size === length && identityOf(now) === identity && readHeader(fd)?.crc === header.crc;
    },
    close: () => fs.closeSync(fd),
  };
}

interface Header extends Pick<StatCacheReader, 'root' | 'size' | 'files' | 'rootRecord' | 'live'> {
  /** When it was written. */
  time: number;
  preserve: boolean;
  epoch: string;
  /** Of all that stands before it in the header. */
  crc: number;
}

function readHeader(fd: number): Header | undefined {
  if (!fs.fstatSync(fd).isFile()) return undefined;
  const header = readAt(fd, 0, HEADER);
  const isWhole =
    header.length === HEADER &&
    header.readUInt32LE(At.magic) === MAGIC &&
    header.readUInt32LE(At.version) === VERSION &&
    crc32(header.subarray(0, At.crc)) === header.readUInt32LE(At.crc);
  if (!isWhole) return undefined;
  return {
    rootRecord: { offset: header.readDoubleLE(At.offset), length: header.readUInt32LE(At.length) },
    root: header.toString('latin1', At.link, At.link + LINK_LENGTH) as Link,
    size: header.readDoubleLE(At.size),
    files: header.readDoubleLE(At.files),
    time: header.readDoubleLE(At.time),
    preserve: header.readUInt32LE(At.preserve) === 1,
    live: header.readDoubleLE(At.live),
    epoch: header.toString('latin1', At.epoch, At.epoch + EPOCH_LENGTH),
    crc: header.readUInt32LE(At.crc),
  };
}

function encodeHeader({
  rootRecord,
  root,
  size,
  files,
  time,
  preserve,
  live,
  epoch,
}: Omit<Header, 'crc'>): Buffer {
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(MAGIC, At.magic);
  header.writeUInt32LE(VERSION, At.version);
  header.writeDoubleLE(rootRecord.offset, At.offset);
  header.writeUInt32LE(rootRecord.length, At.length);
  header.write(root, At.link, LINK_LENGTH, 'latin1');
  header.writeDoubleLE(size, At.size);
  header.writeDoubleLE(files, At.files);
  header.writeDoubleLE(time, At.time);
  header.writeUInt32LE(preserve ? 1 : 0, At.preserve);
  header.writeDoubleLE(live, At.live);
  header.write(epoch, At.epoch, EPOCH_LENGTH, 'latin1');
  header.writeUInt32LE(crc32(header.subarray(0, At.crc)), At.crc);
  return header;
}

/** What stands for an epoch, which may be any text, in a header. */
function shortEpoch(epoch: string): string {
  return digestOf(Buffer.from(epoch)).slice(0, EPOCH_LENGTH);
}

/** What tells one file from any other as long as it is open. */
function identityOf({ dev, ino }: fs.Stats): string {
  return `${dev}:${ino}`;
}

/** Makes an error of the operating system nothing at all: the import goes on without what it could have had. */
function orNone<T>(task: () => T): T | undefined {
  try {
    return task();
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).errno !== 'number') throw error;
    return undefined;
  }
}

/** The root of the tree that a cache describes, or undefined for a file that is no cache. */
export function statCacheRoot(file: string): Link | undefined {
  return orNone(() => {
    const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    try {
      return readHeader(fd)?.root;
    } finally {
      fs.closeSync(fd);
    }
  });
}

function readAt(
  fd: number,
  offset: number,
  length: number,
  buffer: Buffer = Buffer.allocUnsafeSlow(length),
): Buffer {
  const read = fs.readSync(fd, buffer, 0, length, offset);
  return buffer.subarray(0, read);
}

export interface StatCacheWriter {
  add(directory: CachedDirectory): RecordPlace;
  /** Makes the root's record the one that the next reader begins with. */
  commit(root: { link: Link; size: number; files: number; record: RecordPlace }): void;
  /** Leaves the old cache as it was. Without effect after `commit`. */
  discard(): void;
}

export interface StatCacheOptions {
  /**
   * The cache in `file`, whose records stay where they are and may be referred to; absent, or mostly out of date,
   * for a new file.
   */
  old?: StatCacheReader | undefined;
  /** See {@link StatCacheUse}. */
  epoch?: string;
}

/**
 * Writes a cache; one that cannot be written to its end is as it was before. Returns undefined when there is
 * nothing to be written to, or another import of this process is appending to it.
 */
export function createStatCache(
  file: string,
  preserve: boolean,
  { old, epoch = '' }: StatCacheOptions = {},
): StatCacheWriter | undefined {
  const output = orNone(() => (old ? openToAppend(file, old) : openDraft(file)));
  if (!output) return undefined;
  const { fd } = output;
  const base = old?.length ?? HEADER;
  const encoder = createRecordEncoder();
  let written = 0;
  let open = true;

  function flush(): void {
    const bytes = encoder.take();
    writeAt(fd, bytes, base + written);
    written += bytes.length;
  }

  function writeRoot({ link, size, files, record }: Parameters<StatCacheWriter['commit']>[0]): void {
    if (old && record.offset === old.rootRecord.offset) return;
    flush();
    const live = written + (old ? Math.max(old.live - written, 0) : 0);
    const about = { size, files, preserve, live, time: Date.now(), epoch: shortEpoch(epoch) };
    writeAt(fd, encodeHeader({ root: link, rootRecord: record, ...about }), 0);
  }

  /** Returns whether the task was done; if not, there will be no cache. */
  function attempt(task: () => void): boolean {
    if (!open) return false;
    const done = orNone(() => {
      task();
      return true;
    });
    if (!done) discard();
    return done === true;
  }

  function close(): void {
    open = false;
    orNone(() => fs.closeSync(fd));
    output?.release();
  }

  function discard(): void {
    if (!open) return;
    orNone(() => output?.revert(base));
    close();
  }

  return {
    add(directory) {
      if (!open || (encoder.length() >= BUFFER && !attempt(flush))) return NO_RECORD;
      const start = encoder.length();
      encoder.add(directory);
      return { offset: base + written + start, length: encoder.length() - start };
    },
    commit(root) {
      const done = attempt(() => {
        writeRoot(root);
        output.publish();
      });
      if (done) close();
    },
    discard,
  };
}

interface Output {
  fd: number;
  /** Puts it where readers look. */
  publish(): void;
  /** Undoes what was written from `base` on. */
  revert(base: number): void;
  /** Lets others write to the file. */
  release(): void;
}

/** Returns undefined where something lies that is no file, such as a device: a new file must not replace it. */
function openDraft(file: string): Output | undefined {
  if (fs.statSync(file, { throwIfNoEntry: false })?.isFile() === false) return undefined;
  fs.mkdirSync(dirname(file), { recursive: true });
  const draft = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  return {
    fd: fs.openSync(draft, 'wx', 0o600),
    publish: () => fs.renameSync(draft, file),
    revert: () => fs.rmSync(draft, { force: true }),
    release() {},
  };
}

/** Identities of the files that are appended to in this process: two writers would write to one place. */
const appending = new Set<string>();

function openToAppend(file: string, { identity, length }: StatCacheReader): Output | undefined {
  const fd = fs.openSync(file, 'r+');
  const stat = fs.fstatSync(fd);
  if (identityOf(stat) !== identity || stat.size !== length || appending.has(identity)) {
    fs.closeSync(fd);
    return undefined;
  }
  appending.add(identity);
  return {
    fd,
    publish() {},
    revert: (base) => fs.ftruncateSync(fd, base),
    release: () => appending.delete(identity),
  };
}

/** Whether appending to a cache is better than writing a new one. */
export function isWorthKeeping(cache: StatCacheReader): boolean {
  return cache.live >= (cache.length - HEADER) * LEAST_LIVE;
}

function writeAt(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += fs.writeSync(fd, bytes, done, bytes.length - done, position + done);
  }
}
