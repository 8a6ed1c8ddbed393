/** So many tasks at a time; the others wait in the order in which they came. */
export type Places = <T>(task: () => Promise<T>, signal: AbortSignal) => Promise<T>;

export function createPlaces(count: number): Places {
  const waiting: (() => void)[] = [];
  let free = count;

  async function enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (free > 0) {
      free--;
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = () => {
      const at = waiting.indexOf(resolve);
      if (at < 0) return;
      waiting.splice(at, 1);
      reject(signal.reason);
    };
    waiting.push(resolve);
    signal.addEventListener('abort', leave, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  return async (task, signal) => {
    await enter(signal);
    try {
      return await task();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free++;
    }
  };
}
