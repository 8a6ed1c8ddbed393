import {
  BlockMissingError,
  type BlockSource,
  CorruptBlockError,
  coalescing,
  formatLink,
  isMissing,
  type Link,
  type LocalStore,
  openImage,
  type StoreOptions,
  verifying,
} from '@lazytree/core';
import { createBatchedGets, type Delivered, TYPICAL_BYTES } from './batched-gets.js';
import { BlockUnavailableError, notDelivered } from './block-unavailable.js';
import { type BringOptions, type BringProgress, bring, type Wanted } from './bring.js';
import { bringTree } from './bring-tree.js';
import { createCompleteTrees } from './complete-trees.js';
import { createDemand, type Demand } from './demand.js';
import { firstAnswer } from './first-answer.js';
import { createKeeper } from './keeper.js';
import type { Peer, PeerStatus } from './peer.js';
import { createPeers } from './peers.js';
import { probe } from './probe.js';
import type { Provider } from './provider.js';
import { TIMING, type Timing } from './timing.js';

/** Told of what a person may want to know, and nobody has to be told of otherwise. */
export interface FetchEvents {
  /** A damaged block has been replaced by what a provider had. */
  onRepaired?(cid: string, provider: string): void;
  /** Blocks could be read and not be kept: the disk is full, say. Told once in a while. */
  onNotKept?(error: unknown, blocks: number): void;
}

export interface FetchChainOptions extends FetchEvents {
  /** Roots of which every node is here, the newest first: what they have in common with another is not sent again. */
  completeRoots?(): Promise<readonly Link[]>;
  timing?: Partial<Timing>;
}

/**
 * Blocks from wherever they are: the local store, then sources on this machine in turn, then the providers of the
 * network (docs/fetch-chain.md). What comes is verified, and kept in the store. Requests for one block that come at the
 * same time are one.
 */
export interface FetchChain extends BlockSource {
  /** Adds a source on this machine, asked after those that are there; the function returned takes it out again. */
  add(source: BlockSource): () => void;
  /** Adds a provider of the network, until the function returned is called. */
  join(provider: Provider): () => void;
  /** Makes every node below a root be in the store. */
  bringTree(root: Link, options: { signal: AbortSignal; have?: readonly Link[] }): Promise<void>;
  /** Brings content into the store. */
  bring(links: Iterable<Wanted> | AsyncIterable<Wanted>, options: BringOptions): Promise<BringProgress>;
  /** Whether `bringTree` knows without looking that every node below a root is here. */
  isComplete(root: Link): boolean;
  /** Those who wait for blocks that are not on this machine. */
  readonly demand: Demand;
  /** Everyone who may be asked, for people. */
  providers(): string[];
  /** How the providers of the network do. */
  status(): PeerStatus[];
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

/** Roots that a provider is told of. */
const MOST_HAVE = 16;

export function createFetchChain(store: LocalStore, options: FetchChainOptions = {}): FetchChain {
  const { onRepaired, onNotKept, completeRoots } = options;
  const timing = { ...TIMING, ...options.timing };
  const sources = new Set<BlockSource>();
  const peers = createPeers(timing);
  const gets = createBatchedGets();
  const demand = createDemand();
  const complete = createCompleteTrees(store);
  const keeper = createKeeper({ store, onNotKept: (error, blocks) => onNotKept?.(error, blocks) });

  async function get(link: Link, { signal = NEVER }: StoreOptions): Promise<Uint8Array> {
    let corrupt: CorruptBlockError | undefined;
    try {
      return await store.get(link, { signal });
    } catch (error) {
      if (error instanceof CorruptBlockError) corrupt = error;
      else if (!isMissing(error)) throw error;
    }
    const coming = keeper.find(link);
    if (coming) return coming;
    const { bytes, by, failed, said } = await fromSources(link, signal);
    if (bytes && by) {
      await keeper.put(link, bytes, corrupt !== undefined);
      if (corrupt) onRepaired?.(formatLink(link), by);
      return bytes;
    }
    const here = [corrupt ? corrupt.message : `${store.describe()}: missing`, ...said];
    if (peers.list().length > 0) return fromPeers(link, { signal, corrupt, failed, here });
    if (!corrupt && !failed) throw new BlockMissingError(formatLink(link), here.join('; '));
    if (said.length === 0 && corrupt) throw corrupt;
    throw new BlockUnavailableError(formatLink(link), here.join('; '));
  }

  /** What the sources on this machine have, one after another. */
  async function fromSources(link: Link, signal: AbortSignal) {
    const said: string[] = [];
    let failed = false;
    for (const source of sources) {
      try {
        return { bytes: await source.get(link, { signal }), by: source.describe(), failed, said };
      } catch (error) {
        signal.throwIfAborted();
        failed ||= !isMissing(error);
        said.push(`${source.describe()}: ${isMissing(error) ? 'missing' : (error as Error).message}`);
      }
    }
    return { failed, said };
  }

  async function fromPeers(
    link: Link,
    {
      signal,
      corrupt,
      failed,
      here,
    }: { signal: AbortSignal; corrupt: Error | undefined; failed: boolean; here: string[] },
  ): Promise<Uint8Array> {
    probe(link, { peers, gets });
    const { answer, by, tried } = await demand.during(() =>
      firstAnswer<Delivered>({
        peers,
        timing,
        signal,
        bytes: TYPICAL_BYTES,
        ask: (peer: Peer, limits) => gets.get(peer, link, limits),
      }),
    );
    if (!answer || !by) throw notDelivered(link, tried, { here, unknown: failed || corrupt !== undefined });
    const problem = await keeper.keep(
      { bytes: answer.bytes, records: [answer.record] },
      corrupt !== undefined,
    );
    if (corrupt && !problem) onRepaired?.(formatLink(link), by.provider.describe());
    return answer.content;
  }

  const chain: BlockSource = coalescing<BlockSource>({
    describe: () => `fetch(${store.describe()})`,
    get: (link, given = {}) => get(link, given),
    has: (link, given) => store.has(link, given),
    async close() {
      keeper.close();
    },
  });

  return {
    ...chain,
    demand,
    add(source) {
      const checked = verifying(source);
      sources.add(checked);
      return () => sources.delete(checked);
    },
    join: peers.join,
    async bringTree(root, { signal, have }) {
      if (complete.has(root)) return;
      const known = have ?? (await completeRoots?.()) ?? [];
      await bringTree(root, {
        store,
        source: chain,
        peers,
        keeper,
        complete,
        timing,
        have: known.filter((other) => other !== root).slice(0, MOST_HAVE),
        signal,
      });
    },
    bring: (links, given) => {
      const local = async (link: Link, signal: AbortSignal) => (await fromSources(link, signal)).bytes;
      return bring(links, { store, local, peers, gets, keeper, timing }, given);
    },
    isComplete: complete.has,
    providers: () => [
      ...[...sources].map((source) => source.describe()),
      ...peers.list().map(({ provider }) => provider.describe()),
    ],
    status: () => peers.list().map((peer) => peer.status()),
  };
}

const NEVER = new AbortController().signal;
