import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { InvalidNodeError, isMissing, LazytreeError } from '../errors.js';
import type { DirectoryNode } from '../format/directory-node.js';
import { isFile } from '../format/entry.js';
import { decodeFileNode, type FilePart } from '../format/file-node.js';
import { formatLink, type Link, linkCodec, RAW } from '../format/link.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { readNode, readShardNode, type ShardPlace, shardBound } from '../tree/directory.js';

const SLICE_MS = 5;

/**
 * Checks that every block under `roots` is in `store` and that every node is the valid one that its place
 * demands. Content is asked for, not read.
 *
 * @param what names the file that the trees came in
 * @throws LazytreeError CORRUPT when a block is missing, INVALID_NODE for a node that is not a valid one
 */
export async function checkTrees(
  store: BlockSource,
  roots: readonly Link[],
  what: string,
  options: StoreOptions = {},
): Promise<void> {
  try {
    await visitAll(store, roots, options);
  } catch (error) {
    if (isMissing(error)) {
      throw new LazytreeError('CORRUPT', `${what} is incomplete: it lacks the block ${error.cid}`, {
        hint: 'copy it again from where it came, or make it again from a complete tree',
      });
    }
    if (!(error instanceof InvalidNodeError)) throw error;
    throw new LazytreeError('INVALID_NODE', `${what} does not hold lazytree directories: ${error.message}`, {
      cause: error,
      hint: 'load a file that `lazytree save` wrote',
    });
  }
}

async function visitAll(store: BlockSource, roots: readonly Link[], options: StoreOptions): Promise<void> {
  const { signal } = options;
  const directories = new Set<Link>();
  const files = new Set<Link>();
  const chunks = new Set<Link>();
  const stack: (() => Promise<void>)[] = [];

  function directory(link: Link): void {
    if (directories.has(link)) return;
    directories.add(link);
    stack.push(async () => below(await readNode(store, link, options)));
  }

  function shardOf(place: ShardPlace): void {
    const { link } = place.shard;
    if (directories.has(link)) return;
    directories.add(link);
    stack.push(async () => below(await readShardNode(store, place, options), shardBound(place)));
  }

  async function below(node: DirectoryNode, before?: string): Promise<void> {
    if (node.kind === 'index') {
      for (const shard of node.shards) shardOf({ parent: node, shard, before });
      return;
    }
    for (const entry of node.entries) {
      if (entry.kind === 'directory') directory(entry.link);
      else if (entry.kind === 'origin' && entry.plus) directory(entry.plus);
      else if (!isFile(entry)) continue;
      else if (linkCodec(entry.link) === RAW) await chunk(entry.link);
      else file(entry);
    }
  }

  async function chunk(link: Link): Promise<void> {
    if (chunks.has(link)) return;
    chunks.add(link);
    if (!(await store.has(link, options))) await store.get(link, options);
  }

  function file({ link, size }: FilePart, level?: number): void {
    if (files.has(link)) return;
    files.add(link);
    stack.push(async () => {
      const node = decodeFileNode(await store.get(link, options));
      if (node.size !== size || (level !== undefined && node.level !== level)) {
        throw new InvalidNodeError(`${formatLink(link)}: not the file node that the one above says`);
      }
      for (const part of node.parts) {
        if (node.level === 0) await chunk(part.link);
        else file(part, node.level - 1);
      }
    });
  }

  for (const root of roots) directory(root);
  let sliceStart = performance.now();
  for (let next = stack.pop(); next; next = stack.pop()) {
    if (performance.now() - sliceStart > SLICE_MS) {
      await yieldToEvents();
      sliceStart = performance.now();
    }
    signal?.throwIfAborted();
    await next();
  }
}
