import {
  type BlockPlace,
  bucketOf,
  checkBucket,
  decodeTableHeader,
  type FramePlace,
  fanoutRange,
  findInBucket,
  frameRange,
  type LazytreeError,
  type Link,
  linkDigest,
  mayHave,
  readFanout,
  readFramePlace,
  TABLE_HEADER,
  type TableShape,
} from '@lazytree/core';
import pMap from 'p-map';

/** Reads a part of a table. */
export type ReadPart = (range: { offset: number; length: number }, signal: AbortSignal) => Promise<Buffer>;

/** A table that is searched where it is. */
export interface Table {
  /** Adds to `found` where those of `links` are that it has. */
  find(links: Iterable<Link>, found: Map<Link, BlockPlace>, signal: AbortSignal): Promise<void>;
}

/** From so many lookups on, reading the filter is worth it. */
export const MANY = 64;
/** Buckets that are read at the same time. */
const AT_ONCE = 8;
/** Buckets that lie no further apart are read with one request. */
const GAP = 64 << 10;

/** A table of which all bytes are here. @throws LazytreeError CORRUPT */
export function wholeTable(bytes: Buffer, where: string): Table {
  const shape = decodeTableHeader(bytes, bytes.length, where);
  const checked = new Set<number>();
  const frames = new Map<number, FramePlace>();
  const part = ({ offset, length }: { offset: number; length: number }) =>
    bytes.subarray(offset, offset + length);
  return {
    async find(links, found) {
      for (const link of links) {
        const number = bucketOf(linkDigest(link), shape.fanoutBits);
        const place = readFanout(part(fanoutRange(number)), number, shape, where);
        const bucket = part(place);
        if (!checked.has(number)) checkBucket(bucket, place, where);
        checked.add(number);
        const entry = findInBucket(bucket, link);
        if (!entry) continue;
        const frame = frames.get(entry.frame) ?? readFramePlace(part(frameRange(entry.frame, shape, where)));
        frames.set(entry.frame, frame);
        found.set(link, { frame, slot: entry.slot });
      }
    },
  };
}

export interface LargeTableOptions {
  /** Of all of it. */
  size: number;
  where: string;
  read: ReadPart;
}

/**
 * A table too large to be fetched: a few small parts of it are read for each block. What has been read is remembered. Buckets
 * are checked as they are read; a wrong place of a frame is found out where it is read, and a bit that the filter lacks
 * hides few blocks from lookups of many.
 */
export function largeTable({ size, where, read }: LargeTableOptions): Table {
  let opening: Promise<{ shape: TableShape; fanout: Buffer }> | undefined;
  let filtering: Promise<Buffer> | undefined;
  const frames = new Map<number, Promise<FramePlace>>();

  function open(signal: AbortSignal) {
    opening ??= (async () => {
      const header = await read({ offset: 0, length: TABLE_HEADER }, signal);
      const shape = decodeTableHeader(header, size, where);
      const fanout = await read({ offset: 0, length: shape.framesAt }, signal);
      return { shape, fanout };
    })().catch((error: unknown) => {
      opening = undefined;
      throw error;
    });
    return opening;
  }

  function filter({ filterAt }: TableShape, signal: AbortSignal): Promise<Buffer> {
    filtering ??= read({ offset: filterAt, length: size - filterAt }, signal).catch((error: unknown) => {
      filtering = undefined;
      throw error;
    });
    return filtering;
  }

  function frame(number: number, shape: TableShape, signal: AbortSignal): Promise<FramePlace> {
    const known = frames.get(number);
    if (known) return known;
    const reading = read(frameRange(number, shape, where), signal)
      .then(readFramePlace)
      .catch((error: unknown) => {
        frames.delete(number);
        throw error;
      });
    frames.set(number, reading);
    return reading;
  }

  return {
    async find(links, found, signal) {
      try {
        await findOnce(links, found, signal);
      } catch (error) {
        if ((error as LazytreeError).code !== 'CORRUPT') throw error;
        // Bytes may have been changed on their way.
        opening = undefined;
        await findOnce(links, found, signal);
      }
    },
  };

  async function findOnce(
    links: Iterable<Link>,
    found: Map<Link, BlockPlace>,
    signal: AbortSignal,
  ): Promise<void> {
    const { shape, fanout } = await open(signal);
    let wanted = [...links];
    if (wanted.length >= MANY) {
      const bits = await filter(shape, signal);
      wanted = wanted.filter((link) => mayHave(bits, linkDigest(link)));
    }
    const buckets = new Map<number, Link[]>();
    for (const link of wanted) {
      const number = bucketOf(linkDigest(link), shape.fanoutBits);
      buckets.set(number, [...(buckets.get(number) ?? []), link]);
    }
    const runs = runsOf(
      [...buckets]
        .sort(([a], [b]) => a - b)
        .map(([number, inside]) => {
          const { offset, length } = fanoutRange(number);
          const place = readFanout(fanout.subarray(offset, offset + length), number, shape, where);
          return { ...place, inside };
        })
        .filter(({ length }) => length > 0),
    );
    const searchRun = async (run: (typeof runs)[number]) => {
      const [{ offset: start }] = run;
      const { offset, length } = run[run.length - 1];
      const bytes = await read({ offset: start, length: offset + length - start }, signal);
      for (const bucket of run) {
        const part = bytes.subarray(bucket.offset - start, bucket.offset - start + bucket.length);
        checkBucket(part, bucket, where);
        for (const link of bucket.inside) {
          const entry = findInBucket(part, link);
          if (entry) found.set(link, { frame: await frame(entry.frame, shape, signal), slot: entry.slot });
        }
      }
    };
    await pMap(runs, searchRun, { concurrency: AT_ONCE, signal });
  }
}

function runsOf<T extends { offset: number; length: number }>(places: readonly T[]): T[][] {
  const runs: T[][] = [];
  let end = Number.NEGATIVE_INFINITY;
  for (const place of places) {
    if (place.offset - end > GAP) runs.push([]);
    runs[runs.length - 1].push(place);
    end = place.offset + place.length;
  }
  return runs;
}
