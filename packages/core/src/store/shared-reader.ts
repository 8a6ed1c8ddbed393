import fs from 'node:fs';
import { join } from 'node:path';
import { CorruptBlockError, errnoOf } from '../errors.js';
import { formatLink, type Link, linkDigest } from '../format/link.js';
import { createSnappyDecoder } from '../wasm/snappy-decoder.js';
import { type Location, openIndexLookup } from './block-index.js';
import { blockOfRecord, Compression, checkRecord, RECORD_HEADER } from './record.js';
import { segmentPath } from './segments.js';

/** Reads the blocks of a local store that another thread of this process has open. Nothing is allocated for a block. */
export interface SharedReader {
  /**
   * The block, or undefined when the index does not have it: the store itself may still have it among what it is
   * about to commit. The bytes are valid until `recycle`.
   *
   * @throws CorruptBlockError
   */
  get(link: Link): Uint8Array | undefined;
  /**
   * Calls `found` for each of the blocks that are here and sound. Those that lie together are read together; the
   * bytes are valid during the call.
   */
  getAll(links: readonly Link[], found: (bytes: Uint8Array, index: number) => void): void;
  /** Says that the blocks got so far are not needed any more. */
  recycle(): void;
  close(): Promise<void>;
}

const OPEN_SEGMENTS = 64;
const ARENA_BYTES = 4 << 20;
/** Records that are read with one call: bytes in all, and bytes between two of them. */
const RUN_BYTES = 1 << 20;
const RUN_GAP = 4096;

/** @param directory of a store that is open for as long as the reader is used */
export async function openSharedReader(directory: string): Promise<SharedReader> {
  const index = await openIndexLookup(join(directory, 'index'));
  const segments = join(directory, 'segments');
  const open = new Map<number, number>();
  const { memory, slack, decode } = createSnappyDecoder(ARENA_BYTES);
  /** What of the arena is in use. */
  let used = 0;

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

  /** Reads a part of a segment into the arena, and returns where. */
  function load(segment: number, offset: number, length: number): number {
    const at = used;
    used += length + slack;
    const read = fs.readSync(reader(segment), memory, at, length, offset);
    if (read !== length) throw new ShortRead();
    return at;
  }

  /** The block in the record at `at`, decompressed into the arena if need be. */
  function block(link: Link, at: number, { stored, raw, compression }: Location): Uint8Array {
    const end = at + RECORD_HEADER + stored;
    const record = memory.subarray(at, end);
    const fits = used + raw + slack <= ARENA_BYTES;
    if (compression !== Compression.snappy || !fits) return blockOfRecord(link, record, directory);
    checkRecord(link, record, directory);
    const to = used;
    if (!decode(at + RECORD_HEADER, stored, to, raw)) {
      throw new CorruptBlockError(formatLink(link), directory, 'its payload cannot be decompressed');
    }
    used += raw + slack;
    return memory.subarray(to, to + raw);
  }

  function read(link: Link, location: Location): Uint8Array | undefined {
    const { segment, offset, stored } = location;
    const length = RECORD_HEADER + stored;
    if (used + length + slack > ARENA_BYTES) {
      const record = Buffer.allocUnsafe(length);
      if (fs.readSync(reader(segment), record, 0, length, offset) !== length) throw new ShortRead();
      return blockOfRecord(link, record, directory);
    }
    return block(link, load(segment, offset, length), location);
  }

  function readOrMoved(link: Link, location: Location): Uint8Array | undefined {
    try {
      return read(link, location);
    } catch (error) {
      // gc has removed the segment since the index was asked.
      if (errnoOf(error) === 'ENOENT') return undefined;
      if (error instanceof CorruptBlockError) throw error;
      throw new CorruptBlockError(formatLink(link), directory, (error as Error).message);
    }
  }

  return {
    get(link) {
      const digest = linkDigest(link);
      const location = index.find(digest);
      if (!location) return undefined;
      const found = readOrMoved(link, location);
      if (found) return found;
      const moved = index.find(digest);
      if (!moved) return undefined;
      const again = readOrMoved(link, moved);
      if (!again) throw new CorruptBlockError(formatLink(link), directory, 'its segment is gone');
      return again;
    },
    getAll(links, found) {
      for (const run of runsOf(links, index.find)) {
        used = 0;
        try {
          const at = load(run.segment, run.start, run.end - run.start);
          const free = used;
          for (const { link, position, location } of run.members) {
            found(block(link, at + location.offset - run.start, location), position);
            used = free;
          }
        } catch (error) {
          // Whoever asks for the block by itself is told.
          const gone = errnoOf(error) === 'ENOENT' || error instanceof ShortRead;
          if (!gone && !(error instanceof CorruptBlockError)) throw error;
        }
      }
      used = 0;
    },
    recycle() {
      used = 0;
    },
    async close() {
      for (const fd of open.values()) fs.closeSync(fd);
      open.clear();
      await index.close();
    },
  };
}

class ShortRead extends Error {
  constructor() {
    super('its segment is cut short');
  }
}

interface Run {
  segment: number;
  start: number;
  end: number;
  members: { link: Link; position: number; location: Location }[];
}

function* runsOf(links: readonly Link[], find: (digest: string) => Location | undefined): Generator<Run> {
  let run: Run | undefined;
  for (let position = 0; position < links.length; position++) {
    const link = links[position];
    const location = find(linkDigest(link));
    if (!location) continue;
    const end = location.offset + RECORD_HEADER + location.stored;
    const continues =
      run?.segment === location.segment &&
      location.offset >= run.end &&
      location.offset - run.end <= RUN_GAP &&
      end - run.start <= RUN_BYTES;
    if (run && continues) {
      run.end = end;
      run.members.push({ link, position, location });
      continue;
    }
    if (run) yield run;
    const { segment, offset: start } = location;
    run = { segment, start, end, members: [{ link, position, location }] };
  }
  if (run) yield run;
}
