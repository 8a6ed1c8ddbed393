import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '../errors.js';
import { MAX_CHUNK } from '../format/chunker.js';
import { encodeFile, type FilePart } from '../format/file-node.js';
import { type Codec, DAG_CBOR, digestOf, type Link, linkDigest, makeLink, RAW } from '../format/link.js';
import { toFsPath } from '../format/name.js';
import { RECORD_EFFORT } from '../store/record.js';
import { type Arena, createArena } from './arena.js';
import { type IngestSink, type NewBlock, storeBlocks } from './new-blocks.js';
import { RACY_MS } from './stat-cache.js';

export const Status = {
  ok: 0,
  /** Read, but it kept changing: the content is the last that was read. */
  unstable: 1,
  /** No longer a regular file, or no longer there. */
  moved: 2,
  failed: 3,
} as const;

/** Columns of {@link IngestedFiles.numbers}. */
export const Column = { size: 0, mtime: 1, ctime: 2, inode: 3, mode: 4, seconds: 5, nanoseconds: 6 } as const;
export const COLUMNS = 7;

/** What became of a list of files, column by column so that it travels between threads in three values. */
export interface IngestedFiles {
  status: Uint8Array;
  /** A link of 33 characters for each file, spaces where there is none. */
  links: string;
  numbers: Float64Array;
  failures: { index: number; code: string | undefined; message: string }[];
}

const ATTEMPTS = 12;
/** A file with a change time further ahead than this is from another clock; waiting for it is no use. */
const CLOCK_SKEW_MS = 2000;
const ARENA = 1 << 20;
const FLAGS =
  fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK | fs.constants.O_NOCTTY;

