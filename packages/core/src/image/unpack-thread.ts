import { workerData } from 'node:worker_threads';
import { serveJobs } from '../threads/serve.js';
import { plainError } from '../threads/thread-error.js';
import { shareKernelModule } from '../wasm/kernels.js';
import type { WasmModule } from '../wasm/wasm-types.js';
import { createFrameUnpacker, type UnpackJob } from './unpack-frames.js';

/** What an unpacking thread asks: which digests are wanted, or to take records. */
export type UnpackQuestion = { digests: string } | { records: ArrayBuffer; length: number };

export interface UnpackThreadData {
  /** Descriptors are the process's, so the thread reads the very file that was opened. */
  fd: number;
  /** Its name, for messages. */
  file: string;
  kernels: WasmModule;
}

const { fd, file, kernels }: UnpackThreadData = workerData;
shareKernelModule(kernels);

serveJobs<UnpackJob, void, UnpackQuestion, Uint8Array | undefined>((job, ask) => {
  const unpackFrame = createFrameUnpacker(fd, file, {
    query: async (digests) => (await ask({ digests })) as Uint8Array,
    async emit(records) {
      const buffer = records.buffer as ArrayBuffer;
      await ask({ records: buffer, length: records.length }, [buffer]);
    },
  });
  return plainError(() => unpackFrame(job));
});
