import { lstatSync, type Stats } from 'node:fs';
import { crc32 } from 'node:zlib';
import { LINK_LENGTH } from '../format/link-length.js';
import { toFsPath } from '../format/name.js';
import { IGNORE_FILE } from './ignore-file.js';
import { type CachedEntry, Flag, hasKind, KINDS, type RecordPlace } from './stat-record.js';

/** What a record says of the directory at `path`, against what is there. */
export interface Comparison {
  /** Whether all that is in the directory, apart from what is in directories below, is as it was. */
  same: boolean;
  /** Files that were looked at. */
  files: number;
  below: { name: string; record: RecordPlace }[];
}

const NO_ENTRY = { throwIfNoEntry: false } as const;
const STAMP = 24;

/**
 * Compares records with the disk straight from the cache's bytes, with nothing made of them that is not needed: most
 * of what an unchanged import does is here. A directory with an ignore file is never the same, since rules have to be
 * read. Without `looks`, only the directories below are listed.
 *
 * @throws Error for a damaged record, and what the operating system says
 */
export function createRecordComparer(cache: SharedArrayBuffer, trusted: number) {
  const bytes = Buffer.from(cache);
  const view = new DataView(cache);

  return function compare({ offset, length }: RecordPlace, path: string, looks: boolean): Comparison {
    const end = offset + length;
    if (crc32(bytes.subarray(offset + 4, end)) !== view.getUint32(offset, true)) {
      throw new Error('a damaged record');
    }
    const below: Comparison['below'] = [];
    const prefix = `${path}/`;
    let files = 0;
    let at = offset + 4;
    let same = looks && isSame(at, 'directory', 0, path);
    at += STAMP;
    at += 2 + view.getUint16(at, true);
    const count = view.getUint32(at, true);
    at += 4;
    for (let i = 0; i < count; i++) {
      const flags = bytes[at];
      const kind = KINDS[flags & Flag.kind];
      const nameAt = at + 3;
      const stampAt = nameAt + view.getUint16(at + 1, true);
      at = stampAt + STAMP;
      if (kind === 'symlink') at += 2 + view.getUint16(at, true);
      else at += LINK_LENGTH + 8;
      if (same || kind === 'directory') {
        const name = bytes.toString(flags & Flag.wideName ? 'utf16le' : 'utf8', nameAt, stampAt);
        if (kind === 'directory') {
          const record = { offset: view.getFloat64(at + 8, true), length: view.getFloat64(at + 16, true) };
          below.push({ name, record });
        } else {
          files += 1;
          const size = kind === 'symlink' ? 0 : view.getFloat64(at - 8, true);
          same = name !== IGNORE_FILE && isSame(stampAt, kind, size, prefix + name);
        }
      }
      if (kind === 'directory') at += 24;
      if (flags & Flag.metadata) at += 24;
    }
    if (at !== end) throw new Error('a record of another length');
    return { same, files, below };
  };

  function isSame(stampAt: number, kind: CachedEntry['kind'], size: number, path: string): boolean {
    const stat: Stats | undefined = lstatSync(toFsPath(path), NO_ENTRY);
    if (stat === undefined) return false;
    const ctime = view.getFloat64(stampAt + 8, true);
    return (
      stat.mtimeMs === view.getFloat64(stampAt, true) &&
      stat.ctimeMs === ctime &&
      ctime < trusted &&
      stat.ino === view.getFloat64(stampAt + 16, true) &&
      hasKind(kind, size, stat)
    );
  }
}
