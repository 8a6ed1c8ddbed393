import { createThreadPool, type ThreadPool } from '../threads/pool.js';
import { raiseAgain } from '../threads/thread-error.js';
import { kernelModule } from '../wasm/kernels.js';
import type { ImageCompression } from './frame-compression.js';
import type { PackedFrame, PackJob } from './pack-frames.js';
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