/** Reads, chunks, hashes and compresses files. One ingester works on several lists at a time. */
export function createIngester(sink: IngestSink, { nanoseconds = false } = {}) {
  const arenas: Arena[] = [];

  return async function ingest(paths: readonly string[]): Promise<IngestedFiles> {
    const count = paths.length;
    const result: IngestedFiles = {
      status: new Uint8Array(count),
      links: '',
      numbers: new Float64Array(count * COLUMNS),
      failures: [],
    };
    const arena = arenas.pop() ?? createArena(ARENA, RECORD_EFFORT);
    const { bytes: memory } = arena;
    const links: string[] = new Array(count).fill(NO_LINK);
    let used = 0;
    let blocks: NewBlock[] = [];
    /** Set for good by a failure of the sink, which is the whole list's and no file's. */
    let sinkFailed = false;

    /** Stores what is in the arena, which is empty afterwards. */
    async function flush(): Promise<void> {
      try {
        if (blocks.length > 0) await storeBlocks(sink, blocks, arena.encode);
      } catch (error) {
        sinkFailed = true;
        throw error;
      }
      blocks = [];
      used = 0;
    }

    function addBlock(codec: Codec, bytes: Uint8Array): Link {
      const digest = digestOf(bytes);
      blocks.push({ codec, digest, bytes });
      return makeLink(codec, digest);
    }

    /** Cuts what lies between `from` and `to` into chunks; unless `last`, stops where a cut is not certain. */
    function cut(from: number, to: number, last: boolean, chunks: FilePart[]): number {
      let at = from;
      while (at < to && (last || to - at >= MAX_CHUNK)) {
        const end = arena.chunkEnd(at, to);
        chunks.push({ link: addBlock(RAW, memory.subarray(at, end)), size: end - at });
        at = end;
      }
      return at;
    }

    function finishFile(chunks: FilePart[]): Link {
      if (chunks.length === 0) return addBlock(RAW, new Uint8Array(0));
      if (chunks.length === 1) return chunks[0].link;
      let top = chunks[0].link;
      for (const { link, bytes } of encodeFile(chunks)) {
        blocks.push({ codec: DAG_CBOR, digest: linkDigest(link), bytes });
        top = link;
      }
      return top;
    }

    /** Reads an open file to its end. Returns its link and how many bytes were read. */
    async function readToEnd(fd: number, careful: boolean): Promise<FilePart> {
      if (ARENA - used <= MAX_CHUNK) await flush();
      const chunks: FilePart[] = [];
      let start = used;
      let size = 0;
      for (;;) {
        const want = Math.min(ARENA - used, size === 0 ? MAX_CHUNK + 1 : ARENA);
        const read = fs.readSync(fd, memory, used, want, null);
        used += read;
        size += read;
        // A short read of a regular file is its end; a second attempt does not rely on that.
        const ended = read === 0 || (read < want && !careful);
        start = cut(start, used, ended, chunks);
        if (ended) return { link: finishFile(chunks), size };
        if (size === read && !fs.fstatSync(fd).isFile()) throw new NotAFileError();
        if (ARENA - used <= MAX_CHUNK) {
          const rest = Buffer.from(memory.subarray(start, used));
          await flush();
          used = rest.copy(memory);
          start = 0;
        }
      }
    }

    /** Takes a small file that is at rest, as nearly all are. Returns whether it was one; if not, nothing is done. */
    function ingestAtOnce(index: number): boolean {
      const began = Date.now();
      const fd = fs.openSync(toFsPath(paths[index]), FLAGS);
      try {
        const size = fs.readSync(fd, memory, used, MAX_CHUNK + 1, null);
        if (size > MAX_CHUNK) return false;
        const stat = fs.fstatSync(fd);
        if (!stat.isFile() || stat.size !== size || stat.ctimeMs >= began - RACY_MS) return false;
        const chunks: FilePart[] = [];
        cut(used, used + size, true, chunks);
        used += size;
        links[index] = finishFile(chunks);
        record(index, fd, stat, { size, cacheable: true });
        return true;
      } finally {
        fs.closeSync(fd);
      }
    }

    async function ingestOne(index: number): Promise<void> {
      const path = toFsPath(paths[index]);
      for (let attempt = 1; ; attempt++) {
        const began = Date.now();
        const fd = fs.openSync(path, FLAGS);
        try {
          const file = await readToEnd(fd, attempt > 1);
          const stat = fs.fstatSync(fd);
          if (!stat.isFile()) {
            result.status[index] = Status.moved;
            return;
          }
          const skewed = stat.ctimeMs > began + CLOCK_SKEW_MS;
          const quiet = stat.ctimeMs < began - RACY_MS || skewed;
          if ((quiet && stat.size === file.size) || attempt === ATTEMPTS) {
            const stable = quiet && stat.size === file.size;
            result.status[index] = stable ? Status.ok : Status.unstable;
            links[index] = file.link;
            record(index, fd, stat, { size: file.size, cacheable: stable && !skewed });
            return;
          }
          const wait = stat.ctimeMs + RACY_MS + 1 - Date.now();
          await sleep(Math.min(Math.max(wait, 1), RACY_MS + 1));
        } finally {
          fs.closeSync(fd);
        }
      }
    }

    function record(
      index: number,
      fd: number,
      stat: fs.Stats,
      read: { size: number; cacheable: boolean },
    ): void {
      const row = index * COLUMNS;
      const { numbers } = result;
      numbers[row + Column.size] = read.size;
      numbers[row + Column.mtime] = read.cacheable ? stat.mtimeMs : Number.NaN;
      numbers[row + Column.ctime] = stat.ctimeMs;
      numbers[row + Column.inode] = stat.ino;
      numbers[row + Column.mode] = stat.mode;
      if (!nanoseconds) return;
      const { mtimeNs } = fs.fstatSync(fd, { bigint: true });
      const [seconds, rest] = splitNanoseconds(mtimeNs);
      numbers[row + Column.seconds] = seconds;
      numbers[row + Column.nanoseconds] = rest;
    }

    try {
      for (let index = 0; index < count; index++) {
        try {
          if (ARENA - used <= MAX_CHUNK) await flush();
          if (!ingestAtOnce(index)) await ingestOne(index);
        } catch (error) {
          if (sinkFailed) throw error;
          const code = errnoOf(error);
          const gone = code === 'ENOENT' || code === 'ELOOP' || code === 'ENXIO' || code === 'EISDIR';
          result.status[index] = gone || code === 'ENOTDIR' ? Status.moved : Status.failed;
          if (result.status[index] !== Status.failed) continue;
          if (code === undefined) throw error;
          result.failures.push({ index, code, message: (error as Error).message });
        }
      }
      await flush();
    } finally {
      arenas.push(arena);
    }
    result.links = links.join('');
    return result;
  };
}

/** Something endless, such as a device, took the place of a file. */
class NotAFileError extends Error {
  readonly code = 'ENXIO';
}

const NO_LINK = ' '.repeat(33);

/** Seconds rounded down, so that the rest is never negative. */
export function splitNanoseconds(time: bigint): [seconds: number, nanoseconds: number] {
  const rest = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return [Number((time - rest) / 1_000_000_000n), Number(rest)];
}
