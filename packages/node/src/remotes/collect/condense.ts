import { LazytreeError } from '@lazytree/core';
import { type CollectParts, readTables, sortOut, writeTables } from './collect.js';
import { withLock } from './lock.js';

/** Tables up to this size are put together when there are many. */
const SMALL_BYTES = 4 << 20;
const MANY = 10;

/**
 * Every push adds a table, and a pack with little in it when little was new. When there are many, they become one: so
 * readers always have few to look into. Leaves it to whoever collects when somebody does.
 */
export async function condense(collected: CollectParts, signal: AbortSignal): Promise<void> {
  const { storage, index } = collected;
  const small = (await index.list({ signal })).filter(({ size }) => size <= SMALL_BYTES);
  if (small.length < MANY) return;
  try {
    await withLock(storage, signal, async (held) => {
      const now = await index.list({ signal: held, newerThan: performance.now() });
      const tables = await readTables(
        collected,
        now.filter(({ size }) => size <= SMALL_BYTES),
        held,
      );
      const sorted = sortOut({ tables, condemned: [], isLive: () => true });
      await writeTables(collected, { tables, sorted, signal: held });
      index.forget();
    });
  } catch (error) {
    const isBusy = error instanceof LazytreeError && error.code === 'REFUSED';
    if (!isBusy) throw error;
  }
}
