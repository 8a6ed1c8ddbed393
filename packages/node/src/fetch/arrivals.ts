/** Tells those who wait for blocks, without asking for them, that they have come or will not. */
export interface Arrivals {
  /** Resolves to whether the block has come. @throws the signal's reason */
  wait(digest: string, signal: AbortSignal): Promise<boolean>;
  came(blocks: Iterable<{ digest: string }>): void;
  /** Gives those up that nobody is bringing any more. */
  giveUp(isExpected: (digest: string) => boolean): void;
}

interface Waiter {
  digest: string;
  settle(came: boolean): void;
  abort(reason: unknown): void;
}

export function createArrivals(): Arrivals {
  const byDigest = new Map<string, Set<Waiter>>();
  /** A signal may end thousands of waits: it gets one listener for all of them. */
  const bySignal = new WeakMap<AbortSignal, Set<Waiter>>();

  function waitersOf(signal: AbortSignal): Set<Waiter> {
    const known = bySignal.get(signal);
    if (known) return known;
    const waiters = new Set<Waiter>();
    bySignal.set(signal, waiters);
    signal.addEventListener('abort', () => {
      for (const waiter of [...waiters]) waiter.abort(signal.reason);
    });
    return waiters;
  }

  function settle(digest: string, came: boolean): void {
    for (const waiter of [...(byDigest.get(digest) ?? [])]) waiter.settle(came);
  }

  return {
    wait(digest, signal) {
      if (signal.aborted) return Promise.reject(signal.reason);
      const { promise, resolve, reject } = Promise.withResolvers<boolean>();
      const same = byDigest.get(digest) ?? new Set();
      const ofSignal = waitersOf(signal);
      const forget = () => {
        ofSignal.delete(waiter);
        same.delete(waiter);
        if (same.size === 0 && byDigest.get(digest) === same) byDigest.delete(digest);
      };
      const waiter: Waiter = {
        digest,
        settle(came) {
          forget();
          resolve(came);
        },
        abort(reason) {
          forget();
          reject(reason);
        },
      };
      byDigest.set(digest, same.add(waiter));
      ofSignal.add(waiter);
      return promise;
    },
    came(blocks) {
      if (byDigest.size === 0) return;
      for (const { digest } of blocks) settle(digest, true);
    },
    giveUp(isExpected) {
      for (const digest of [...byDigest.keys()]) if (!isExpected(digest)) settle(digest, false);
    },
  };
}
