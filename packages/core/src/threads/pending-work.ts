/** What a loop that hands out work and one that takes results have to tell each other. */
export interface PendingWork {
  /** Makes `error` the end of it all, unless something else was before. */
  fail(error: unknown): void;
  /** @throws the failure, or the signal's reason */
  check(): void;
  /** Says that something is done that somebody may wait for. */
  changed(): void;
  /** Resolves when `done` says so; looks again after every change. @throws as `check` */
  until(done: () => boolean): Promise<void>;
}

export function createPendingWork(signal: AbortSignal | undefined): PendingWork {
  let failure: { error: unknown } | undefined;
  let wake: (() => void) | undefined;

  function check(): void {
    if (failure) throw failure.error;
    signal?.throwIfAborted();
  }

  function changed(): void {
    wake?.();
    wake = undefined;
  }

  return {
    fail(error) {
      failure ??= { error };
    },
    check,
    changed,
    async until(done) {
      signal?.addEventListener('abort', changed);
      try {
        for (check(); !done(); check()) {
          const { promise, resolve } = Promise.withResolvers<void>();
          wake = resolve;
          await promise;
        }
      } finally {
        signal?.removeEventListener('abort', changed);
      }
    },
  };
}
