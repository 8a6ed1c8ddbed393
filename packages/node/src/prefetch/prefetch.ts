import {
  type BlockSource,
  decodeFileNode,
  type FilePart,
  fileChunks,
  isFile,
  isMissing,
  type Link,
  linkCodec,
  RAW,
  walkTree,
} from '@lazytree/core';

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

/** Blocks that are on their way at the same time. */
const PARALLEL = 8;
/** Files that are fetched whole because some of them was read before. */
const WHOLE_BYTES = 8 << 20;

/** Fetches everything below a directory that is not here yet. */
export async function prefetchTree(
  source: BlockSource,
  root: Link,
  { signal, idle, onProgress }: PrefetchOptions,
): Promise<PrefetchProgress> {
  const progress = { files: 0, bytes: 0 };
  await inParallel(contentOf(), async ({ link, size, last }) => {
    await idle?.();
    await bring(source, link, signal);
    progress.bytes += size;
    if (last) progress.files += 1;
    onProgress?.(progress);
  });
  return progress;

  async function* contentOf(): AsyncGenerator<{ link: Link; size: number; last: boolean }> {
    for await (const { entry } of walkTree(source, root, { signal })) {
      if (!isFile(entry)) continue;
      let bytes = 0;
      for await (const { link, size } of fileChunks(source, entry, { signal })) {
        bytes += size;
        yield { link, size, last: bytes === entry.size };
      }
    }
  }
}

/**
 * Fetches the directories below `root`, then the files of an access order. What cannot be had is left to whoever
 * asks for it.
 */
export async function prefetchOrder(
  source: BlockSource,
  root: Link,
  { order, signal, idle }: PrefetchOptions & { order: readonly Link[] },
): Promise<void> {
  for await (const _ of walkTree(source, root, { signal })) await idle?.();
  await inParallel(order, async (link) => {
    await idle?.();
    try {
      await bring(source, link, signal);
      for await (const chunk of chunksOf(source, link, signal)) {
        await idle?.();
        await bring(source, chunk.link, signal);
      }
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  });
}

/** What is here need not be read. */
async function bring(source: BlockSource, link: Link, signal: AbortSignal): Promise<void> {
  if (!(await source.has(link, { signal }))) await source.get(link, { signal });
}

/** The chunks of a file, unless it is so large that most of it may never be wanted. */
async function* chunksOf(source: BlockSource, link: Link, signal: AbortSignal): AsyncGenerator<FilePart> {
  if (linkCodec(link) === RAW) return;
  const { size } = decodeFileNode(await source.get(link, { signal }));
  if (size <= WHOLE_BYTES) yield* fileChunks(source, { link, size }, { signal });
}

async function inParallel<T>(
  items: AsyncIterable<T> | Iterable<T>,
  task: (item: T) => Promise<void>,
): Promise<void> {
  const active = new Set<Promise<void>>();
  const failures: unknown[] = [];
  for await (const item of items) {
    if (failures.length > 0) break;
    const running = task(item)
      .catch((error: unknown) => {
        failures.push(error);
      })
      .finally(() => active.delete(running));
    active.add(running);
    if (active.size >= PARALLEL) await Promise.race(active);
  }
  await Promise.all(active);
  if (failures.length > 0) throw failures[0];
}
