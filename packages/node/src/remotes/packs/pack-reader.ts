import {
  createFrameUnpacker,
  FRAME_HEADER,
  type FramePlace,
  LazytreeError,
  MAX_FRAME_BYTES,
  readFrameHeader,
  type UnpackedFrames,
} from '@lazytree/core';
import pMap from 'p-map';
import { packName } from '../object-names.js';
import type { Storage } from '../storage/storage.js';
import { createReadAhead } from './read-ahead.js';

export interface ReadFramesOptions {
  signal: AbortSignal;
  /** Read more than is wanted when somebody reads on and on. */
  ahead: boolean;
  /** Given the blocks of frames that lie together, as they come. */
  onFrames(frames: UnpackedFrames): Promise<void>;
}

/** Reads frames of packs: those that lie together with one request, several requests at the same time. */
export interface PackReader {
  /**
   * What is not what it should be is read once more.
   *
   * @param wanted digests that each frame is read for
   * @throws LazytreeError CORRUPT, NOT_FOUND when a pack has gone; after all that can be read has been given
   */
  read(wanted: ReadonlyMap<FramePlace, readonly string[]>, options: ReadFramesOptions): Promise<void>;
  /** The bytes of a part of a pack, as they are. */
  bytes(place: FramePlace, signal: AbortSignal): Promise<Buffer>;
  close(): Promise<void>;
}

/** Bytes of a request. */
const RANGE_BYTES = 4 << 20;
/** Bytes that nobody wants, between two frames that somebody wants, which are read rather than asked around. */
const GAP = 128 << 10;
const AT_ONCE = 6;
/** Raw bytes of frames that are unpacked together: what compresses to nothing is a lot when it is unpacked. */
const TOGETHER_RAW = 32 << 20;
/** Frames that are remembered as they are stored: several may want blocks of one at about the same time. */
const RECENT_BYTES = 16 << 20;

interface Run {
  pack: string;
  frames: FramePlace[];
  start: number;
  end: number;
}

interface RecentFrame {
  bytes: Promise<Buffer>;
  length: number;
}

export function createPackReader(storage: Storage): PackReader {
  const unpacker = createFrameUnpacker();
  const readAhead = createReadAhead();
  const recent = new Map<string, RecentFrame>();

  function where(pack: string): string {
    return `'${packName(pack)}' of ${storage.describe()}`;
  }

  /** What there is of a part of a pack that may reach beyond its end. */
  async function part({ pack, offset, length }: FramePlace, signal: AbortSignal): Promise<Buffer> {
    const object = await storage.get(packName(pack), { range: { offset, length }, signal });
    if (object) return object.bytes;
    throw new LazytreeError('NOT_FOUND', `${where(pack)} has gone`);
  }

  async function bytes(place: FramePlace, signal: AbortSignal): Promise<Buffer> {
    const found = await part(place, signal);
    if (found.length === place.length) return found;
    throw cutShort(place.pack);
  }

  function cutShort(pack: string): LazytreeError {
    return new LazytreeError('CORRUPT', `${where(pack)} is cut short`, {
      hint: 'push again what was pushed; `lazytree remote validate` looks for more',
    });
  }

  /** The frames of a run, and what has been read behind them, as far as it is whole frames. */
  async function readRun({ pack, start, end }: Run, ahead: number, signal: AbortSignal): Promise<Buffer> {
    const found = await part({ pack, offset: start, length: end - start + ahead }, signal);
    if (found.length < end - start) throw cutShort(pack);
    if (ahead === 0) return found;
    let whole = end - start;
    let room = TOGETHER_RAW;
    while (whole + FRAME_HEADER <= found.length) {
      const { stored, raw } = readFrameHeader(found, whole, where(pack));
      const next = whole + FRAME_HEADER + stored;
      room -= raw;
      if (next > found.length || room < 0) break;
      whole = next;
    }
    return found.subarray(0, whole);
  }

  function remember(frame: FramePlace, found: Promise<Buffer>): void {
    const key = keyOf(frame);
    recent.set(key, { bytes: found, length: frame.length });
    found.catch(() => recent.delete(key));
    let total = 0;
    for (const { length } of recent.values()) total += length;
    for (const [oldest, { length }] of recent) {
      if (total <= RECENT_BYTES) break;
      recent.delete(oldest);
      total -= length;
    }
  }

  return {
    async read(wanted, { signal, ahead, onFrames }) {
      const frames = [...wanted.keys()];
      for (const { pack, length } of frames) {
        if (length <= FRAME_HEADER || length > FRAME_HEADER + MAX_FRAME_BYTES)
          throw new LazytreeError('CORRUPT', `a frame of ${length} bytes in ${where(pack)}`);
      }
      const known = frames.filter((frame) => recent.has(keyOf(frame)));
      const runs = runsOf(frames.filter((frame) => !recent.has(keyOf(frame))));
      const unpack = async (pack: string, parts: readonly FramePlace[], read: Buffer) => {
        const digests = new Set(parts.flatMap((frame) => wanted.get(frame) ?? []));
        const unpacked = await unpacker.unpack({
          frames: read,
          wanted: [...digests].join(''),
          where: where(pack),
        });
        const lacking = digests.size - unpacked.found.length;
        if (lacking === 0) return unpacked;
        throw new LazytreeError(
          'CORRUPT',
          `${where(pack)} lacks ${lacking} blocks that a table says it has`,
          {
            hint: 'push again what was pushed; `lazytree remote validate` looks for more',
          },
        );
      };
      // One that cannot be read does not keep the others from being read.
      let failure: { error: unknown } | undefined;
      const attempt = (job: () => Promise<void>) =>
        job().catch((error: unknown) => {
          signal.throwIfAborted();
          failure ??= { error };
        });
      /** Bytes may have been changed on their way; and where one frame is damaged, the others are not. */
      const oneByOne = async (parts: readonly FramePlace[]) => {
        for (const frame of parts) {
          recent.delete(keyOf(frame));
          await attempt(async () => onFrames(await unpack(frame.pack, [frame], await bytes(frame, signal))));
        }
      };
      const readFirst = async (parts: readonly FramePlace[], reading: Promise<UnpackedFrames>) => {
        let frames: UnpackedFrames;
        try {
          frames = await reading;
        } catch (error) {
          if (!isCorrupt(error)) throw error;
          return oneByOne(parts);
        }
        await onFrames(frames);
      };
      const oneRun = async (run: Run) => {
        const { pack, start, frames: parts } = run;
        // Somebody who asked at the same time may have begun.
        if (parts.every((frame) => recent.has(keyOf(frame)))) {
          for (const frame of parts) await oneKnown(frame);
          return;
        }
        const more = ahead ? readAhead.behind(run) : 0;
        const reading = readRun(run, more, signal);
        for (const frame of parts)
          remember(
            frame,
            // A part of the buffer would keep all of it.
            reading.then((all) => Buffer.from(frameIn(all, frame, start))),
          );
        const groups = await reading.then(
          (read) => groupsOf(read, run),
          () => [parts],
        );
        for (const [i, group] of groups.entries()) {
          const isLast = i === groups.length - 1;
          await readFirst(
            group,
            reading.then((read) => unpack(pack, group, framesOf(read, { run, group, isLast }))),
          );
        }
      };
      const oneKnown = async (frame: FramePlace) => {
        const { bytes: coming } = recent.get(keyOf(frame)) ?? { bytes: undefined };
        // Whoever began to read it may have given up.
        const found = await coming?.catch(() => undefined);
        signal.throwIfAborted();
        await readFirst([frame], unpack(frame.pack, [frame], found ?? (await bytes(frame, signal))));
      };
      const jobs = [...runs.map((run) => () => oneRun(run)), ...known.map((frame) => () => oneKnown(frame))];
      await pMap(jobs, attempt, { concurrency: AT_ONCE, signal });
      if (failure) throw failure.error;
    },
    bytes,
    close: () => unpacker.close(),
  };
}

