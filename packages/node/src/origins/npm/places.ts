/** What waits for a place. */
export interface Turn {
  signal: AbortSignal;
  /** Whether nobody waits for it. Asked again whenever a place is free: somebody may wait by then. */
  isAhead(): boolean;
}

/** So many tasks at a time; of the others, those that somebody waits for go first, in the order in which they came. */
export type Places = <T>(task: () => Promise<T>, turn: Turn) => Promise<T>;

interface Waiting {
  isAhead(): boolean;
  enter(): void;
}

export function createPlaces(count: number): Places {
  const waiting: Waiting[] = [];
  let free = count;

  async function enter({ signal, isAhead }: Turn): Promise<void> {
    signal.throwIfAborted();
    if (free > 0) {
      free--;
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const one = { isAhead, enter: resolve };
    const leave = () => {
      const at = waiting.indexOf(one);
      if (at < 0) return;
      waiting.splice(at, 1);
      reject(signal.reason);
    };
    waiting.push(one);
    signal.addEventListener('abort', leave, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  function leave(): void {
    const demanded = waiting.findIndex(({ isAhead }) => !isAhead());
    const [next] = waiting.splice(Math.max(demanded, 0), 1);
    if (next) next.enter();
    else free++;
  }

  return async (task, turn) => {
    await enter(turn);
    try {
      return await task();
    } finally {
      leave();
    }
  };
}
