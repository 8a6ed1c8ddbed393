import type { Link } from '../format/link.js';
import { type BlockSource, forwarding } from './block-store.js';

interface Flight {
  bytes: Promise<Uint8Array>;
  waiting: number;
  cancel: AbortController;
}

/**
 * Makes concurrent requests for one block into one. A caller that gives up leaves the others alone; the request
 * below is cancelled when the last one has gone.
 */
export function coalescing<S extends BlockSource>(inner: S): S {
  const flights = new Map<Link, Flight>();

  function board(link: Link): Flight {
    const flying = flights.get(link);
    if (flying) return flying;
    const cancel = new AbortController();
    const bytes = inner.get(link, { signal: cancel.signal }).finally(() => {
      if (flights.get(link) === flight) flights.delete(link);
    });
    const flight = { bytes, waiting: 0, cancel };
    flights.set(link, flight);
    return flight;
  }

  return {
    ...forwarding(inner),
    describe: () => `coalescing(${inner.describe()})`,
    async get(link: Link, { signal }: { signal?: AbortSignal } = {}) {
      signal?.throwIfAborted();
      const flight = board(link);
      flight.waiting += 1;
      try {
        return await abortable(flight.bytes, signal);
      } finally {
        flight.waiting -= 1;
        if (flight.waiting === 0 && flights.get(link) === flight) {
          flights.delete(link);
          flight.cancel.abort();
        }
      }
    },
  };
}

/** `promise`, or the signal's reason as soon as it aborts. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