function isCorrupt(error: unknown): boolean {
  return (error as LazytreeError).code === 'CORRUPT';
}

function keyOf({ pack, offset }: FramePlace): string {
  return `${pack}${offset}`;
}

function frameIn(read: Buffer, { offset, length }: FramePlace, start: number): Buffer {
  return read.subarray(offset - start, offset - start + length);
}

/** The frames of a run, in parts of which each is not too much when it is unpacked. */
function groupsOf(read: Buffer, { frames, start }: Run): FramePlace[][] {
  const groups: FramePlace[][] = [[]];
  let raw = 0;
  for (const frame of frames) {
    raw += rawOf(read, frame.offset - start);
    if (raw > TOGETHER_RAW && groups[groups.length - 1].length > 0) {
      groups.push([]);
      raw = rawOf(read, frame.offset - start);
    }
    groups[groups.length - 1].push(frame);
  }
  return groups;
}

function rawOf(read: Buffer, at: number): number {
  try {
    return readFrameHeader(read, at, '').raw;
  } catch {
    // Who unpacks it says what is wrong with it.
    return 0;
  }
}

/** What nobody wants between frames is left out; what has been read behind all of them is not. */
function framesOf(
  read: Buffer,
  { run: { frames, start, end }, group, isLast }: { run: Run; group: FramePlace[]; isLast: boolean },
): Buffer {
  const wanted = frames.reduce((sum, { length }) => sum + length, 0);
  if (group.length === frames.length && wanted === end - start) return read;
  const behind = isLast ? [read.subarray(end - start)] : [];
  return Buffer.concat([...group.map((frame) => frameIn(read, frame, start)), ...behind]);
}

/** Frames that one request reads, in the order of their packs. */
function runsOf(places: readonly FramePlace[]): Run[] {
  const sorted = [...places].sort((a, b) =>
    a.pack === b.pack ? a.offset - b.offset : a.pack < b.pack ? -1 : 1,
  );
  const runs: Run[] = [];
  for (const frame of sorted) {
    const { pack, offset, length } = frame;
    const last = runs[runs.length - 1];
    const joins =
      last?.pack === pack && offset - last.end <= GAP && offset + length - last.start <= RANGE_BYTES;
    if (joins) {
      last.frames.push(frame);
      last.end = Math.max(last.end, offset + length);
    } else runs.push({ pack, frames: [frame], start: offset, end: offset + length });
  }
  return runs;
}
