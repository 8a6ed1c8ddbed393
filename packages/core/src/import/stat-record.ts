import type fs from 'node:fs';
import { crc32 } from 'node:zlib';
import type { Metadata } from '../format/entry.js';
import type { Link } from '../format/link.js';
import { LINK_LENGTH } from '../format/link-length.js';

/** What tells that a file has not changed. A time of NaN never equals anything. */
export interface FileStamp {
  /** Milliseconds, with the fraction that a double holds (about 0.25 µs). */
  mtime: number;
  ctime: number;
  inode: number;
}

export interface CachedEntry {
  kind: 'file' | 'executable' | 'symlink' | 'directory';
  name: string;
  /** Of the content; of the directory node; absent for a symlink. */
  link: Link;
  /** Content bytes, of all files below for a directory; 0 for a symlink. */
  size: number;
  stamp: FileStamp;
  /** Symlinks only. */
  target: string;
  /** Directories: files below, and where their own record lies. */
  files: number;
  record: RecordPlace;
  metadata?: Metadata;
}

export interface RecordPlace {
  offset: number;
  length: number;
}

export const NO_RECORD: RecordPlace = { offset: 0, length: 0 };

export interface CachedDirectory {
  stamp: FileStamp;
  /** Of the ignore rules in force when the names were read. */
  rules: string;
  entries: CachedEntry[];
}

/** Bits of an entry's flags. */
export const Flag = { kind: 3, wideName: 4, wideTarget: 8, metadata: 16 } as const;
export const KINDS = ['file', 'executable', 'symlink', 'directory'] as const;

/** Record: crc32, stamp, rules as length and Latin-1, entry count, entries. compare-record.ts reads it, too. */
export function decodeDirectory(record: Buffer, trusted: number): CachedDirectory | undefined {
  if (record.length < 4 || crc32(record.subarray(4)) !== record.readUInt32LE(0)) return undefined;
  let at = 4;
  const stamp = readStamp();
  const rules = readText('latin1');
  const count = record.readUInt32LE(at);
  at += 4;
  const entries: CachedEntry[] = [];
  for (let i = 0; i < count; i++) entries.push(readEntry());
  return { stamp, rules, entries };

  function readDouble(): number {
    at += 8;
    return record.readDoubleLE(at - 8);
  }
  function readStamp(): FileStamp {
    const stamp = { mtime: readDouble(), ctime: readDouble(), inode: readDouble() };
    if (!(stamp.ctime < trusted)) stamp.mtime = Number.NaN;
    return stamp;
  }
  function readText(encoding: 'latin1' | 'utf16le' | 'utf8'): string {
    const length = record.readUInt16LE(at);
    at += 2 + length;
    return record.toString(encoding, at - length, at);
  }
  /** Names are UTF-8, or UTF-16 where escaped bytes make them impossible in UTF-8. */
  function readName(wide: boolean): string {
    return wide ? readText('utf16le') : readText('utf8');
  }
  function readEntry(): CachedEntry {
    const flags = record[at++];
    const kind = KINDS[flags & Flag.kind];
    const name = readName((flags & Flag.wideName) !== 0);
    const entry: CachedEntry = {
      kind,
      name,
      link: '' as Link,
      size: 0,
      stamp: readStamp(),
      target: '',
      files: 0,
      record: NO_RECORD,
    };
    if (kind === 'symlink') entry.target = readName((flags & Flag.wideTarget) !== 0);
    else {
      entry.link = record.toString('latin1', at, at + LINK_LENGTH) as Link;
      at += LINK_LENGTH;
      entry.size = readDouble();
    }
    if (kind === 'directory') {
      entry.files = readDouble();
      entry.record = { offset: readDouble(), length: readDouble() };
    }
    if (flags & Flag.metadata)
      entry.metadata = { mode: readDouble(), seconds: readDouble(), nanoseconds: readDouble() };
    return entry;
  }
}

export function isUnchanged({ kind, stamp, size }: CachedEntry, stat: fs.Stats): boolean {
  const { mtime, ctime, inode } = stamp;
  if (stat.mtimeMs !== mtime || stat.ctimeMs !== ctime || stat.ino !== inode) return false;
  return hasKind(kind, size, stat);
}

/** Whether something on disk is of a kind, and of a size where that says something. */
export function hasKind(kind: CachedEntry['kind'], size: number, stat: fs.Stats): boolean {
  if (kind === 'symlink') return stat.isSymbolicLink();
  if (kind === 'directory') return stat.isDirectory();
  return stat.isFile() && stat.size === size && (stat.mode & 0o100 ? 'executable' : 'file') === kind;
}

/** Whether a directory still has the names that it had. */
export function isSameDirectory({ stamp }: CachedDirectory, stat: fs.Stats | undefined): boolean {
  return stat?.isDirectory() === true && sameStamp(stamp, stampOf(stat));
}

export function stampOf(stat: fs.Stats): FileStamp {
  return { mtime: stat.mtimeMs, ctime: stat.ctimeMs, inode: stat.ino };
}

export function sameStamp(a: FileStamp, b: FileStamp): boolean {
  return a.mtime === b.mtime && a.ctime === b.ctime && a.inode === b.inode;
}

/** Encodes records one after another; see decodeDirectory. */
export function createRecordEncoder() {
  let buffer = Buffer.allocUnsafeSlow(64 << 10);
  let at = 0;

  function room(bytes: number): void {
    if (at + bytes <= buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(buffer.length * 2, at + bytes));
    buffer.copy(larger, 0, 0, at);
    buffer = larger;
  }

  function double(value: number): void {
    at = buffer.writeDoubleLE(value, at);
  }

  function stamp({ mtime, ctime, inode }: FileStamp): void {
    double(mtime);
    double(ctime);
    double(inode);
  }

  function text(value: string, encoding: BufferEncoding): void {
    const length = Buffer.byteLength(value, encoding);
    room(length + 256);
    at = buffer.writeUInt16LE(length, at);
    at += buffer.write(value, at, encoding);
  }

  function entry(item: CachedEntry): void {
    room(1024);
    const wideName = !item.name.isWellFormed();
    const wideTarget = !item.target.isWellFormed();
    const kind = KINDS.indexOf(item.kind);
    const metadata = item.metadata ? Flag.metadata : 0;
    buffer[at++] = kind | (wideName ? Flag.wideName : 0) | (wideTarget ? Flag.wideTarget : 0) | metadata;
    text(item.name, wideName ? 'utf16le' : 'utf8');
    stamp(item.stamp);
    if (item.kind === 'symlink') text(item.target, wideTarget ? 'utf16le' : 'utf8');
    else {
      at += buffer.write(item.link, at, LINK_LENGTH, 'latin1');
      double(item.size);
    }
    if (item.kind === 'directory') {
      double(item.files);
      double(item.record.offset);
      double(item.record.length);
    }
    if (!item.metadata) return;
    double(item.metadata.mode);
    double(item.metadata.seconds);
    double(item.metadata.nanoseconds);
  }

  return {
    length: () => at,
    add(directory: CachedDirectory): void {
      const start = at;
      room(1024);
      at += 4;
      stamp(directory.stamp);
      text(directory.rules, 'latin1');
      at = buffer.writeUInt32LE(directory.entries.length, at);
      for (const item of directory.entries) entry(item);
      buffer.writeUInt32LE(crc32(buffer.subarray(start + 4, at)), start);
    },
    /** What was encoded since the last call; valid until the next `add`. */
    take(): Buffer {
      const bytes = buffer.subarray(0, at);
      at = 0;
      return bytes;
    },
  };
}
