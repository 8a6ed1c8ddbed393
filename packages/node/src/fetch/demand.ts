/** Knows whether anyone waits for content, so that what nobody waits for can stand back. */
export interface Demand {
  during<T>(task: () => Promise<T>): Promise<T>;
  /** Resolves when nobody waits. */
  idle(): Promise<void>;
}

export function createDemand(): Demand {
  let waiting = 0;
  let quiet = Promise.withResolvers<void>();
  quiet.resolve();
  return {
    async during(task) {
      if (waiting++ === 0) quiet = Promise.withResolvers<void>();
      try {
        return await task();
      } finally {
        if (--waiting === 0) quiet.resolve();
      }
    },
    async idle() {
      while (waiting > 0) await quiet.promise;
    },
  };
}
