import { isMissing, LazytreeError } from '../errors.js';
import type { BlockSource, StoreOptions } from './block-store.js';

/**
 * Equivalent sources, of which one at a time is in use: a *failed* request goes to the next one, which stays in
 * use; *missing* is the answer, since the others would say the same.
 */
export function failover(...sources: BlockSource[]): BlockSource {
  if (sources.length === 0) throw new LazytreeError('USAGE', 'failover needs at least one source');
  let current = 0;

  async function ask<T>(request: (source: BlockSource) => Promise<T>, options?: StoreOptions): Promise<T> {
    const failures: unknown[] = [];
    const first = current;
    for (let tried = 0; tried < sources.length; tried++) {
      const index = (first + tried) % sources.length;
      try {
        const answer = await request(sources[index]);
        current = index;
        return answer;
      } catch (error) {
        options?.signal?.throwIfAborted();
        if (isMissing(error)) {
          current = index;
          throw error;
        }
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    const reasons = failures.map((error) => (error instanceof Error ? error.message : String(error)));
    throw new LazytreeError('FAILED', `every source failed: ${reasons.join('; ')}`, {
      cause: new AggregateError(failures),
    });
  }

  return {
    describe: () => `failover(${sources.map((source) => source.describe()).join(', ')})`,
    get: (link, options) => ask((source) => source.get(link, options), options),
    has: (link, options) => ask((source) => source.has(link, options), options),
    async close() {
      await Promise.all(sources.map((source) => source.close()));
    },
  };
}
