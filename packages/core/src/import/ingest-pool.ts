import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { createIngester, type IngestedFiles, type IngestSink } from './ingest.js';
import type { FromWorker, ToWorker } from './ingest-worker.js';

/** Ingests lists of files; as many at once as `slots`, the rest in turn. */
export interface IngestPool {
  ingest(paths: string[]): Promise<IngestedFiles>;
  /** Lists that can be under way before another one only waits. */
  readonly slots: number;
  close(): Promise<void>;
}

export interface IngestPoolOptions {
  sink: IngestSink;
  /** Also return modification times in nanoseconds. */
  nanoseconds: boolean;
  threads?: number;
}

/** Lists under way in each thread: one at work, the others waiting for an answer about their digests. */
const LISTS_PER_THREAD = 3;

/** An ingester in this thread, for the few files that are not worth starting threads for. */
export function createLocalPool({ sink, nanoseconds }: IngestPoolOptions): IngestPool {
  const ingest = createIngester(sink, { nanoseconds });
  return { ingest, slots: 1, async close() {} };
}

export function createThreadPool(options: IngestPoolOptions): IngestPool {
  const { sink, nanoseconds, threads = Math.min(availableParallelism(), 16) } = options;
  const members = Array.from({ length: threads }, () => startThread(sink, nanoseconds));
  return {
    slots: threads * LISTS_PER_THREAD,
    ingest(paths) {
      const member = members.reduce((least, other) => (other.active() < least.active() ? other : least));
      return member.ingest(paths);
    },
    async close() {
      await Promise.all(members.map((member) => member.stop()));
    },
  };
}

function startThread(sink: IngestSink, nanoseconds: boolean) {
  const worker = new Worker(new URL('./ingest-worker.js', import.meta.url), {
    workerData: { nanoseconds },
    stdin: false,
  });
  const jobs = new Map<number, PromiseWithResolvers<IngestedFiles>>();
  let nextId = 0;

  function fail(error: unknown): void {
    for (const job of jobs.values()) job.reject(error);
    jobs.clear();
  }

  async function answer(message: FromWorker & { type: 'query' | 'emit' }): Promise<void> {
    try {
      let value: Uint8Array | undefined;
      if (message.type === 'query') value = await sink.query(message.digests);
      else await sink.emit(Buffer.from(message.records.buffer as ArrayBuffer));
      worker.postMessage({ type: 'answer', id: message.id, value } satisfies ToWorker);
    } catch (error) {
      fail(error);
    }
  }

  worker.on('message', (message: FromWorker) => {
    if (message.type === 'query' || message.type === 'emit') {
      void answer(message);
      return;
    }
    const job = jobs.get(message.id);
    jobs.delete(message.id);
    if (message.type === 'done') job?.resolve(message.result);
    else job?.reject(message.error);
  });
  worker.on('error', fail);
  worker.on('exit', (code) => fail(new Error(`an import thread ended with code ${code}`)));

  return {
    active: () => jobs.size,
    ingest(paths: string[]) {
      const id = nextId++;
      const job = Promise.withResolvers<IngestedFiles>();
      jobs.set(id, job);
      worker.postMessage({ type: 'ingest', id, paths } satisfies ToWorker);
      return job.promise;
    },
    stop: () => worker.terminate(),
  };
}
