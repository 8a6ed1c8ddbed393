import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { InvalidNodeError, isMissing, LazytreeError } from '../errors.js';
import type { DirectoryNode } from '../format/directory-node.js';
import { isFile } from '../format/entry.js';
import { decodeFileNode, type FilePart } from '../format/file-node.js';
import { formatLink, type Link, linkCodec, RAW } from '../format/link.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { readNode, readShardNode } from '../tree/directory.js';

/** A node, and the content blocks that no node before it names. */
export interface NodeBlock {
  link: Link;
  bytes: Uint8Array;
  content: FilePart[];
}

const SLICE_MS = 5;

/**
 * Every block of the trees under `roots`, each link once, parents before children: of a directory first its
 * small files, then its large ones and its subdirectories, in order of name. Content is named, not read.
 *
 * @throws LazytreeError BLOCK_MISSING, CORRUPT or INVALID_NODE for a node that cannot be read
 */
export async function* treeBlocks(
  store: BlockSource,
  roots: readonly Link[],
  options: StoreOptions = {},
): AsyncGenerator<NodeBlock> {
  const { signal } = options;
  const directories = new Set<Link>();
  const files = new Set<Link>();
  const chunks = new Set<Link>();
  const stack: (() => Promise<NodeBlock | undefined>)[] = [];
  let last: Uint8Array = new Uint8Array(0);
  const source: BlockSource = {
    ...store,
    async get(link, getOptions) {
      last = await store.get(link, getOptions);
      return last;
    },
  };

  function directory(link: Link, read = () => readNode(source, link, options)) {
    return async () => {
      if (directories.has(link)) return undefined;
      directories.add(link);
      return below(link, await read());
    };
  }

  function below(link: Link, node: DirectoryNode): NodeBlock {
    const bytes = last;
    const content: FilePart[] = [];
    const next: typeof stack = [];
    if (node.kind === 'index') {
      for (const shard of node.shards) {
        next.push(directory(shard.link, () => readShardNode(source, node, shard, options)));
      }
    } else {
      const deeper: typeof stack = [];
      for (const entry of node.entries) {
        if (entry.kind === 'directory') deeper.push(directory(entry.link));
        else if (entry.kind === 'origin' && entry.plus) deeper.push(directory(entry.plus));
        else if (!isFile(entry)) continue;
        else if (linkCodec(entry.link) === RAW) chunk(entry, content);
        else next.push(file(entry));
      }
      next.push(...deeper);
    }
    stack.push(...next.reverse());
    return { link, bytes, content };
  }

  function chunk({ link, size }: FilePart, content: FilePart[]): void {
    if (chunks.has(link)) return;
    chunks.add(link);
    content.push({ link, size });
  }

  function file({ link, size }: FilePart, level?: number) {
    return async () => {
      if (files.has(link)) return undefined;
      files.add(link);
      const bytes = await store.get(link, options);
      const node = decodeFileNode(bytes);
      if (node.size !== size || (level !== undefined && node.level !== level)) {
        throw new InvalidNodeError(`${formatLink(link)}: not the file node that the one above says`);
      }
      const content: FilePart[] = [];
      const next = node.level === 0 ? [] : node.parts.map((part) => file(part, node.level - 1));
      if (node.level === 0) for (const part of node.parts) chunk(part, content);
      stack.push(...next.reverse());
      return { link, bytes, content };
    };
  }

  for (const root of roots.toReversed()) stack.push(directory(root));
  let sliceStart = performance.now();
  for (let next = stack.pop(); next; next = stack.pop()) {
    if (performance.now() - sliceStart > SLICE_MS) {
      await yieldToEvents();
      sliceStart = performance.now();
    }
    signal?.throwIfAborted();
    const block = await next();
    if (block) yield block;
  }
}

/**
 * Checks that every block under `roots` is in `store` and every node is a valid one.
 *
 * @param what names the file that the trees came in
 * @throws LazytreeError CORRUPT when a block is missing, INVALID_NODE when one is not what its place demands
 */
export async function checkTrees(
  store: BlockSource,
  roots: readonly Link[],
  what: string,
  options: StoreOptions = {},
): Promise<void> {
  try {
    for await (const { content } of treeBlocks(store, roots, options)) {
      for (const { link } of content) {
        if (!(await store.has(link, options))) throw incomplete(what, formatLink(link));
      }
    }
  } catch (error) {
    if (isMissing(error)) throw incomplete(what, error.cid);
    if (!(error instanceof InvalidNodeError)) throw error;
    throw new LazytreeError('INVALID_NODE', `${what} holds something that is not a lazytree directory: ${error.message}`, {
      cause: error,
      hint: 'load a file whose root `lazytree import` or `lazytree save` made',
    });
  }
}

function incomplete(what: string, cid: string): LazytreeError {
  return new LazytreeError('CORRUPT', `${what} is incomplete: it lacks the block ${cid}`, {
    hint: 'copy it again from where it came, or make it again from a complete tree',
  });
}
