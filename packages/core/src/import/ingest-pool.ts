import { compileSnappy } from '../snappy/encoder.js';
import { createThreadPool, type ThreadPool } from '../threads/pool.js';
import { createIngester, type IngestedFiles, type IngestSink } from './ingest.js';
import type { IngestQuestion, IngestThreadData } from './ingest-thread.js';

export type IngestPool = ThreadPool<string[], IngestedFiles>;

export interface IngestPoolOptions {
  sink: IngestSink;
  /** Also return modification times in nanoseconds. */
  nanoseconds: boolean;
  threads?: number | undefined;
}

/** An ingester in this thread, for the few files that are not worth starting threads for. */
export function createLocalIngester({ sink, nanoseconds }: IngestPoolOptions): IngestPool {
  return { run: createIngester(sink, { nanoseconds }), slots: 1, async close() {} };
}

export function createIngestPool({ sink, nanoseconds, threads }: IngestPoolOptions): IngestPool {
  return createThreadPool<string[], IngestedFiles, IngestQuestion, Uint8Array | ArrayBuffer>({
    script: new URL('./ingest-thread.js', import.meta.url),
    data: { nanoseconds, snappy: compileSnappy() } satisfies IngestThreadData,
    threads,
    jobsPerThread: 3,
    transfer: (answer) => (answer instanceof ArrayBuffer ? [answer] : []),
    async serve(question) {
      if ('digests' in question) return sink.query(question.digests);
      await sink.emit(Buffer.from(question.records, 0, question.length));
      return question.records;
    },
  });
}
