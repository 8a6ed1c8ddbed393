import fs from 'node:fs';
import { join } from 'node:path';
import { CorruptBlockError, errnoOf } from '../errors.js';
import { formatLink, type Link, linkDigest } from '../format/link.js';
import { type Location, openIndexLookup } from './block-index.js';
import { blockOfRecord, RECORD_HEADER } from './record.js';
import { segmentPath } from './segments.js';

/** Reads the blocks of a local store that another thread of this process has open. */
export interface SharedReader {
  /**
   * The block, or undefined when the index does not have it: the store itself may still have it among what it is
   * about to commit.
   *
   * @throws CorruptBlockError
   */
  get(link: Link): Uint8Array | undefined;
  close(): Promise<void>;
}

const OPEN_SEGMENTS = 64;

/** @param directory of a store that is open for as long as the reader is used */
export async function openSharedReader(directory: string): Promise<SharedReader> {
  const index = await openIndexLookup(join(directory, 'index'));
  const segments = join(directory, 'segments');
  const open = new Map<number, number>();

  function reader(segment: number): number {
    const known = open.get(segment);
    if (known !== undefined) return known;
    const fd = fs.openSync(segmentPath(segments, segment), 'r');
    open.set(segment, fd);
    if (open.size > OPEN_SEGMENTS) {
      const [oldest, oldFd] = open.entries().next().value as [number, number];
      open.delete(oldest);
      fs.closeSync(oldFd);
    }
    return fd;
  }

  function read(link: Link, { segment, offset, stored }: Location): Uint8Array | undefined {
    const length = RECORD_HEADER + stored;
    const record = Buffer.allocUnsafe(length);
    let bytes: number;
    try {
      bytes = fs.readSync(reader(segment), record, 0, length, offset);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw new CorruptBlockError(formatLink(link), directory, (error as Error).message);
    }
    if (bytes !== length)
      throw new CorruptBlockError(formatLink(link), directory, 'its segment is cut short');
    return blockOfRecord(link, record, directory);
  }

  return {
    get(link) {
      const digest = linkDigest(link);
      const location = index.find(digest);
      if (!location) return undefined;
      const found = read(link, location);
      if (found) return found;
      // gc has moved it since the index was asked.
      const moved = index.find(digest);
      if (!moved) return undefined;
      const again = read(link, moved);
      if (!again) throw new CorruptBlockError(formatLink(link), directory, 'its segment is gone');
      return again;
    },
    async close() {
      for (const fd of open.values()) fs.closeSync(fd);
      open.clear();
      await index.close();
    },
  };
}
