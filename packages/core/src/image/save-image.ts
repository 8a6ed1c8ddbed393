import { crc32 } from 'node:zlib';
import { LazytreeError } from '../errors.js';
import type { DirectoryEntry } from '../format/entry.js';
import type { FilePart } from '../format/file-node.js';
import { formatLink, type Link, linkDigest } from '../format/link.js';
import { compileSnappy } from '../snappy/encoder.js';
import { type BlockSource, getMany } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { segmentPath } from '../store/segments.js';
import { verifying } from '../store/verifying.js';
import { createThreadPool, type ThreadPool } from '../threads/pool.js';
import { rootEntry } from '../tree/path.js';
import { digestOrder, encodeHeader, encodeIndex, encodeTrailer, type Frame, type WrittenBlocks } from './format.js';
import { compressFrame, FRAME_BYTES, type ImageCompression } from './frame-compression.js';
import { type Output, writeNewFile } from './new-file.js';
import { createFramePacker, type PackedFrame, type PackJob } from './pack-frames.js';
import type { PackThreadData } from './pack-thread.js';
import { raiseAgain } from './thread-error.js';
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
  /** Blocks and their bytes on their way into the file. */
  blocks: number;
  bytes: number;
  /** Known once the tree has been walked, 0 before. */
  totalBlocks: number;
  totalBytes: number;
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
/** What a directory entry takes in its node, roughly. */
const ENTRY_BYTES = 64;

type PackPool = ThreadPool<PackJob, PackedFrame>;

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
  const pool = createPackPool(local, entry, options);
  try {
    // Blocks that are on their way to the segments cannot be read by the threads.
    await local?.flush();
    return await writeNewFile(file, (output) => writeImage({ store, local, root, output, pool, options }));
  } finally {
    await pool.close();
    lease?.release();
  }
}

function createPackPool(
  local: LocalStore | undefined,
  { size, files }: DirectoryEntry,
  { threads, compression = 'snappy' }: SaveImageOptions,
): PackPool {
  const segments = local ? `${local.directory}/segments` : '';
  if (size + files * ENTRY_BYTES < LITTLE_BYTES) {
    const pack = createFramePacker((segment) => segmentPath(segments, segment));
    return { run: async (job) => pack(job), slots: 1, async close() {} };
  }
  const pool = createThreadPool<PackJob, PackedFrame>({
    script: new URL('./pack-thread.js', import.meta.url),
    data: { segments, snappy: compression === 'snappy' ? compileSnappy() : undefined } satisfies PackThreadData,
    threads,
  });
  return { ...pool, run: (job) => raiseAgain(pool.run(job), 'reading the store') };
}

interface WriteContext {
  store: BlockSource;
  local: LocalStore | undefined;
  root: Link;
  output: Output;
  pool: PackPool;
  options: SaveImageOptions;
}

