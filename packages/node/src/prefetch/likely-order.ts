import { DAG_CBOR, isMissing, type Link, type LocalStore, linkCodec, nodeLinks } from '@lazytree/core';
import { latestAccessOrders, readAccessOrder } from './access-order.js';

/** Orders that are looked at: of the trees that were read last. */
const LATEST = 8;
/** Nodes below a root that are looked at. */
const BELOW = 64;
/** Of the links near its root, what a tree has in common with one that it is a change of. */
const ALIKE = 0.5;

/**
 * In which order a tree is likely to be read: as it was read here; or else, or when it was hardly read, as one that it is
 * a change of was read. Files that both have are read from the kernel's memory for the second one, which nobody sees.
 */
export async function likelyOrder(home: string, store: LocalStore, root: Link): Promise<Link[]> {
  const own = await readAccessOrder(home, root);
  const longer = (await latestAccessOrders(home, LATEST)).filter(({ length }) => length > own.length);
  if (longer.length === 0) return own;
  const near = await linksNear(store, root);
  for (const { root: other } of longer) {
    if (other !== root && (await isAlike(store, near, other)))
      return [...new Set([...own, ...(await readAccessOrder(home, other))])];
  }
  return own;
}

async function isAlike(store: LocalStore, near: ReadonlySet<Link>, other: Link): Promise<boolean> {
  const theirs = await linksNear(store, other);
  let common = 0;
  for (const link of near) if (theirs.has(link)) common += 1;
  return common > 0 && common >= ALIKE * Math.max(near.size, theirs.size);
}

/** What a root's node names, and the nodes that it names; nothing of those that are not here. */
async function linksNear(store: LocalStore, root: Link): Promise<Set<Link>> {
  const near = new Set<Link>();
  if (linkCodec(root) !== DAG_CBOR) return near;
  try {
    const top = nodeLinks(await store.get(root));
    for (const link of top) near.add(link);
    for (const node of top.filter((link) => linkCodec(link) === DAG_CBOR).slice(0, BELOW))
      for (const link of nodeLinks(await store.get(node))) near.add(link);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  return near;
}
