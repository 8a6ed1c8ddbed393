import { BlockMissingError } from '../errors.js';
import { formatLink, type Link, linkDigest } from '../format/link.js';
import type { PrunableStore } from './block-store.js';

/**
 * A store in memory. Blocks are keyed by digest, as in every store here: the same bytes under another codec are
 * the same block.
 */
export function createMemoryStore(): PrunableStore {
  const blocks = new Map<string, { link: Link; bytes: Uint8Array }>();
  const name = 'memory';
  return {
    describe: () => name,
    async get(link, { signal } = {}) {
      signal?.throwIfAborted();
      const block = blocks.get(linkDigest(link));
      if (!block) throw new BlockMissingError(formatLink(link), name);
      return block.bytes;
    },
    async has(link, { signal } = {}) {
      signal?.throwIfAborted();
      return blocks.has(linkDigest(link));
    },
    async put({ link, bytes }, { signal } = {}) {
      signal?.throwIfAborted();
      const key = linkDigest(link);
      if (!blocks.has(key)) blocks.set(key, { link, bytes: Uint8Array.from(bytes) });
    },
    async flush() {},
    async *links({ signal } = {}) {
      for (const { link } of [...blocks.values()]) {
        signal?.throwIfAborted();
        yield link;
      }
    },
    async delete(links) {
      for (const link of links) blocks.delete(linkDigest(link));
    },
    async close() {},
  };
}
