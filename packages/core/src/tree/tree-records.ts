import { DAG_CBOR, type Link, linkCodec, RAW } from '../format/link.js';
import { nodeLinks } from '../image/node-links.js';
import type { StoreOptions } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { readRecords } from '../store/read-records.js';
import { recordContent } from '../store/record.js';

export interface TreeRecordsOptions extends StoreOptions {
  /** Roots of which the reader has every node. */
  have: readonly Link[];
  /** Content of files follows after all nodes, of about so many bytes at most. */
  content?: number;
}

/** Some blocks of a tree as the store has them. */
export interface NodeRecords {
  records: Buffer;
  /** Nodes that should follow here and are not in the store, or are damaged; content that is not is left out. */
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
  { have, content = 0, signal }: TreeRecordsOptions,
): AsyncGenerator<NodeRecords> {
  const met = new Set<Link>();
  const leaves = new Set<Link>();
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
      collect(records, found, next, content > 0 ? leaves : undefined);
      yield { records, missing: [...missing, ...damaged] };
    }
    compared += old.length;
    level = [...next].filter((link) => !known.has(link) && !met.has(link));
    // A tree that has little to do with this one is not worth reading.
    const worth = compared <= COMPARED_MORE + COMPARED_SHARE * met.size;
    old = worth ? [...known].filter((link) => !next.has(link)) : [];
  }
  let sent = 0;
  for await (const { records } of readRecords(store, [...leaves], { signal })) {
    if (records.length > 0) yield { records, missing: [] };
    sent += records.length;
    // What the nodes say of their sizes may be wrong.
    if (sent > content) return;
  }
}

function collect(
  records: Buffer,
  found: readonly { offset: number; header: Parameters<typeof recordContent>[2] }[],
  nodes: Set<Link>,
  leaves?: Set<Link>,
): void {
  for (const { offset, header } of found) {
    const links = nodeLinks(recordContent(records, offset, header), leaves ? undefined : DAG_CBOR);
    for (const link of links) (linkCodec(link) === RAW ? leaves : nodes)?.add(link);
  }
}
