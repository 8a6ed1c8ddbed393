import { BlockMissingError, isMissing } from '../errors.js';
import { formatLink } from '../format/link.js';
import type { BlockSource } from './block-store.js';

/** Asks `sources` in order and moves on only when one says *missing*; a failure is the answer. */
export function router(...sources: BlockSource[]): BlockSource {
  const name = `router(${sources.map((source) => source.describe()).join(', ')})`;
  const { resolveOrigin } = sources.find((source) => source.resolveOrigin) ?? {};
  return {
    ...(resolveOrigin && { resolveOrigin }),
    describe: () => name,
    async get(link, options) {
      for (const source of sources) {
        try {
          return await source.get(link, options);
        } catch (error) {
          if (!isMissing(error)) throw error;
        }
      }
      throw new BlockMissingError(formatLink(link), name);
    },
    async has(link, options) {
      for (const source of sources) {
        if (await source.has(link, options)) return true;
      }
      return false;
    },
    async close() {
      await Promise.all(sources.map((source) => source.close()));
    },
  };
}
