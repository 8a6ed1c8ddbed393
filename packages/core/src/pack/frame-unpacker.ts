import { createThreadPool, type ThreadPool } from '../threads/pool.js';
import { raiseAgain } from '../threads/thread-error.js';
import { kernelModule } from '../wasm/kernels.js';
import { type UnpackedFrames, type UnpackFrames, unpackFrames } from './frame-records.js';

/** Makes records of frames: of a few in this thread, of more on others. */
export interface FrameUnpacker {
  /** @throws LazytreeError CORRUPT */
  unpack(job: UnpackFrames): Promise<UnpackedFrames>;
  close(): Promise<void>;
}

/** Until so many bytes have come, threads would take longer to be there than the work takes. */
const LITTLE_BYTES = 2 << 20;

export function createFrameUnpacker(): FrameUnpacker {
  let pool: ThreadPool<UnpackFrames, UnpackedFrames> | undefined;
  let seen = 0;
  return {
    async unpack(job) {
      seen += job.frames.length;
      if (seen < LITTLE_BYTES) return unpackFrames(job);
      pool ??= createThreadPool<UnpackFrames, UnpackedFrames>({
        script: new URL('./unpack-frames-thread.js', import.meta.url),
        data: { kernels: kernelModule() },
      });
      const { records, found, extra } = await raiseAgain(pool.run(job), 'unpacking frames');
      return { records: asBuffer(records), found, extra: asBuffer(extra) };
    },
    async close() {
      await pool?.close();
    },
  };
}

/** From a thread, a Buffer comes as the array that it is. */
function asBuffer({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}
