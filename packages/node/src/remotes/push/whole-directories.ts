import {
  type BlockSource,
  DAG_CBOR,
  type Link,
  type LocalStore,
  linkCodec,
  linkDigest,
} from '@lazytree/core';

/** Where blocks come from that a store does not have. */
export interface TreeSource extends BlockSource {
  /** Makes every node below a root be in the store, with few requests. A source that has nothing but the store cannot. */
  bringTree?(root: Link, options: { signal: AbortSignal }): Promise<void>;
}

/**
 * The same source for whoever reads all nodes of a tree that is most likely to be here: as soon as one is not, all of them
 * are brought together, and not each by itself.
 */
export function wholeDirectories(
  source: TreeSource,
  { store, root, signal }: { store: LocalStore; root: Link; signal: AbortSignal },
): BlockSource {
  let brought: Promise<void> | undefined;
  return {
    ...source,
    async get(link, options) {
      if (linkCodec(link) === DAG_CBOR && !store.holds(linkDigest(link))) {
        // Who reads what could not be brought meets the same error.
        brought ??= source.bringTree?.(root, { signal }).catch(() => undefined);
        await brought;
      }
      return source.get(link, options);
    },
  };
}
