import { availableParallelism } from 'node:os';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { segmentPath } from '../store/segments.js';
import { createThreadPool, type ThreadPool } from '../threads/pool.js';
import { raiseAgain } from '../threads/thread-error.js';
import { kernelModule } from '../wasm/kernels.js';
import type { ImageCompression } from './frame-compression.js';
import { createFramePacker, type PackedFrame, type PackJob } from './pack-frames.js';
import type { PackThreadData } from './pack-thread.js';

export type PackPool = ThreadPool<PackJob, PackedFrame>;

/** Threads that compress frames. @param segments the directory of the store's segments, which they read themselves */
export function createPackPool(
  segments: string,
  { compression, threads }: { compression: ImageCompression; threads?: number | undefined },
): PackPool {
  const pool = createThreadPool<PackJob, PackedFrame>({
    script: new URL('./pack-thread.js', import.meta.url),
    data: {
      segments,
      kernels: compression === 'snappy' ? kernelModule() : undefined,
    } satisfies PackThreadData,
    threads,
  });
  return { ...pool, run: (job) => raiseAgain(pool.run(job), 'reading the store') };
}

const MOST_THREADS = 16;

/**
 * A {@link createPackPool} of which this thread is one: another of its own would only be one more start of
 * everything. It packs what the others would only leave to wait, so frames are to be such as it can be away for.
 *
 * @param threads this one included
 */
export function createSharedPackPool(
  segments: string,
  { compression, threads }: { compression: ImageCompression; threads?: number | undefined },
): PackPool {
  const others = (threads ?? Math.min(availableParallelism(), MOST_THREADS)) - 1;
  const packHere = createFramePacker((segment) => segmentPath(segments, segment));
  const here = (job: PackJob) => raiseAgain((async () => packHere(job))(), 'reading the store');
  if (others < 1) return { run: here, slots: 1, async close() {} };
  const pool = createPackPool(segments, { compression, threads: others });
  let active = 0;
  return {
    // A frame of this thread is done when it has been handed over.
    slots: pool.slots + 1,
    async run(job) {
      if (active >= pool.slots) {
        // What is written, and who has given up, is seen to in between.
        await yieldToEvents();
        if (active >= pool.slots) return here(job);
      }
      active += 1;
      return pool.run(job).finally(() => {
        active -= 1;
      });
    },
    close: pool.close,
  };
}
