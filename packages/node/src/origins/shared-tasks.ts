import type { OriginProgress } from './driver.js';

export interface JoinOptions {
  signal: AbortSignal;
  onProgress?: ((progress: OriginProgress) => void) | undefined;
  /** It is likely to be wanted, and nobody waits for it yet. */
  ahead?: boolean;
}

/** What a task is given: a signal that aborts when nobody wants it any more. */
export interface TaskContext {
  signal: AbortSignal;
  /** Whether all who want it want it ahead. */
  isAhead(): boolean;
  onProgress(progress: OriginProgress): void;
}

/** Tasks by key; those who want the same at the same time share one. */
export interface SharedTasks<T> {
  /** @returns also whether it was under way already: another's credentials may have been used */
  join(
    key: string,
    options: JoinOptions,
    run: (context: TaskContext) => Promise<T>,
  ): Promise<{ value: T; joined: boolean }>;
}

interface Task<T> {
  result: Promise<T>;
  stop: AbortController;
  waiting: Set<JoinOptions>;
  ended: boolean;
}

/** The failure of a task that another has begun. */
export class SharedFailure extends Error {
  constructor(cause: unknown) {
    super((cause as Error).message, { cause });
    this.name = 'SharedFailure';
  }
}

export function createSharedTasks<T>(): SharedTasks<T> {
  const tasks = new Map<string, Task<T>>();

  function begin(key: string, run: (context: TaskContext) => Promise<T>): Task<T> {
    const stop = new AbortController();
    const waiting = new Set<JoinOptions>();
    const onProgress = (progress: OriginProgress) => {
      for (const { onProgress: tell } of waiting) tell?.(progress);
    };
    const isAhead = () => [...waiting].every(({ ahead }) => ahead === true);
    const result = run({ signal: stop.signal, isAhead, onProgress }).finally(() => {
      task.ended = true;
      if (tasks.get(key) === task) tasks.delete(key);
    });
    // Told to those who wait; there may be nobody any more.
    result.catch(() => undefined);
    const task: Task<T> = { result, stop, waiting, ended: false };
    tasks.set(key, task);
    return task;
  }

  return {
    async join(key, options, run) {
      const { signal } = options;
      signal.throwIfAborted();
      const known = tasks.get(key);
      const task = known ?? begin(key, run);
      const left = Promise.withResolvers<never>();
      const leave = () => left.reject(signal.reason);
      task.waiting.add(options);
      signal.addEventListener('abort', leave, { once: true });
      try {
        return { value: await Promise.race([task.result, left.promise]), joined: known !== undefined };
      } catch (error) {
        signal.throwIfAborted();
        throw known ? new SharedFailure(error) : error;
      } finally {
        signal.removeEventListener('abort', leave);
        task.waiting.delete(options);
        if (task.waiting.size === 0) {
          // Whoever comes now begins anew.
          if (tasks.get(key) === task) tasks.delete(key);
          if (!task.ended) task.stop.abort();
        }
      }
    },
  };
}
