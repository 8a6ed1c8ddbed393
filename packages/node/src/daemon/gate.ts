/**
 * Runs tasks of one key at the same time, and tasks of different keys one kind after another, in the order in
 * which they came.
 */
export type Gate<Key> = <T>(key: Key, task: () => Promise<T>) => Promise<T>;

export interface GateOptions<Key> {
  /** Before the first task of a key, when no other runs. */
  enter?(key: Key): void;
  /** After the last one. */
  leave?(): void;
}

export function createGate<Key extends string | number>({ enter, leave }: GateOptions<Key> = {}): Gate<Key> {
  let current: Key;
  let inside = 0;
  const waiting: { key: Key; go: () => void }[] = [];

  function admit(): void {
    while (waiting.length > 0 && (inside === 0 || waiting[0].key === current)) {
      const { key, go } = waiting.shift() as (typeof waiting)[number];
      if (inside === 0) enter?.(key);
      current = key;
      inside += 1;
      go();
    }
  }

  return async (key, task) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.push({ key, go: resolve });
    admit();
    await promise;
    try {
      return await task();
    } finally {
      inside -= 1;
      if (inside === 0) leave?.();
      admit();
    }
  };
}
