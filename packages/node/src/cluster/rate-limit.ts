import { setTimeout as sleep } from 'node:timers/promises';

export interface RateLimitOptions {
  /** Tokens that come back in a second. */
  perSecond: number;
  /** Tokens that may be taken at once after a pause. */
  burst: number;
}

export interface RateLimit {
  /** Resolves when it is this one's turn, in the order of the calls. */
  take(signal: AbortSignal): Promise<void>;
}

/** A token bucket: what comes too fast waits, and with it whoever sends. */
export function createRateLimit({ perSecond, burst }: RateLimitOptions): RateLimit {
  let tokens = burst;
  let at = performance.now();
  return {
    async take(signal) {
      const now = performance.now();
      tokens = Math.min(burst, tokens + ((now - at) * perSecond) / 1000) - 1;
      at = now;
      if (tokens < 0) await sleep((-tokens / perSecond) * 1000, undefined, { signal, ref: false });
    },
  };
}
