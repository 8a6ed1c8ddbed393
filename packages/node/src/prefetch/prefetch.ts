import {
  type BlockSource,
  decodeFileNode,
  type FilePart,
  fileChunks,
  isFile,
  type Link,
  linkCodec,
  listDirectory,
  RAW,
} from '@lazytree/core';
import { isUnavailable } from '../fetch/block-unavailable.js';
import type { FetchChain } from '../fetch/fetch-chain.js';
import type { Wanted } from '../fetch/work.js';

export interface PrefetchProgress {
  files: number;
  bytes: number;
}

export interface PrefetchOptions {
  signal: AbortSignal;
  /** Resolves when nobody waits for content: what is demanded goes first. */
  idle?: () => Promise<void>;
  onProgress?: (progress: PrefetchProgress) => void;
}

/** Files that are fetched whole because some of them was read before. */
const WHOLE_BYTES = 8 << 20;
/** Blocks in a list. */
const TOGETHER = 64;

/** Fetches everything below a directory that is not here yet. */
export async function prefetchTree(
  fetch: FetchChain,
  root: Link,
  { signal, idle, onProgress }: PrefetchOptions,
): Promise<PrefetchProgress> {
  await fetch.bringTree(root, { signal });
  const directories: Link[] = [];
  const { files, bytes } = await fetch.bring(contentBelow(fetch, root, { signal, directories }), {
    signal,
    root,
    whole: () => directories,
    ...(idle && { idle }),
    ...(onProgress && { onProgress }),
  });
  return { files, bytes };
}

/** Fetches what is not here of a file. */
export async function prefetchFile(
  fetch: FetchChain,
  file: FilePart,
  { signal, idle }: PrefetchOptions,
): Promise<PrefetchProgress> {
  return fetch.bring(chunkLists(fetch, file, signal), { signal, ...(idle && { idle }) });
}

/**
 * The content of a tree, one directory after another, without what is known to be here. Empty files are blocks, too.
 *
 * @param directories gets those that were looked into
 */
async function* contentBelow(
  source: FetchChain,
  root: Link,
  { signal, directories }: { signal: AbortSignal; directories: Link[] },
): AsyncGenerator<Wanted[]> {
  const stack = [root];
  for (let place = stack.pop(); place !== undefined; place = stack.pop()) {
    if (source.isWhole(place)) continue;
    directories.push(place);
    const list: Wanted[] = [];
    const below: Link[] = [];
    for (const entry of await listDirectory(source, place, { signal })) {
      if (entry.kind === 'directory') below.push(entry.link);
      else if (isFile(entry) && linkCodec(entry.link) === RAW) {
        list.push({ link: entry.link, size: entry.size, place, files: 1 });
      } else if (isFile(entry)) {
        // Its chunks are many, and need not be brought by one machine.
        yield* chunkLists(source, entry, signal);
      }
    }
    if (list.length > 0) yield list;
    stack.push(...below.reverse());
  }
}

async function* chunkLists(
  source: BlockSource,
  file: FilePart,
  signal: AbortSignal,
): AsyncGenerator<Wanted[]> {
  let list: Wanted[] = [];
  let left = file.size;
  for await (const { link, size } of fileChunks(source, file, { signal })) {
    left -= size;
    list.push({ link, size, files: left === 0 ? 1 : 0 });
    if (list.length < TOGETHER) continue;
    yield list;
    list = [];
  }
  yield list;
}

/**
 * Fetches the directories below `root`, then the files of an access order. What cannot be had is left to whoever
 * asks for it.
 */
export async function prefetchOrder(
  fetch: FetchChain,
  root: Link,
  { order, signal, idle }: PrefetchOptions & { order: readonly Link[] },
): Promise<void> {
  await fetch.bringTree(root, { signal });
  try {
    await fetch.bring(inOrder(fetch, order, signal), { signal, eager: true, ...(idle && { idle }) });
  } catch (error) {
    if (!isUnavailable(error)) throw error;
  }
}

async function* inOrder(
  source: BlockSource,
  order: readonly Link[],
  signal: AbortSignal,
): AsyncGenerator<Wanted[]> {
  for (let at = 0; at < order.length; at += TOGETHER) {
    const files = order.slice(at, at + TOGETHER);
    yield files.map((link) => ({ link }));
    for (const link of files) {
      if (linkCodec(link) === RAW) continue;
      const { size } = decodeFileNode(await source.get(link, { signal }));
      // Most of a large file may never be wanted.
      if (size <= WHOLE_BYTES) yield* chunkLists(source, { link, size }, signal);
    }
  }
}
