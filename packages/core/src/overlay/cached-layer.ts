import type fs from 'node:fs';
import type { Entry, OriginEntry } from '../format/entry.js';
import type { Link } from '../format/link.js';
import { type CachedEntry, type FileStamp, isUnchanged, NO_RECORD } from '../import/stat-record.js';

/**
 * How a stat cache holds what is not in the upper layer. What is in the base has the inode number 0, which no file
 * has. A file whose content alone is there has its own number, negative, so that nobody takes it for another.
 */
const IN_BASE: FileStamp = { mtime: 0, ctime: 0, inode: 0 };

export function isInBase({ stamp }: CachedEntry): boolean {
  return stamp.inode === 0;
}

export function inBase(entry: Exclude<Entry, OriginEntry>): CachedEntry {
  const { kind, name, metadata } = entry;
  const common = { name, stamp: IN_BASE, record: NO_RECORD, ...(metadata ? { metadata } : {}) };
  if (kind === 'symlink')
    return { ...common, kind, link: '' as Link, size: 0, target: entry.target, files: 0 };
  const { link, size } = entry;
  return { ...common, kind, link, size, target: '', files: kind === 'directory' ? entry.files : 0 };
}

export function metacopyStamp({ mtime, ctime, inode }: FileStamp): FileStamp {
  return { mtime, ctime, inode: -inode };
}

export function isUnchangedMetacopy(entry: CachedEntry, stat: fs.Stats): boolean {
  return isUnchanged({ ...entry, stamp: metacopyStamp(entry.stamp) }, stat);
}
