import { workerData } from 'node:worker_threads';
import { segmentPath } from '../store/segments.js';
import { serveJobs } from '../threads/serve.js';
import { plainError } from '../threads/thread-error.js';
import { shareKernelModule } from '../wasm/kernels.js';
import type { WasmModule } from '../wasm/wasm-types.js';
import { createFramePacker, type PackedFrame, type PackJob } from './pack-frames.js';

export interface PackThreadData {
  /** The directory of the segments. */
  segments: string;
  kernels: WasmModule | undefined;
}

const { segments, kernels }: PackThreadData = workerData;
if (kernels) shareKernelModule(kernels);

const packFrame = createFramePacker((segment) => segmentPath(segments, segment));

serveJobs<PackJob, PackedFrame>(async (job) => plainError(() => packFrame(job)));
