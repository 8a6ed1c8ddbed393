/** Ends an attempt when the caller gives up, when nothing moves for some time, or when all of it takes too long. */
export interface AttemptSignal {
  readonly signal: AbortSignal;
  /** Whether it was ended for its time. */
  isOver(): boolean;
  /** Something has moved. */
  moved(): void;
  release(): void;
}

export interface AttemptSignalOptions {
  idleMs: number;
  allMs: number;
}

export function attemptSignal(outer: AbortSignal, { idleMs, allMs }: AttemptSignalOptions): AttemptSignal {
  const inner = new AbortController();
  let over = false;
  const end = () => {
    over = true;
    inner.abort();
  };
  const give = () => inner.abort(outer.reason);
  const all = setTimeout(end, allMs);
  const idle = setTimeout(end, idleMs);
  if (outer.aborted) give();
  else outer.addEventListener('abort', give, { once: true });
  return {
    signal: inner.signal,
    isOver: () => over,
    moved: () => void idle.refresh(),
    release() {
      clearTimeout(all);
      clearTimeout(idle);
      outer.removeEventListener('abort', give);
    },
  };
}
