/** Ends an attempt when the caller gives up, when nothing moves for some time, or when all of it takes too long. */
export interface AttemptSignal {
  readonly signal: AbortSignal;
  /** Whether it was ended for its time. */
  isOver(): boolean;
  /** Something has moved. */
  moved(): void;
  /** So many bytes are to come: all of it may take the time for them. */
  expect(bytes: number): void;
  release(): void;
}

export interface AttemptSignalOptions {
  /** Without anything that moves; and for all of it, the time for its bytes apart. */
  idleMs: number;
  /** Bytes a second. */
  leastRate: number;
}

export function attemptSignal(
  outer: AbortSignal,
  { idleMs, leastRate }: AttemptSignalOptions,
): AttemptSignal {
  const inner = new AbortController();
  let over = false;
  const end = () => {
    over = true;
    inner.abort();
  };
  const give = () => inner.abort(outer.reason);
  let all = setTimeout(end, idleMs);
  const idle = setTimeout(end, idleMs);
  if (outer.aborted) give();
  else outer.addEventListener('abort', give, { once: true });
  return {
    signal: inner.signal,
    isOver: () => over,
    moved: () => void idle.refresh(),
    expect(bytes) {
      clearTimeout(all);
      if (!inner.signal.aborted) all = setTimeout(end, idleMs + (bytes / leastRate) * 1000);
    },
    release() {
      clearTimeout(all);
      clearTimeout(idle);
      outer.removeEventListener('abort', give);
    },
  };
}
