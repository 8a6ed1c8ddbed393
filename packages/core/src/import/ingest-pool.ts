import { availableParallelism } from 'node:os';
import { createThreadPool } from '../threads/pool.js';
import { kernelModule } from '../wasm/kernels.js';
import { createIngester, type IngestedFiles } from './ingest.js';
import type { IngestQuestion, IngestThreadData } from './ingest-thread.js';
import type { IngestSink } from './new-blocks.js';
import { createRecordBuffers } from './record-buffers.js';

/**
 * Reads lists of files. This thread is one of the readers: another one of its own would only be one more heap to
 * fill and one more start of everything, while this one waited.
 */
export interface IngestPool {
  /** Reads a list in another thread. */
  run(paths: string[]): Promise<IngestedFiles>;
  /** Lists that can be under way in other threads before another one only waits. */
  readonly slots: number;
  /** Reads a list in this thread. */
  here(paths: string[]): Promise<IngestedFiles>;
  close(): Promise<void>;
}

export interface IngestPoolOptions {
  sink: IngestSink;
  /** Also return modification times in nanoseconds. */
  nanoseconds: boolean;
  /** Threads that read, this one included. Default: one for each processor, at most 16. */
  threads?: number | undefined;
}

export function createIngestPool({ sink, nanoseconds, threads }: IngestPoolOptions): IngestPool {
  const others = (threads ?? Math.min(availableParallelism(), 16)) - 1;
  const here = createIngester(reusingBuffers(sink), { nanoseconds });
  if (others < 1) return { run: here, slots: 0, here, async close() {} };
  const pool = createThreadPool<string[], IngestedFiles, IngestQuestion, Uint8Array | ArrayBuffer>({
    script: new URL('./ingest-thread.js', import.meta.url),
    data: { nanoseconds, kernels: kernelModule() } satisfies IngestThreadData,
    threads: others,
    jobsPerThread: 8,
    transfer: (answer) => (answer instanceof ArrayBuffer ? [answer] : []),
    async serve(question) {
      if ('digests' in question) return sink.query(question.digests);
      await sink.emit(Buffer.from(question.records, 0, question.length));
      return question.records;
    },
  });
  return { ...pool, here };
}

/** What the short lists of this thread usually take. */
const USUAL_ROOM = 256 << 10;

function reusingBuffers(sink: IngestSink): IngestSink {
  const { room, giveBack } = createRecordBuffers(USUAL_ROOM);
  return {
    query: (digests) => sink.query(digests),
    room,
    async emit(records) {
      await sink.emit(records);
      giveBack(records.buffer as ArrayBuffer);
    },
  };
}
