import { type ErrorCode, LazytreeError } from '../errors.js';
import { segmentPath } from '../store/segments.js';
import { createThreadPool, type ThreadPool } from '../threads/pool.js';
import { writeError } from './write-error.js';
import { createFileWriter, type WriteJob, type WrittenFiles } from './write-files.js';

export type WritePool = ThreadPool<WriteJob, WrittenFiles>;

/** A writer in this thread, for the few files that are not worth starting threads for. */
export function createLocalWriter(segments: string): WritePool {
  const write = createFileWriter((segment) => segmentPath(segments, segment));
  return { run: async (job) => rethrow(async () => write(job)), slots: 1, async close() {} };
}

export function createWritePool(segments: string, threads?: number): WritePool {
  const pool = createThreadPool<WriteJob, WrittenFiles>({
    script: new URL('./write-thread.js', import.meta.url),
    data: { segments },
    threads,
  });
  return { ...pool, run: (job) => rethrow(() => pool.run(job)) };
}

/** Makes errors of what a thread reported. */
async function rethrow<T>(task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    if (error instanceof Error) throw error;
    const { code, message, hint, path } = error as {
      code?: string;
      message: string;
      hint?: string;
      path: string;
    };
    if (code === 'CORRUPT')
      throw new LazytreeError(code as ErrorCode, `'${path}': ${message}`, { ...(hint ? { hint } : {}) });
    throw writeError(Object.assign(new Error(message), { code }), path);
  }
}
