import { workerData } from 'node:worker_threads';
import { serveJobs } from '../threads/serve.js';
import { plainError } from '../threads/thread-error.js';
import { shareKernelModule } from '../wasm/kernels.js';
import type { WasmModule } from '../wasm/wasm-types.js';
import { type UnpackedFrames, type UnpackFrames, unpackFrames } from './frame-records.js';

const { kernels }: { kernels: WasmModule } = workerData;
shareKernelModule(kernels);

serveJobs<UnpackFrames, UnpackedFrames>((job) => plainError(() => unpackFrames(job)));
