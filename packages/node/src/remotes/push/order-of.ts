import {
  type BlockSource,
  getRef,
  history,
  isFile,
  type Link,
  type LocalStore,
  walkTree,
} from '@lazytree/core';
import type { AccessOrders } from '../../prefetch/access-order.js';
import { MAX_ORDER } from '../root-manifest.js';

/** Earlier trees of a name whose order is looked for. */
const EARLIER = 8;

export interface OrderParts {
  store: LocalStore;
  source: BlockSource;
  orders: AccessOrders;
}

/**
 * In which order the files of a tree were read on this machine; for one that nobody has read yet, in which order those of its
 * files were that an earlier tree of the name had.
 */
export async function orderOf(
  { store, source, orders }: OrderParts,
  { root, name, signal }: { root: Link; name?: string | undefined; signal: AbortSignal },
): Promise<Link[]> {
  const own = await orders.read(root);
  if (own.length > 0) return own.slice(0, MAX_ORDER);
  const ref = name === undefined ? undefined : getRef(store, name);
  if (!ref) return [];
  let seen = 0;
  for await (const { snapshot } of history(store, ref)) {
    if (seen++ === EARLIER) break;
    const earlier = await orders.read(snapshot.root);
    if (earlier.length === 0) continue;
    const files = await filesBelow(source, root, signal);
    return earlier.filter((link) => files.has(link)).slice(0, MAX_ORDER);
  }
  return [];
}

async function filesBelow(source: BlockSource, root: Link, signal: AbortSignal): Promise<Set<Link>> {
  const found = new Set<Link>();
  for await (const { entry } of walkTree(source, root, { signal })) if (isFile(entry)) found.add(entry.link);
  return found;
}
