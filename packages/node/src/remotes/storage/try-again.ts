import { setTimeout as sleep } from 'node:timers/promises';
import { LazytreeError } from '@lazytree/core/errors';

export interface RetryLimits {
  /** Attempts, one after another, that bring nothing. */
  attempts: number;
  /** Milliseconds after the first of them in which the others begin. */
  withinMs: number;
  /** Before the second attempt; twice as long before each that follows. */
  pauseMs: number;
  longestPauseMs: number;
}

/** What an attempt that failed has come to. */
export interface Verdict {
  error: unknown;
  /** Whether another attempt may end otherwise. */
  again: boolean;
  /** Milliseconds that the other side asks for before it. */
  afterMs?: number | undefined;
}

export interface TryAgainOptions {
  signal: AbortSignal;
  limits: RetryLimits;
  judge(error: unknown): Verdict;
}

/**
 * Attempts something until it succeeds, cannot, or the limits are reached. Pauses are of random length, so that those who
 * were turned away together do not come back together.
 *
 * @param attempt calls `progressed` when it has brought something that the next attempt goes on from: then the limits
 * begin anew
 */
export async function tryAgain<T>(
  attempt: (progressed: () => void) => Promise<T>,
  { signal, limits, judge }: TryAgainOptions,
): Promise<T> {
  let attempts = 0;
  let began = performance.now();
  const progressed = () => {
    attempts = 0;
    began = performance.now();
  };
  for (;;) {
    signal.throwIfAborted();
    attempts++;
    try {
      return await attempt(progressed);
    } catch (failure) {
      signal.throwIfAborted();
      const { error, again, afterMs = 0 } = judge(failure);
      if (!again) throw error;
      const pause = Math.max(pauseBefore(attempts, limits), afterMs * (1 + Math.random() / 4));
      const isLast = attempts >= limits.attempts || performance.now() - began + pause > limits.withinMs;
      if (isLast) throw exhausted(error, { attempts, afterMs });
      await sleep(pause, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

function pauseBefore(attempts: number, { pauseMs, longestPauseMs }: RetryLimits): number {
  const pause = Math.min(longestPauseMs, pauseMs * 2 ** Math.max(0, attempts - 1));
  return pause * (0.5 + Math.random() / 2);
}

function exhausted(error: unknown, { attempts, afterMs }: { attempts: number; afterMs: number }): unknown {
  if (!(error instanceof LazytreeError)) return error;
  const tries = attempts > 1 ? `; ${attempts} attempts failed` : '';
  const asks = afterMs > 0 ? `; it asks to wait ${Math.ceil(afterMs / 1000)} s` : '';
  return new LazytreeError(error.code, `${error.message}${tries}${asks}`, { hint: error.hint });
}
