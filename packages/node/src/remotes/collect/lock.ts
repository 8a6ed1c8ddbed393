import { randomUUID } from 'node:crypto';
import { LazytreeError } from '@lazytree/core';
import * as z from 'zod/mini';
import { LOCK } from '../object-names.js';
import { parseJson } from '../root-manifest.js';
import type { Storage, StoredObject } from '../storage/storage.js';
import { whoIsHere } from '../who-is-here.js';

/** How long a lock is good for without being renewed. */
export const LIFETIME_MS = 120_000;
const RENEW_MS = 30_000;

const schema = z.object({ by: z.string(), id: z.string(), until: z.number() });

/**
 * Runs a task of which there must be one at a time at a remote. The signal it gets aborts when the lock is lost: then
 * somebody else may hold it.
 *
 * @throws LazytreeError REFUSED, which says who holds it
 */
export async function withLock<T>(
  storage: Storage,
  signal: AbortSignal,
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const by = whoIsHere();
  const id = randomUUID();
  const lost = new AbortController();
  let version = await take();

  async function take(): Promise<string> {
    const there = await storage.get(LOCK, { signal });
    const now = await storage.now({ signal });
    const held = holderOf(there, now);
    if (held) {
      throw new LazytreeError('REFUSED', `${storage.describe()} is being collected by ${held.by}`, {
        hint: `try again later; the lock ends by itself at ${new Date(held.until).toISOString()}`,
      });
    }
    const expected = there ? { version: there.version } : 'nothing';
    const written = await storage.put(LOCK, [body(now)], { signal, expected });
    if (written) return written.version;
    throw new LazytreeError('REFUSED', `${storage.describe()} is being collected by somebody else`);
  }

  function body(now: number): Buffer {
    return Buffer.from(JSON.stringify({ by, id, until: now + LIFETIME_MS }));
  }

  /** It stays where it is, so that others see that something has been done. */
  async function release(): Promise<void> {
    const free = Buffer.from(JSON.stringify({ by, id, until: 0 }));
    // The caller may have been cancelled; the lock is given back all the same.
    await storage.put(LOCK, [free], { signal: AbortSignal.timeout(RENEW_MS), expected: { version } });
  }

  async function renew(): Promise<void> {
    const now = await storage.now({ signal });
    const written = await storage.put(LOCK, [body(now)], { signal, expected: { version } });
    if (!written) throw new LazytreeError('FAILED', `the lock of ${storage.describe()} was lost`);
    version = written.version;
  }

  let renewing: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    renewing = renewing.then(renew).catch((error: unknown) => lost.abort(error));
  }, RENEW_MS).unref();
  try {
    return await task(AbortSignal.any([signal, lost.signal]));
  } finally {
    clearInterval(timer);
    await renewing;
    // Where that fails it ends by itself: what the task has come to counts.
    if (!lost.signal.aborted) await release().catch(() => undefined);
  }
}

function holderOf(there: StoredObject | undefined, now: number): z.infer<typeof schema> | undefined {
  const held = there && schema.safeParse(parseJson(there.bytes)).data;
  return held && held.until > now ? held : undefined;
}
