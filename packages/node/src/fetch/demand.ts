import { setTimeout as sleep } from 'node:timers/promises';

/** Long enough to send a request, and short beside a round trip to another machine that is far. */
const MOMENT_MS = 5;

/** Knows whether anyone waits for content, so that what nobody waits for can stand back. */
export interface Demand {
  during<T>(task: () => Promise<T>): Promise<T>;
  /** Resolves when nobody waits. */
  idle(): Promise<void>;
  /**
   * Resolves when nobody waits, or after a moment: what is demanded is on its way by then, and goes first at the other
   * end. Who reads one file after another over a slow link would keep back for ever what is fetched ahead of them.
   */
  standBack(): Promise<void>;
}

export function createDemand(): Demand {
  let waiting = 0;
  let quiet = Promise.withResolvers<void>();
  quiet.resolve();

  async function idle(): Promise<void> {
    while (waiting > 0) await quiet.promise;
  }

  return {
    async during(task) {
      if (waiting++ === 0) quiet = Promise.withResolvers<void>();
      try {
        return await task();
      } finally {
        if (--waiting === 0) quiet.resolve();
      }
    },
    idle,
    async standBack() {
      if (waiting > 0) await Promise.race([idle(), sleep(MOMENT_MS, undefined, { ref: false })]);
    },
  };
}
