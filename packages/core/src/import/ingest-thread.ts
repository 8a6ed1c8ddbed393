import { workerData } from 'node:worker_threads';
import { serveJobs } from '../threads/serve.js';
import { shareKernelModule } from '../wasm/kernels.js';
import type { WasmModule } from '../wasm/wasm-types.js';
import { createIngester, type IngestedFiles } from './ingest.js';
import type { IngestSink } from './new-blocks.js';
import { createRecordBuffers } from './record-buffers.js';

/** What an ingesting thread asks: which digests are wanted, or to take records. */
export type IngestQuestion = { digests: string } | { records: ArrayBuffer; length: number };

export interface IngestThreadData {
  nanoseconds: boolean;
  kernels: WasmModule;
}

const { nanoseconds, kernels }: IngestThreadData = workerData;
shareKernelModule(kernels);

let sink: IngestSink | undefined;
/** What a full arena and its headers take. */
const USUAL_ROOM = 1152 << 10;
const { room, giveBack } = createRecordBuffers(USUAL_ROOM);
const ingest = createIngester(
  {
    query: (digests) => (sink as IngestSink).query(digests),
    room,
    emit: (records) => (sink as IngestSink).emit(records),
  },
  { nanoseconds },
);

serveJobs<string[], IngestedFiles, IngestQuestion, Uint8Array | ArrayBuffer>((paths, ask) => {
  sink ??= {
    query: async (digests) => (await ask({ digests })) as Uint8Array,
    async emit(records) {
      const buffer = records.buffer as ArrayBuffer;
      giveBack((await ask({ records: buffer, length: records.length }, [buffer])) as ArrayBuffer);
    },
  };
  return ingest(paths);
});
