import { DAG_CBOR, type Link } from '../format/link.js';
import { nodeLinks } from '../image/node-links.js';
import type { StoreOptions } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { readRecords } from '../store/read-records.js';
import { recordContent } from '../store/record.js';

export interface TreeRecordsOptions extends StoreOptions {
  /** Roots of which the reader has every node. */
  have: readonly Link[];
}

/** Some nodes of a tree as the store has them. */
export interface NodeRecords {
  records: Buffer;
  /** Nodes that should follow here and are not in the store, or are damaged. */
  missing: Link[];
}

/** Nodes of the trees of `have` that are read: so many, and so many for each node of this tree. */
const COMPARED_MORE = 1000;
const COMPARED_SHARE = 2;

/**
 * The records of every node under a root, parents before children, level by level. What a tree of `have` has at the
 * same depth, below nodes that differ, is left out, so that the work is that of the difference.
 *
 * @throws InvalidNodeError for a block that is no node
 */
export async function* treeRecords(
  store: LocalStore,
  root: Link,
  { have, signal }: TreeRecordsOptions,
): AsyncGenerator<NodeRecords> {
  const met = new Set<Link>();
  let level: Link[] = have.includes(root) ? [] : [root];
  let old: Link[] = [...new Set(have)];
  let compared = 0;
  while (level.length > 0) {
    const next = new Set<Link>();
    const known = new Set<Link>();
    // What of it is not here cannot be compared with.
    for await (const { records, found } of readRecords(store, old, { signal }))
      collect(records, found, known);
    for (const link of level) met.add(link);
    for await (const { records, found, missing, damaged } of readRecords(store, level, { signal })) {
      collect(records, found, next);
      yield { records, missing: [...missing, ...damaged] };
    }
    compared += old.length;
    level = [...next].filter((link) => !known.has(link) && !met.has(link));
    // A tree that has little to do with this one is not worth reading.
    const worth = compared <= COMPARED_MORE + COMPARED_SHARE * met.size;
    old = worth ? [...known].filter((link) => !next.has(link)) : [];
  }
}

function collect(
  records: Buffer,
  found: readonly { offset: number; header: Parameters<typeof recordContent>[2] }[],
  into: Set<Link>,
): void {
  for (const { offset, header } of found) {
    for (const link of nodeLinks(recordContent(records, offset, header), DAG_CBOR)) into.add(link);
  }
}
