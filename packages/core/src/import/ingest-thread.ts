import { workerData } from 'node:worker_threads';
import { serveJobs } from '../threads/serve.js';
import { createIngester, type IngestedFiles, type IngestSink } from './ingest.js';

/** What an ingesting thread asks: which digests are wanted, or to take records. */
export type IngestQuestion = { digests: string } | { records: Uint8Array };

let sink: IngestSink | undefined;
const ingest = createIngester(
  {
    query: (digests) => (sink as IngestSink).query(digests),
    emit: (records) => (sink as IngestSink).emit(records),
  },
  workerData,
);

serveJobs<string[], IngestedFiles, IngestQuestion, Uint8Array | undefined>((paths, ask) => {
  sink ??= {
    query: async (digests) => (await ask({ digests })) as Uint8Array,
    async emit(records) {
      await ask({ records }, [records.buffer as ArrayBuffer]);
    },
  };
  return ingest(paths);
});
