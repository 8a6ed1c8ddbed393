import type { Link, LocalStore } from '@lazytree/core';

/** Nodes of which something is known that holds for as long as no block goes from the store. */
export interface KnownTrees {
  has(node: Link): boolean;
  add(nodes: Iterable<Link>): void;
  list(): Link[];
}

/** Some tens of MB; with more, what is known is found out again. */
const MOST_NODES = 400_000;

export function createKnownTrees(store: LocalStore): KnownTrees {
  const known = new Set<Link>();
  let state = '';

  function current(): Set<Link> {
    const now = `${store.epoch()} ${store.collection()}`;
    if (now !== state) known.clear();
    state = now;
    return known;
  }

  return {
    has: (node) => current().has(node),
    add(nodes) {
      const present = current();
      for (const node of nodes) {
        if (present.size >= MOST_NODES) present.clear();
        present.add(node);
      }
    },
    list: () => [...current()],
  };
}
