import { createHash } from 'node:crypto';
import { LazytreeError } from '../errors.js';
import { type Codec, formatLink, type Link, linkCodec, linkDigest } from '../format/link.js';
import type { ImageCompression } from '../image/frame-compression.js';
import { createFramePacker, type PackedFrame, type PackJob } from '../image/pack-frames.js';
import { createPackPool, type PackPool } from '../image/pack-pool.js';
import type { Location } from '../store/block-index.js';
import type { BlockSource } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { segmentPath } from '../store/segments.js';
import { encodeFrameHeader, encodeLengths, FRAME_HEADER, LENGTH_BYTES, MAX_FRAME_BLOCKS } from './frame.js';

/** The first bytes of a pack; frames follow, and nothing else. */
export const PACK_HEADER = Buffer.from('LZTPACK1\0\0\0\0\0\0\0\0', 'latin1');

/** A frame that has been written, and the blocks in it in their order. */
export interface WrittenFrame {
  offset: number;
  /** With its header. */
  length: number;
  codec: Codec;
  digests: readonly string[];
}

export interface WrittenPack {
  /** SHA-256 of all of it, 32 Latin-1 characters. The same blocks in the same order make the same pack. */
  id: string;
  parts: readonly Uint8Array[];
  size: number;
  frames: readonly WrittenFrame[];
}

export interface PackWriterOptions {
  compression?: ImageCompression;
  signal: AbortSignal;
  /** Where blocks come from that the store does not have; they are in the store afterwards. */
  source: BlockSource;
  /** Takes a pack. The next ones are made meanwhile, as many as {@link PACKS_AHEAD} allows. */
  onPack(pack: WrittenPack): Promise<void>;
}

export interface PackWriter {
  /** Starts the threads that compress many blocks, while it is found out which. */
  prepare(): void;
  /** Blocks are compressed together in the order in which they are added, content and nodes apart. Returns its bytes. */
  add(link: Link): Promise<number>;
  /** Resolves when every pack has been made, and is being taken. */
  seal(): Promise<void>;
  /** Resolves when every pack has been taken. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

/** Raw bytes compressed together. Larger frames compress better; who wants one block of one reads all of it. */
const FRAME_BYTES = 1 << 20;
/** So that frames this small, and the table, are not larger than `tar | zstd` (level 3): see scripts/bench/azure.mjs. */
const ZSTD_LEVEL = 5;
/** Stored bytes of a pack, about. */
export const PACK_BYTES = 16 << 20;
/** Packs that are being taken while the next one is made. */
export const PACKS_AHEAD = 2;

interface OpenFrame {
  codec: Codec;
  digests: string[];
  lengths: number[];
  places: number[];
  raw: number;
}

interface FrameUnderWay {
  codec: Codec;
  digests: readonly string[];
  packed: Promise<PackedFrame>;
}

export function createPackWriter(store: LocalStore, options: PackWriterOptions): PackWriter {
  const { compression: kind = 'zstd', signal, source, onPack } = options;
  const segments = `${store.directory}/segments`;
  const packHere = createFramePacker((segment) => segmentPath(segments, segment));
  const underWay: FrameUnderWay[] = [];
  const taken = new Set<Promise<void>>();
  let pool: PackPool | undefined;
  /** Raw bytes so far. */
  let here = 0;
  let open: OpenFrame | undefined;
  let parts: Uint8Array[] = [PACK_HEADER];
  let frames: WrittenFrame[] = [];
  let size = PACK_HEADER.length;
  let failure: unknown;

  function compress(job: PackJob): Promise<PackedFrame> {
    // Threads take a while to be there: what is little is done before.
    here += job.raw;
    if (!pool && here <= FRAME_BYTES) return Promise.resolve().then(() => packHere(job));
    return threads().run(job);
  }

  function threads(): PackPool {
    pool ??= createPackPool(segments, { compression: kind });
    return pool;
  }

  async function closeFrame(): Promise<void> {
    if (!open) return;
    const { codec, digests, lengths, places, raw } = open;
    open = undefined;
    const head = encodeLengths(lengths);
    const packed = compress({
      kind,
      level: ZSTD_LEVEL,
      raw,
      head,
      digests: digests.join(''),
      places: Float64Array.from(places),
    });
    // Awaited in its turn; until then a failure has no one who listens.
    packed.catch(() => undefined);
    underWay.push({ codec, digests, packed });
    await takeFrames((pool?.slots ?? 1) + 1);
  }

  async function takeFrames(left: number): Promise<void> {
    while (underWay.length > left) {
      const [{ codec, digests, packed }] = underWay;
      const { compression, raw, payload } = await packed;
      underWay.shift();
      const length = FRAME_HEADER + payload.length;
      parts.push(encodeFrameHeader({ compression, codec, raw, blocks: digests.length, payload }), payload);
      frames.push({ offset: size, length, codec, digests });
      size += length;
      if (size < PACK_BYTES) continue;
      closePack();
      while (taken.size >= PACKS_AHEAD) await Promise.race(taken);
      raise();
    }
  }

  function closePack(): void {
    if (frames.length === 0) return;
    const hash = createHash('sha256');
    for (const part of parts) hash.update(part);
    const pack: WrittenPack = { id: hash.digest().toString('latin1'), parts, size, frames };
    parts = [PACK_HEADER];
    frames = [];
    size = PACK_HEADER.length;
    const taking = onPack(pack)
      .catch((error: unknown) => {
        failure ??= error;
      })
      .finally(() => taken.delete(taking));
    taken.add(taking);
  }

  async function seal(): Promise<void> {
    await closeFrame();
    await takeFrames(0);
    closePack();
  }

  function raise(): void {
    if (failure !== undefined) throw failure;
    signal.throwIfAborted();
  }

  async function place(link: Link): Promise<Location> {
    const known = store.locate(link);
    if (known) return known;
    await source.get(link, { signal });
    await store.flush();
    const location = store.locate(link);
    if (!location) throw new LazytreeError('FAILED', `${store.describe()} does not keep ${formatLink(link)}`);
    return location;
  }

  return {
    prepare: () => void threads(),
    async add(link) {
      raise();
      const codec = linkCodec(link);
      const { segment, offset, stored, raw } = await place(link);
      const isFull =
        open &&
        (open.codec !== codec ||
          open.raw + raw + LENGTH_BYTES > FRAME_BYTES ||
          open.digests.length === MAX_FRAME_BLOCKS);
      if (isFull) await closeFrame();
      open ??= { codec, digests: [], lengths: [], places: [], raw: 0 };
      open.digests.push(linkDigest(link));
      open.lengths.push(raw);
      open.places.push(segment, offset, stored, raw);
      open.raw += raw + LENGTH_BYTES;
      return raw;
    },
    seal,
    async finish() {
      await seal();
      await Promise.all(taken);
      raise();
    },
    async close() {
      await Promise.allSettled(underWay.map(({ packed }) => packed));
      await Promise.all(taken);
      await pool?.close();
    },
  };
}
