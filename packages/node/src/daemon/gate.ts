/**
 * Runs tasks of one key at the same time, and tasks of different keys one kind after another, in the order in
 * which they came.
 */
export type Gate = <T>(key: string | number, task: () => Promise<T>) => Promise<T>;

export function createGate(): Gate {
  let current: string | number | undefined;
  let inside = 0;
  const waiting: { key: string | number; enter: () => void }[] = [];

  function admit(): void {
    while (waiting.length > 0 && (inside === 0 || waiting[0].key === current)) {
      const { key, enter } = waiting.shift() as (typeof waiting)[number];
      current = key;
      inside += 1;
      enter();
    }
  }

  return async (key, task) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.push({ key, enter: resolve });
    admit();
    await promise;
    try {
      return await task();
    } finally {
      inside -= 1;
      admit();
    }
  };
}