async function writeImage({ store, local, root, output, pool, options }: WriteContext): Promise<SavedImage> {
  const { compression = 'snappy', signal, onProgress } = options;
  const source = local ?? verifying(store);
  const progress = { blocks: 0, bytes: 0, totalBlocks: 0, totalBytes: 0 };
  const sequence = createFrameSequence(output, pool);
  const blocks: WrittenBlocks = { links: [], frames: [], offsets: [], lengths: [] };
  const nodes = new Set<string>();
  let content: FilePart[] = [];
  await output.write(encodeHeader());

  /** Gathers what `add` is given into frames that each go to the pool when they are full. */
  function createFrame<Part>(makeJob: (parts: Part[], raw: number) => PackJob) {
    let parts: Part[] = [];
    let raw = 0;

    async function flush(): Promise<void> {
      if (parts.length === 0) return;
      signal?.throwIfAborted();
      const job = makeJob(parts, raw);
      parts = [];
      raw = 0;
      await sequence.add(job);
      onProgress?.(progress);
    }

    return {
      async add(link: Link, length: number, part: Part): Promise<void> {
        if (raw + length > FRAME_BYTES[compression]) await flush();
        blocks.links.push(link);
        blocks.frames.push(sequence.next());
        blocks.offsets.push(raw);
        blocks.lengths.push(length);
        parts.push(part);
        raw += length;
        progress.blocks += 1;
        progress.bytes += length;
      },
      flush,
    };
  }

  const bytesFrame = createFrame<Uint8Array>((parts, raw) => ({
    kind: compression,
    raw,
    bytes: Buffer.concat(parts, raw),
  }));
  const placesFrame = createFrame<[digest: string, ...place: number[]]>((parts, raw) => ({
    kind: compression,
    raw,
    digests: parts.map(([digest]) => digest).join(''),
    places: Float64Array.from(parts.flatMap(([, ...place]) => place)),
  }));

  async function writeNodes(): Promise<void> {
    for await (const node of treeBlocks(source, [root], { signal })) {
      if (!nodes.has(linkDigest(node.link))) await bytesFrame.add(node.link, node.bytes.length, node.bytes);
      nodes.add(linkDigest(node.link));
      for (const part of node.content) content.push(part);
    }
    await bytesFrame.flush();
  }

  /** From the segments, by the threads themselves. */
  async function writePlaces(from: LocalStore): Promise<void> {
    for (const { link } of content) {
      const location = from.locate(link) ?? (await fetched(from, link));
      const { segment, offset, stored, raw } = location;
      await placesFrame.add(link, raw, [linkDigest(link), segment, offset, stored, raw]);
    }
    await placesFrame.flush();
  }

  async function fetched(from: LocalStore, link: Link) {
    await from.get(link, { signal });
    const location = from.locate(link);
    if (!location) throw new LazytreeError('FAILED', `${from.describe()} does not keep ${formatLink(link)}`);
    return location;
  }

  async function writeBytes(): Promise<void> {
    const links = content.map(({ link }) => link);
    for await (const { link, bytes } of getMany(source, links, { signal })) await bytesFrame.add(link, bytes.length, bytes);
    await bytesFrame.flush();
  }

  await writeNodes();
  // The same bytes may be a node and some file's content.
  content = content.filter(({ link }) => !nodes.has(linkDigest(link)));
  progress.totalBlocks = progress.blocks + content.length;
  progress.totalBytes = content.reduce((sum, { size }) => sum + size, progress.bytes);
  await (local ? writePlaces(local) : writeBytes());
  // Sorted while the threads are still at the last frames.
  const order = digestOrder(blocks.links);
  const index = encodeIndex([root], await sequence.finish(), blocks, order);
  await writeIndex(output, index, compression);
  return { root, blocks: progress.blocks, bytes: progress.bytes, size: output.length() };
}

async function writeIndex(output: Output, index: Buffer, kind: ImageCompression): Promise<void> {
  const offset = output.length();
  const { compression, payload } = compressFrame(kind, index);
  await output.write(payload);
  const place = { offset, stored: payload.length, raw: index.length, crc: crc32(payload), compression };
  await output.write(encodeTrailer(place));
}

/** Writes frames in the order of the jobs, with as many under way as keep the threads busy. */
function createFrameSequence(output: Output, pool: PackPool) {
  const frames: Frame[] = [];
  const underWay: Promise<PackedFrame>[] = [];
  let added = 0;

  async function writeOldest(): Promise<void> {
    const oldest = underWay.shift();
    if (!oldest) return;
    const { payload, ...frame } = await oldest;
    frames.push(frame);
    await output.write(payload);
  }

  return {
    /** The number that the next frame will have. */
    next: () => added,
    async add(job: PackJob): Promise<void> {
      const packed = pool.run(job);
      // Awaited in its turn; until then a failure has no one who listens.
      packed.catch(() => undefined);
      underWay.push(packed);
      added += 1;
      while (underWay.length > pool.slots + 1) await writeOldest();
    },
    async finish(): Promise<Frame[]> {
      while (underWay.length > 0) await writeOldest();
      return frames;
    },
  };
}
