import { workerData } from 'node:worker_threads';
import type { WasmModule } from '../snappy/wasm-types.js';
import { segmentPath } from '../store/segments.js';
import { serveJobs } from '../threads/serve.js';
import { shareFrameEncoder } from './frame-compression.js';
import { createFramePacker, type PackedFrame, type PackJob } from './pack-frames.js';
import { plainError } from './thread-error.js';

export interface PackThreadData {
  /** The directory of the segments. */
  segments: string;
  snappy: WasmModule | undefined;
}

const { segments, snappy }: PackThreadData = workerData;
if (snappy) shareFrameEncoder(snappy);

const packFrame = createFramePacker((segment) => segmentPath(segments, segment));

serveJobs<PackJob, PackedFrame>(async (job) => plainError(() => packFrame(job)));
