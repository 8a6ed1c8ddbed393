import { crc32 } from 'node:zlib';
import { LazytreeError } from '../errors.js';
import type { DirectoryEntry } from '../format/entry.js';
import { formatLink, type Link, linkDigest } from '../format/link.js';
import type { Location } from '../store/block-index.js';
import type { BlockSource } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { Compression } from '../store/record.js';
import { segmentPath } from '../store/segments.js';
import { verifying } from '../store/verifying.js';
import { rootEntry } from '../tree/path.js';
import {
  digestOrder,
  encodeHeader,
  encodeIndex,
  encodeTrailer,
  type Frame,
  type WrittenBlocks,
} from './format.js';
import { compressFrame, FRAME_BYTES, type ImageCompression, NODE_FRAME_BYTES } from './frame-compression.js';
import { type Output, writeNewFile } from './new-file.js';
import { createFramePacker, type PackedFrame, type PackJob } from './pack-frames.js';
import { createPackPool, createSharedPackPool, type PackPool } from './pack-pool.js';
import { treeBlocks } from './tree-blocks.js';

export interface SaveImageOptions {
  /** Default `snappy`, the faster one to read; `zstd` images are smaller. */
  compression?: ImageCompression;
  /** Default: one for each processor. */
  threads?: number;
  signal?: AbortSignal;
  onProgress?: (progress: SaveImageProgress) => void;
}

export interface SaveImageProgress {
  /** Blocks and their bytes that are in the file or on their way into it. */
  blocks: number;
  bytes: number;
  /** Blocks that the walk has come upon so far. */
  found: number;
}

export interface SavedImage {
  root: Link;
  blocks: number;
  /** Of the blocks, uncompressed. */
  bytes: number;
  /** Of the file. */
  size: number;
}

/** Trees with less than this are compressed in this thread. */
const LITTLE_BYTES = 8 << 20;
/** Raw bytes of content frames that wait for the nodes to be written. */
const HELD_BYTES = 64 << 20;
const PROGRESS_BLOCKS = 256;
/** What a directory entry takes in its node, roughly. */
const ENTRY_BYTES = 64;

/**
 * Writes a tree to one file (docs/image.md). The file appears, or takes the place of another, when it is whole
 * and durable.
 *
 * @throws LazytreeError BLOCK_MISSING, CORRUPT, USAGE (not a directory), NOT_FOUND, REFUSED, NO_SPACE
 */
export async function saveImage(
  store: BlockSource,
  root: Link,
  file: string,
  options: SaveImageOptions = {},
): Promise<SavedImage> {
  const entry = await rootEntry(store, root, options);
  if (entry.kind !== 'directory') throw new LazytreeError('USAGE', `${formatLink(root)} is not a directory`);
  const local = 'segments' in store ? (store as LocalStore) : undefined;
  const lease = local?.lease([root]);
  const pool = poolFor(local, entry, options);
  try {
    // Blocks that are on their way to the segments cannot be read by the threads.
    await local?.flush();
    return await writeNewFile(file, (output) => writeImage({ store, local, root, output, pool, options }));
  } finally {
    await pool.close();
    lease?.release();
  }
}

function poolFor(
  local: LocalStore | undefined,
  { size, files }: DirectoryEntry,
  { threads, compression = 'snappy' }: SaveImageOptions,
): PackPool {
  const segments = local ? `${local.directory}/segments` : '';
  if (size + files * ENTRY_BYTES < LITTLE_BYTES) {
    const pack = createFramePacker((segment) => segmentPath(segments, segment));
    return { run: async (job) => pack(job), slots: 1, async close() {} };
  }
  // A frame takes zstd several times as long: whoever shares this thread would have to wait for it.
  const createPool = compression === 'snappy' ? createSharedPackPool : createPackPool;
  return createPool(segments, { compression, threads });
}

interface WriteContext {
  store: BlockSource;
  local: LocalStore | undefined;
  root: Link;
  output: Output;
  pool: PackPool;
  options: SaveImageOptions;
}

/**
 * Writes nodes before content, while content is compressed from the moment that the walk comes upon it: frames
 * of it are held back until the walk is over, as many as {@link HELD_BYTES} allows.
 */
