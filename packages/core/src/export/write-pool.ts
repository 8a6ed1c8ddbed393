import { availableParallelism } from 'node:os';
import { type ErrorCode, LazytreeError } from '../errors.js';
import { segmentPath } from '../store/segments.js';
import { createThreadPool, type ThreadPool } from '../threads/pool.js';
import { blockError, writeError } from './write-error.js';
import { createFileWriter, type WriteFailure, type WriteJob, type WrittenFiles } from './write-files.js';

export interface WritePool extends ThreadPool<WriteJob, WrittenFiles> {
  /** Writes in this thread. */
  here(job: WriteJob): Promise<WrittenFiles>;
}

/** Errors about blocks name paths below `target`. */
export interface WritePoolOptions {
  segments: string;
  target: string;
  threads?: number | undefined;
}

/** A writer in this thread, for the few files that are not worth starting threads for. */
export function createLocalWriter({ segments, target }: WritePoolOptions): WritePool {
  const write = createFileWriter((segment) => segmentPath(segments, segment));
  const here = (job: WriteJob) => rethrow(target, async () => write(job));
  return { run: here, here, slots: 1, async close() {} };
}

/** Threads beyond these only wait for one another in the file system. */
const MOST_THREADS = 16;

export function createWritePool(options: WritePoolOptions): WritePool {
  const { segments, target, threads } = options;
  const pool = createThreadPool<WriteJob, WrittenFiles>({
    script: new URL('./write-thread.js', import.meta.url),
    data: { segments },
    // One processor has the tree, and what `here` writes.
    threads: threads ?? Math.min(Math.max(availableParallelism() - 1, 1), MOST_THREADS),
  });
  const { here } = createLocalWriter(options);
  return { ...pool, here, run: (job) => rethrow(target, () => pool.run(job)) };
}

/** Makes errors of what a thread reported. */
async function rethrow<T>(target: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    if (error instanceof Error) throw error;
    const { code, message, hint, ours, path } = error as WriteFailure;
    if (!ours) throw writeError(Object.assign(new Error(message), { code }), path);
    const original = new LazytreeError(code as ErrorCode, message, hint === undefined ? {} : { hint });
    throw blockError(original, path.slice(target.length + 1));
  }
}
