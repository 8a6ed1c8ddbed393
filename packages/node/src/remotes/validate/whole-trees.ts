import {
  DAG_CBOR,
  formatLink,
  isMissing,
  LazytreeError,
  type Link,
  linkCodec,
  nodeLinks,
} from '@lazytree/core';
import { liveRoots } from '../collect/live-roots.js';
import { createNodeSource } from '../collect/node-source.js';
import type { ValidateParts } from './validate-parts.js';

/** Looks for every block of every root in the tables. @returns how many trees and blocks there are */
export async function wholeTrees(
  { storage, index, packs }: ValidateParts,
  signal: AbortSignal,
): Promise<{ trees: number; blocks: number }> {
  const { live } = await liveRoots(storage, { now: 0, graceMs: Number.POSITIVE_INFINITY, signal });
  const nodes = createNodeSource(storage.describe(), { index, packs });
  const met = new Set<Link>();

  async function below(node: Link, root: Link): Promise<Link[]> {
    try {
      return nodeLinks(await nodes.get(node, { signal }));
    } catch (error) {
      throw isMissing(error) ? incomplete(root) : error;
    }
  }

  for (const [root, manifest] of live) {
    if (manifest) await nodes.readAhead(manifest.nodes, signal);
    met.add(root);
    const stack = [root];
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      const links = (await below(node, root)).filter((link) => !met.has(link));
      for (const link of links) met.add(link);
      const found = await index.find(links, { signal });
      if (links.some((link) => !found.has(link))) throw incomplete(root);
      stack.push(...links.filter((link) => linkCodec(link) === DAG_CBOR));
    }
  }
  return { trees: live.size, blocks: met.size };
}

function incomplete(root: Link): LazytreeError {
  return new LazytreeError(
    'CORRUPT',
    `blocks of the root ${formatLink(root)} are in no table: push it again`,
  );
}
