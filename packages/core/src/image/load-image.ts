import { type Link, linkCodec, linkDigest } from '../format/link.js';
import { type BlockSink, createBlockSink } from '../import/block-sink.js';
import type { BlockStore } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { router } from '../store/router.js';
import { createThreadPool, type ThreadPool } from '../threads/pool.js';
import { raiseAgain } from '../threads/thread-error.js';
import { kernelModule } from '../wasm/kernels.js';
import { checkTrees } from './check-trees.js';
import { type ImageFile, openImageFile } from './image-file.js';
import { imageSource } from './open-image.js';
import { createFrameUnpacker, type UnpackJob } from './unpack-frames.js';
import type { UnpackQuestion, UnpackThreadData } from './unpack-thread.js';

export interface LoadOptions {
  /** Default: one for each processor. */
  threads?: number;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

export interface LoadProgress {
  /** Blocks and their bytes that are stored, or were there. */
  blocks: number;
  bytes: number;
  /** Blocks in the file; 0 for a CAR, which does not say. */
  found: number;
}

export interface Loaded {
  roots: Link[];
  /** Blocks in the file. */
  blocks: number;
  /** Blocks new to the store and the bytes that they take there. */
  added: { blocks: number; bytes: number };
}

/** Images with less than this are unpacked in this thread. */
const LITTLE_BYTES = 8 << 20;

type UnpackPool = ThreadPool<UnpackJob, void>;

/**
 * Stores every block of an image, each one verified, and checks that the trees under its roots are complete.
 * With any failure nothing refers to what was stored so far. Durable once it resolves.
 *
 * @throws LazytreeError CORRUPT, INVALID_NODE, UNSUPPORTED (another version), NOT_FOUND, REFUSED, NO_SPACE
 */
export async function loadImage(store: BlockStore, file: string, options: LoadOptions = {}): Promise<Loaded> {
  const image = openImageFile(file);
  const lease = 'lease' in store ? (store as LocalStore).lease() : undefined;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const source = imageSource(image, file);
  const sink = createBlockSink(store, signal);
  const pool = createUnpackPool(image, file, sink, options);
  try {
    const storing = storeFrames(image, pool, { ...options, signal });
    const checking = checkTrees(router(source, store), image.roots, `the image '${file}'`, { signal });
    for (const task of [storing, checking]) task.catch(() => stop.abort());
    await Promise.all([storing, checking]);
    options.signal?.throwIfAborted();
    await sink.flush();
    return { roots: image.roots, blocks: image.blocks.count, added: sink.added };
  } finally {
    stop.abort();
    await pool.close();
    await source.close();
    lease?.release();
  }
}

function createUnpackPool(
  image: ImageFile,
  file: string,
  sink: BlockSink,
  { threads }: LoadOptions,
): UnpackPool {
  const { fd } = image;
  if (rawBytes(image) < LITTLE_BYTES) {
    return { run: createFrameUnpacker(fd, file, sink), slots: 1, async close() {} };
  }
  const pool = createThreadPool<UnpackJob, void, UnpackQuestion, Uint8Array | undefined>({
    script: new URL('./unpack-thread.js', import.meta.url),
    data: { fd, file, kernels: kernelModule() } satisfies UnpackThreadData,
    threads,
    async serve(question) {
      if ('digests' in question) return sink.query(question.digests);
      await sink.emit(Buffer.from(question.records, 0, question.length));
      return undefined;
    },
  });
  return { ...pool, run: (job) => raiseAgain(pool.run(job), `reading '${file}'`) };
}

function rawBytes({ frames }: ImageFile): number {
  return frames.reduce((sum, { raw }) => sum + raw, 0);
}

async function storeFrames(
  image: ImageFile,
  pool: UnpackPool,
  { signal, onProgress }: LoadOptions,
): Promise<void> {
  const progress = { blocks: 0, bytes: 0, found: image.blocks.count };
  const underWay = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;

  function start(job: UnpackJob): void {
    const task = pool
      .run(job)
      .then(() => {
        progress.blocks += job.codecs.length;
        progress.bytes += job.frame.raw;
        onProgress?.(progress);
      })
      .catch((error: unknown) => {
        failure ??= { error };
      })
      .finally(() => underWay.delete(task));
    underWay.add(task);
  }

  for (const job of unpackJobs(image)) {
    signal?.throwIfAborted();
    start(job);
    if (underWay.size >= pool.slots) await Promise.race(underWay);
    if (failure) break;
  }
  await Promise.all(underWay);
  if (failure) throw failure.error;
}

/** The frames in the order of the file, each with its blocks. */
function* unpackJobs({ frames, blocks }: ImageFile): Generator<UnpackJob> {
  const ends = new Uint32Array(frames.length);
  for (let block = 0; block < blocks.count; block++) ends[blocks.frame(block)] += 1;
  for (let frame = 1; frame < frames.length; frame++) ends[frame] += ends[frame - 1];
  const members = new Uint32Array(blocks.count);
  const free = Uint32Array.from(ends);
  for (let block = 0; block < blocks.count; block++) members[--free[blocks.frame(block)]] = block;
  for (let frame = 0; frame < frames.length; frame++) {
    const inFrame = members
      .subarray(free[frame], ends[frame])
      .sort((a, b) => blocks.offset(a) - blocks.offset(b));
    const links = Array.from(inFrame, (block) => blocks.link(block));
    yield {
      frame: frames[frame],
      digests: links.map(linkDigest).join(''),
      codecs: Uint8Array.from(links, linkCodec),
      offsets: Uint32Array.from(inFrame, blocks.offset),
      lengths: Uint32Array.from(inFrame, blocks.length),
    };
  }
}
