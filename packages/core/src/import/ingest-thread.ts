import { workerData } from 'node:worker_threads';
import { serveJobs } from '../threads/serve.js';
import { shareKernelModule } from '../wasm/kernels.js';
import type { WasmModule } from '../wasm/wasm-types.js';
import { createIngester, type IngestedFiles } from './ingest.js';
import type { IngestSink } from './new-blocks.js';

/** What an ingesting thread asks: which digests are wanted, or to take records. */
export type IngestQuestion = { digests: string } | { records: ArrayBuffer; length: number };

export interface IngestThreadData {
  nanoseconds: boolean;
  kernels: WasmModule;
}

const { nanoseconds, kernels }: IngestThreadData = workerData;
shareKernelModule(kernels);

let sink: IngestSink | undefined;
/** Buffers that have come back: memory that was touched before costs no page faults and no collector. */
const spares: ArrayBuffer[] = [];
const SPARES = 4;
/** What a full arena and its headers take. */
const USUAL_ROOM = 1152 << 10;
const ingest = createIngester(
  {
    query: (digests) => (sink as IngestSink).query(digests),
    room(bytes) {
      const spare = spares.pop();
      const enough = spare !== undefined && spare.byteLength >= bytes;
      return enough ? Buffer.from(spare) : Buffer.allocUnsafeSlow(Math.max(bytes, USUAL_ROOM));
    },
    emit: (records) => (sink as IngestSink).emit(records),
  },
  { nanoseconds },
);

serveJobs<string[], IngestedFiles, IngestQuestion, Uint8Array | ArrayBuffer>((paths, ask) => {
  sink ??= {
    query: async (digests) => (await ask({ digests })) as Uint8Array,
    async emit(records) {
      const buffer = records.buffer as ArrayBuffer;
      const spare = await ask({ records: buffer, length: records.length }, [buffer]);
      if (spares.length < SPARES) spares.push(spare as ArrayBuffer);
    },
  };
  return ingest(paths);
});
