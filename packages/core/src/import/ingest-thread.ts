import { workerData } from 'node:worker_threads';
import type { WasmModule } from '../snappy/wasm-types.js';
import { shareSnappy } from '../store/record.js';
import { serveJobs } from '../threads/serve.js';
import { createIngester, type IngestedFiles, type IngestSink } from './ingest.js';

/** What an ingesting thread asks: which digests are wanted, or to take records. */
export type IngestQuestion = { digests: string } | { records: ArrayBuffer; length: number };

export interface IngestThreadData {
  nanoseconds: boolean;
  snappy: WasmModule;
}

const { nanoseconds, snappy }: IngestThreadData = workerData;
shareSnappy(snappy);

let sink: IngestSink | undefined;
const ingest = createIngester(
  {
    query: (digests) => (sink as IngestSink).query(digests),
    emit: (records) => (sink as IngestSink).emit(records),
  },
  { nanoseconds },
);

serveJobs<string[], IngestedFiles, IngestQuestion, Uint8Array | undefined>((paths, ask) => {
  sink ??= {
    query: async (digests) => (await ask({ digests })) as Uint8Array,
    async emit(records) {
      const buffer = records.buffer as ArrayBuffer;
      await ask({ records: buffer, length: records.length }, [buffer]);
    },
  };
  return ingest(paths);
});
