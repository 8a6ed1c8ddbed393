export interface GateTask<Key, T> {
  key: Key;
  run(): Promise<T>;
  /** Gives up waiting. */
  signal: AbortSignal;
}

/**
 * Runs tasks of one key at the same time, and tasks of different keys one kind after another, in the order in
 * which they came.
 */
export type Gate<Key> = <T>(task: GateTask<Key, T>) => Promise<T>;

export interface GateOptions<Key> {
  /** Before the first task of a key, when no other runs. */
  enter?(key: Key): void;
  /** After the last one. */
  leave?(): void;
}

export function createGate<Key>({ enter, leave }: GateOptions<Key> = {}): Gate<Key> {
  let current: Key;
  let inside = 0;
  let waiting: { key: Key; go: () => void }[] = [];

  function admit(): void {
    while (waiting.length > 0 && (inside === 0 || waiting[0].key === current)) {
      const { key, go } = waiting.shift() as (typeof waiting)[number];
      if (inside === 0) enter?.(key);
      current = key;
      inside += 1;
      go();
    }
  }

  /** Resolves when it is the task's turn. */
  function turn(key: Key, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const giveUp = () => {
      waiting = waiting.filter(({ go }) => go !== start);
      reject(signal.reason);
      admit();
    };
    const start = () => {
      signal.removeEventListener('abort', giveUp);
      resolve();
    };
    signal.throwIfAborted();
    signal.addEventListener('abort', giveUp, { once: true });
    waiting.push({ key, go: start });
    admit();
    return promise;
  }

  return async ({ key, run, signal }) => {
    await turn(key, signal);
    try {
      return await run();
    } finally {
      inside -= 1;
      if (inside === 0) leave?.();
      admit();
    }
  };
}
