import { availableParallelism } from 'node:os';
import { createThreadPool } from '../threads/pool.js';
import { kernelModule } from '../wasm/kernels.js';
import type { IngestSink, NewBlock } from './new-blocks.js';
import type { RecordJob, RecordThreadData } from './record-thread.js';

/** Another thread that compresses blocks, while this one goes on with what comes next. */
export interface RecordHelper {
  /** Compresses and emits those of `blocks` that the sink wants. Their memory is free when this has returned. */
  store(sink: IngestSink, blocks: readonly NewBlock[]): Promise<void>;
  /** Batches that it has not done yet. */
  active(): number;
  close(): Promise<void>;
}

/** Of all writers of a process: more than one at a time would only take the processors from each other. */
let helpers = 0;

/** Undefined when there is no processor for it, or another writer has it. */
export function takeRecordHelper(): RecordHelper | undefined {
  if (helpers > 0 || availableParallelism() < 2) return undefined;
  helpers++;
  const pool = createThreadPool<RecordJob, Uint8Array>({
    script: new URL('./record-thread.js', import.meta.url),
    data: { kernels: kernelModule() } satisfies RecordThreadData,
    threads: 1,
  });
  let active = 0;
  let closed = false;
  return {
    active: () => active,
    async store(sink, blocks) {
      active++;
      try {
        const wanted = await sink.query(blocks.map(({ digest }) => digest).join(''));
        const job = jobOf(blocks.filter((_, i) => wanted[i] !== 0));
        if (job.lengths.length === 0) return;
        const records = await pool.run(job, [job.bytes]);
        await sink.emit(Buffer.from(records.buffer, records.byteOffset, records.length));
      } finally {
        active--;
      }
    },
    async close() {
      if (closed) return;
      closed = true;
      helpers--;
      await pool.close();
    },
  };
}

function jobOf(blocks: readonly NewBlock[]): RecordJob {
  const lengths = blocks.map(({ bytes }) => bytes.length);
  const all = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  for (const { bytes } of blocks) {
    all.set(bytes, at);
    at += bytes.length;
  }
  return {
    bytes: all.buffer,
    lengths,
    codecs: blocks.map(({ codec }) => codec),
    digests: blocks.map(({ digest }) => digest).join(''),
  };
}
