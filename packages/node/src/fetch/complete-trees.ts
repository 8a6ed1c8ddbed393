import { type Link, type LocalStore, linkCodec, RAW } from '@lazytree/core';

/** Nodes of which every node below is known to be in the store; forgotten when blocks have gone from it. */
export interface CompleteTrees {
  has(node: Link): boolean;
  add(nodes: Iterable<Link>): void;
}

/** Some tens of MB; with more, what is known is found out again. */
const MOST_NODES = 400_000;

export function createCompleteTrees(store: LocalStore): CompleteTrees {
  const complete = new Set<Link>();
  let state = '';

  function current(): Set<Link> {
    const now = `${store.epoch()} ${store.collection()}`;
    if (now !== state) complete.clear();
    state = now;
    return complete;
  }

  return {
    has: (node) => linkCodec(node) === RAW || current().has(node),
    add(nodes) {
      const known = current();
      for (const node of nodes) {
        if (known.size >= MOST_NODES) known.clear();
        known.add(node);
      }
    },
  };
}
