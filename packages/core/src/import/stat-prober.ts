import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { RecordPlace, StatCacheReader } from './stat-cache.js';

/**
 * A second thread that looks at a directory's files while the import does, from the other end: most of an
 * unchanged import is waiting for the kernel's answers to lstat. They share the cache and one byte for each
 * record; whatever the thread has not come to, the import looks at itself.
 */
export interface StatProber {
  /** Says that the import looks at this directory itself. Returns whether everything in and below is unchanged. */
  claim(place: RecordPlace): boolean;
  stop(): void;
}

export const Probe = { untouched: 0, unchanged: 1, changed: 2, importing: 3, probing: 4 } as const;

export interface ProbeData {
  root: string;
  cache: SharedArrayBuffer;
  trusted: number;
  rootRecord: RecordPlace;
  /** A byte for each record, see {@link probeIndex}; the last one tells the thread to stop. */
  states: SharedArrayBuffer;
}

/** Fewer files are looked at sooner than a thread starts. */
const WORTH_A_THREAD = 4000;

/** No record is shorter than 32 bytes, so no two have one index. */
export function probeIndex({ offset }: RecordPlace): number {
  return offset >>> 5;
}

export function startStatProber(root: string, cache: StatCacheReader): StatProber | undefined {
  if (!cache.shared || cache.files < WORTH_A_THREAD || availableParallelism() < 2) return undefined;
  const states = new Uint8Array(new SharedArrayBuffer((cache.length >>> 5) + 2));
  const worker = new Worker(new URL('./stat-thread.js', import.meta.url), {
    workerData: {
      root,
      cache: cache.shared,
      trusted: cache.trusted,
      rootRecord: cache.rootRecord,
      states: states.buffer,
    } satisfies ProbeData,
    stdin: false,
    execArgv: [],
  });
  // Without this thread the import is slower and no less right.
  worker.on('error', () => undefined);
  worker.unref();
  return {
    claim: (place) =>
      Atomics.compareExchange(states, probeIndex(place), Probe.untouched, Probe.importing) ===
      Probe.unchanged,
    stop() {
      Atomics.store(states, states.length - 1, 1);
    },
  };
}
