import {
  BlockMissingError,
  type BlockSource,
  CorruptBlockError,
  coalescing,
  formatLink,
  isMissing,
  LazytreeError,
  type Link,
  type LocalStore,
  linkDigest,
  openImage,
  type StoreOptions,
  verifying,
} from '@lazytree/core';

/** A block that somebody may have, and nobody has delivered. */
export class BlockUnavailableError extends LazytreeError {
  readonly cid: string;

  constructor(cid: string, tried: string) {
    super('FAILED', `block ${cid} cannot be had: ${tried}`);
    this.cid = cid;
  }
}

/** Told of what a person may want to know, and nobody has to be told of otherwise. */
export interface FetchEvents {
  /** A damaged block has been replaced by what a provider had. */
  onRepaired?(cid: string, provider: string): void;
  /** A block could be read and not be kept: the disk is full, say. */
  onNotKept?(cid: string, error: unknown): void;
}

/**
 * Blocks from wherever they are: the local store, then each provider in turn. What a provider gives is verified, and
 * kept in the store. Requests for one block that come at the same time are one.
 */
export interface FetchChain extends BlockSource {
  /** Adds a provider, asked after those that are there; the function returned takes it out again. */
  add(provider: BlockSource): () => void;
  providers(): string[];
}

/** Adds what an image has to a chain, until it is released. */
export async function provideImage(
  chain: FetchChain,
  file: string | undefined,
): Promise<() => Promise<void>> {
  if (file === undefined) return async () => undefined;
  const image = await openImage(file);
  const withdraw = chain.add(image);
  return async () => {
    withdraw();
    await image.close();
  };
}

/** Blocks that come within this are made durable together. */
const FLUSH_MS = 500;

export function createFetchChain(store: LocalStore, events: FetchEvents = {}): FetchChain {
  const providers = new Set<BlockSource>();
  let flushing: NodeJS.Timeout | undefined;

  async function get(link: Link, options: StoreOptions = {}): Promise<Uint8Array> {
    let corrupt: CorruptBlockError | undefined;
    try {
      return await store.get(link, options);
    } catch (error) {
      if (error instanceof CorruptBlockError) corrupt = error;
      else if (!isMissing(error)) throw error;
    }
    const answers: string[] = [];
    let failed = false;
    for (const provider of providers) {
      try {
        const bytes = await provider.get(link, options);
        await keep(link, bytes, corrupt && provider.describe());
        return bytes;
      } catch (error) {
        options.signal?.throwIfAborted();
        failed ||= !isMissing(error);
        answers.push(`${provider.describe()}: ${isMissing(error) ? 'missing' : (error as Error).message}`);
      }
    }
    throw notFound(link, { corrupt, failed, answers });
  }

  function notFound(
    link: Link,
    { corrupt, failed, answers }: { corrupt: Error | undefined; failed: boolean; answers: string[] },
  ): Error {
    const tried = [corrupt ? corrupt.message : `${store.describe()}: missing`, ...answers];
    if (!corrupt && !failed) return new BlockMissingError(formatLink(link), tried.join('; '));
    if (answers.length === 0 && corrupt) return corrupt;
    return new BlockUnavailableError(formatLink(link), tried.join('; '));
  }

  /** Reading goes on when keeping fails. */
  async function keep(link: Link, bytes: Uint8Array, repairedBy: string | undefined): Promise<void> {
    try {
      if (repairedBy !== undefined) await store.forget([linkDigest(link)]);
      await store.put({ link, bytes });
      flushSoon();
      if (repairedBy !== undefined) events.onRepaired?.(formatLink(link), repairedBy);
    } catch (error) {
      events.onNotKept?.(formatLink(link), error);
    }
  }

  /** What is committed is found by every thread that reads the store, and by whoever comes after a crash. */
  function flushSoon(): void {
    flushing ??= setTimeout(() => {
      flushing = undefined;
      store.flush().catch((error: unknown) => events.onNotKept?.('', error));
    }, FLUSH_MS).unref();
  }

  return {
    ...coalescing<BlockSource>({
      describe: () => `fetch(${store.describe()})`,
      get,
      has: (link, options) => store.has(link, options),
      async close() {
        clearTimeout(flushing);
      },
    }),
    add(provider) {
      const checked = verifying(provider);
      providers.add(checked);
      return () => providers.delete(checked);
    },
    providers: () => [...providers].map((provider) => provider.describe()),
  };
}