async function writeImage({ store, local, root, output, pool, options }: WriteContext): Promise<SavedImage> {
  const { compression: kind = 'snappy', signal, onProgress } = options;
  const source = local ?? verifying(store);
  const progress = { blocks: 0, bytes: 0, found: 0 };
  const nodes = createSection(output, pool, { kind, frameBytes: NODE_FRAME_BYTES[kind] });
  const content = createSection(output, pool, { kind, frameBytes: FRAME_BYTES[kind] });
  const links: Link[] = [];
  let next = 0;
  nodes.release();
  await output.write(encodeHeader());

  function count(bytes: number): void {
    progress.blocks += 1;
    progress.bytes += bytes;
  }

  /** Passes content on until there is none, or enough is under way. */
  async function feed(limit: number): Promise<void> {
    for (; next < links.length && content.underWay() < limit; next++) {
      signal?.throwIfAborted();
      const link = links[next];
      count(await (local ? addPlace(local, link) : addBytes(link)));
      if (next % PROGRESS_BLOCKS === 0) onProgress?.(progress);
    }
  }

  async function addPlace(from: LocalStore, link: Link): Promise<number> {
    const location = from.locate(link) ?? (await fetchPlace(from, link, signal));
    await content.add(link, location.raw, location);
    return location.raw;
  }

  async function addBytes(link: Link): Promise<number> {
    const bytes = await source.get(link, { signal });
    await content.add(link, bytes.length, bytes);
    return bytes.length;
  }

  for await (const node of treeBlocks(source, root, { signal, distinct: 'digest' })) {
    progress.found += node.content.length + (node.isNew ? 1 : 0);
    if (node.isNew) {
      count(node.bytes.length);
      await nodes.add(node.link, node.bytes.length, node.bytes);
    }
    for (const link of node.content) links.push(link);
    await feed(HELD_BYTES / FRAME_BYTES[kind]);
  }
  await nodes.finish();
  content.release();
  await feed(Number.POSITIVE_INFINITY);
  await content.flush();
  const blocks = joinSections(nodes, content);
  // Sorted while the threads are still at the last frames.
  const order = digestOrder(blocks.links);
  await content.finish();
  onProgress?.(progress);
  await writeIndex(output, encodeIndex([root], [...nodes.frames, ...content.frames], blocks, order), kind);
  return { root, blocks: progress.blocks, bytes: progress.bytes, size: output.length() };
}

async function fetchPlace(from: LocalStore, link: Link, signal: AbortSignal | undefined): Promise<Location> {
  await from.get(link, { signal });
  const location = from.locate(link);
  if (!location) throw new LazytreeError('FAILED', `${from.describe()} does not keep ${formatLink(link)}`);
  return location;
}

function joinSections(nodes: Section, content: Section): WrittenBlocks {
  return {
    links: nodes.blocks.links.concat(content.blocks.links),
    frames: nodes.blocks.frames.concat(content.blocks.frames.map((frame) => nodes.frames.length + frame)),
    offsets: nodes.blocks.offsets.concat(content.blocks.offsets),
    lengths: nodes.blocks.lengths.concat(content.blocks.lengths),
  };
}

/** Snappy makes little of what is mostly digests, and whoever opens the image would wait for it. */
async function writeIndex(output: Output, index: Buffer, kind: ImageCompression): Promise<void> {
  const offset = output.length();
  const plain = { compression: Compression.none, payload: index };
  const { compression, payload } = kind === 'snappy' ? plain : compressFrame(kind, index);
  await output.write(payload);
  const place = { offset, stored: payload.length, raw: index.length, crc: crc32(payload), compression };
  await output.write(encodeTrailer(place));
}

type Section = ReturnType<typeof createSection>;

interface SectionOptions {
  kind: ImageCompression;
  /** Raw bytes of a frame. */
  frameBytes: number;
}

/**
 * A run of frames. Gathers blocks into frames, has them packed, and writes them in order: those of a section
 * that is released as they come, with as many under way as keep the threads busy.
 */
function createSection(output: Output, pool: PackPool, { kind, frameBytes }: SectionOptions) {
  const blocks: WrittenBlocks = { links: [], frames: [], offsets: [], lengths: [] };
  const frames: Frame[] = [];
  const underWay: Promise<PackedFrame>[] = [];
  let parts: Uint8Array[] = [];
  let digests: string[] = [];
  let places: number[] = [];
  let raw = 0;
  let gathered = 0;
  let limit = Number.POSITIVE_INFINITY;

  function takeJob(): PackJob {
    const job: PackJob =
      parts.length > 0
        ? { kind, raw, bytes: Buffer.concat(parts, raw) }
        : { kind, raw, digests: digests.join(''), places: Float64Array.from(places) };
    parts = [];
    digests = [];
    places = [];
    raw = 0;
    gathered = 0;
    return job;
  }

  async function flush(): Promise<void> {
    if (gathered === 0) return;
    const packed = pool.run(takeJob());
    // Awaited in its turn; until then a failure has no one who listens.
    packed.catch(() => undefined);
    underWay.push(packed);
    await writeDown(limit);
  }

  async function writeDown(left: number): Promise<void> {
    while (underWay.length > left) {
      const { payload, ...frame } = await underWay[0];
      underWay.shift();
      frames.push(frame);
      await output.write(payload);
    }
  }

  return {
    blocks,
    frames,
    /** Frames that are not written yet. */
    underWay: () => underWay.length,
    /** The bytes of a block, or where they are; one section has all of one kind. */
    async add(link: Link, length: number, block: Uint8Array | Location): Promise<void> {
      if (raw + length > frameBytes) await flush();
      blocks.links.push(link);
      blocks.frames.push(frames.length + underWay.length);
      blocks.offsets.push(raw);
      blocks.lengths.push(length);
      if (block instanceof Uint8Array) parts.push(block);
      else {
        digests.push(linkDigest(link));
        places.push(block.segment, block.offset, block.stored, length);
      }
      raw += length;
      gathered += 1;
    },
    flush,
    /** From now on frames are written. */
    release() {
      limit = pool.slots + 1;
    },
    async finish(): Promise<void> {
      await flush();
      await writeDown(0);
    },
  };
}
