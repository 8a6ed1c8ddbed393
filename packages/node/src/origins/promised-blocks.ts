import {
  fileChunks,
  fileNodes,
  isFile,
  isMissing,
  type Link,
  type LocalStore,
  parseLink,
  walkTree,
} from '@lazytree/core';
import type { Origin } from './origin.js';

/**
 * Blocks of what peers have resolved and this machine has not read yet. When no peer has them any more, their origin
 * has.
 */
export interface PromisedBlocks {
  add(root: Link, origin: Origin): void;
  /** The origins that have a block, as far as their nodes are here. */
  originsOf(link: Link, signal: AbortSignal): Promise<Origin[]>;
}

/** Links that are remembered; beyond that, trees are walked again. */
const MOST_LINKS = 500_000;

export function createPromisedBlocks(store: LocalStore): PromisedBlocks {
  const roots = new Map<Link, Origin>();
  const contents = new Map<Link, Set<Link>>();
  let links = 0;
  let loaded: Promise<void> | undefined;

  /** What was resolved by a process before this one. */
  async function load(): Promise<void> {
    for (const [name, text] of await store.index.listText('provenance')) {
      const [how] = JSON.parse(text) as { from: string; reference: string; integrity: string }[];
      const colon = how.reference.indexOf(':');
      if (how.from !== 'peer' || how.integrity === '' || colon < 0) continue;
      const { reference, integrity } = how;
      const origin = { driver: reference.slice(0, colon), reference: reference.slice(colon + 1), integrity };
      roots.set(parseLink(name), origin);
    }
  }

  async function contentOf(root: Link, signal: AbortSignal): Promise<Set<Link>> {
    const known = contents.get(root);
    if (known) return known;
    const found = new Set<Link>([root]);
    try {
      for await (const { entry } of walkTree(store, root, { signal })) {
        if (entry.kind === 'directory') found.add(entry.link);
        if (!isFile(entry)) continue;
        for await (const node of fileNodes(store, entry.link, { signal })) found.add(node);
        for await (const { link } of fileChunks(store, entry, { signal })) found.add(link);
      }
    } catch (error) {
      // The nodes that are here are all that can be known of it.
      if (!isMissing(error)) throw error;
      return found;
    }
    if (links + found.size <= MOST_LINKS) {
      contents.set(root, found);
      links += found.size;
    }
    return found;
  }

  return {
    add(root, origin) {
      roots.set(root, origin);
    },
    async originsOf(link, signal) {
      loaded ??= load();
      await loaded;
      const found: Origin[] = [];
      for (const [root, origin] of roots) if ((await contentOf(root, signal)).has(link)) found.push(origin);
      return found;
    },
  };
}
