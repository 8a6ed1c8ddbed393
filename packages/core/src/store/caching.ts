import { isMissing } from '../errors.js';
import type { Link } from '../format/link.js';
import type { BlockSource, BlockStore, StoreOptions } from './block-store.js';

export interface CachingOptions {
  /** Told of every failure of the cache. A read does not fail because its cache did. */
  onCacheError?: (error: unknown, link: Link) => void;
}

/** Reads from `cache`, then from `source`, keeping in `cache` what came from there. Writes go to both. */
export function caching(cache: BlockStore, source: BlockSource, options: CachingOptions = {}): BlockSource {
  const { onCacheError = () => undefined } = options;

  async function fromCache(link: Link, getOptions?: StoreOptions): Promise<Uint8Array | undefined> {
    try {
      return await cache.get(link, getOptions);
    } catch (error) {
      getOptions?.signal?.throwIfAborted();
      if (!isMissing(error)) onCacheError(error, link);
      return undefined;
    }
  }

  return {
    describe: () => `caching(${cache.describe()}, ${source.describe()})`,
    async get(link, getOptions) {
      const cached = await fromCache(link, getOptions);
      if (cached) return cached;
      const bytes = await source.get(link, getOptions);
      try {
        await cache.put({ link, bytes }, getOptions);
      } catch (error) {
        getOptions?.signal?.throwIfAborted();
        onCacheError(error, link);
      }
      return bytes;
    },
    async has(link, hasOptions) {
      try {
        if (await cache.has(link, hasOptions)) return true;
      } catch (error) {
        hasOptions?.signal?.throwIfAborted();
        onCacheError(error, link);
      }
      return source.has(link, hasOptions);
    },
    async close() {
      await Promise.all([cache.close(), source.close()]);
    },
  };
}

/** A {@link caching} source in front of a store that can be written to. */
export function cachingStore(cache: BlockStore, store: BlockStore, options: CachingOptions = {}): BlockStore {
  return {
    ...caching(cache, store, options),
    put: (block, putOptions) => store.put(block, putOptions),
    flush: () => store.flush(),
  };
}
