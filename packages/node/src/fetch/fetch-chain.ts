import {
  abortable,
  type BatchedRecord,
  type BlockSource,
  CorruptBlockError,
  coalescing,
  formatLink,
  isMissing,
  type Link,
  type LocalStore,
  linkDigest,
  openImage,
  type StoreOptions,
  verifying,
} from '@lazytree/core';
import { createArrivals } from './arrivals.js';
import { createBatchedGets, type Delivered, TYPICAL_BYTES } from './batched-gets.js';
import { notDelivered } from './block-unavailable.js';
import { createBlockWriter } from './block-writer.js';
import { type Bringing, type BringOptions, type BringProgress, bring, type WantedLists } from './bring.js';
import { type BringTreeOptions, type BroughtTree, bringTree } from './bring-tree.js';
import { createDemand, type Demand } from './demand.js';
import { firstAnswer } from './first-answer.js';
import { createKnownTrees } from './known-trees.js';
import type { PeerStatus } from './peer.js';
import { createPeers } from './peers.js';
import { probe } from './probe.js';
import type { Provider } from './provider.js';
import { TIMING, type Timing } from './timing.js';
import { createVerifier, type Verified } from './verifier.js';

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
  /**
   * Makes every node below a root be in the store.
   *
   * @param readable resolve as soon as each of them can be read, and is in the store or about to be
   * @param content of a tree of no more bytes than this, what a peer has of its content is to come as well
   */
  bringTree(
    root: Link,
    options: { signal: AbortSignal; have?: readonly Link[]; readable?: boolean; content?: number },
  ): Promise<void>;
  /**
   * Brings content into the store.
   *
   * @param whole says, at the end, of which directories it was all that was not known to be here
   */
  bring(lists: WantedLists, options: BringOptions & { whole?: () => Iterable<Link> }): Promise<BringProgress>;
  /** Whether all below a directory is known to be here. */
  isWhole(directory: Link): boolean;
  /** Whether a block is among those that are being brought. */
  isComing(link: Link): boolean;
  /** Resolves when a block that is being brought has come, to whether it has; undefined when it is not being brought. */
  awaited(link: Link, signal: AbortSignal): Promise<boolean> | undefined;
  /** Roots whose content is being brought now, and those of which all has been brought and is here still. */
  roots(): { coming: Link[]; whole: Link[] };
  /** Calls `listener` when these have changed, until the function returned is called. */
  watchRoots(listener: () => void): () => void;
  /**
   * What this machine is called by those who bring the same root at the same time.
   *
   * @param away says which providers are known that have not joined: what is missing elsewhere may be there
   */
  setSelf(id: string | undefined, away?: () => readonly string[]): void;
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
/** Of these, those that were brought last: no ref need have been set for them. */
const MOST_BROUGHT = 8;
const NOBODY = (): readonly string[] => [];

export function createFetchChain(store: LocalStore, options: FetchChainOptions = {}): FetchChain {
  const { onRepaired, onNotKept, completeRoots } = options;
  const timing = { ...TIMING, ...options.timing };
  const sources = new Set<BlockSource>();
  const peers = createPeers(timing);
  const verifier = createVerifier();
  const demand = createDemand();
  const complete = createKnownTrees(store);
  const whole = createKnownTrees(store);
  const wholeDirectories = createKnownTrees(store);
  const arrivals = createArrivals();
  const bringing = new Set<Bringing>();
  const trees = new Map<Link, Promise<BroughtTree | undefined>>();
  let away = NOBODY;
  const watchers = new Set<() => void>();
  const writer = createBlockWriter({
    store,
    onKept(records) {
      arrivals.came(records);
      for (const { came } of bringing) for (const { digest } of records) came(digest);
    },
    onFailed: () => arrivals.giveUp(isExpected),
    onNotKept: (error, blocks) => onNotKept?.(error, blocks),
  });
  let self: string | undefined;
  const gets = createBatchedGets({ verifier, keepExtra });

  function isHereOrComing(digest: string): boolean {
    return store.holds(digest) || writer.isComing(digest);
  }

  /** What came beside what was asked for, without what is here or on its way here. */
  function keepExtra({ bytes, records }: Verified): Promise<unknown> {
    const news = new Map<string, BatchedRecord>();
    const parts: Buffer[] = [];
    let length = 0;
    for (const record of records) {
      const { digest, offset, end } = record;
      if (news.has(digest) || isHereOrComing(digest)) continue;
      news.set(digest, { ...record, offset: length });
      parts.push(bytes.subarray(offset, end));
      length += end - offset;
    }
    // Whatever is handed over is written, be it named or not.
    return writer.keep({ bytes: Buffer.concat(parts, length), records: [...news.values()] });
  }

  async function get(link: Link, { signal = NEVER }: StoreOptions): Promise<Uint8Array> {
    let corrupt: CorruptBlockError | undefined;
    try {
      return await store.get(link, { signal });
    } catch (error) {
      if (error instanceof CorruptBlockError) corrupt = error;
      else if (!isMissing(error)) throw error;
    }
    const coming = writer.find(link);
    if (coming) return coming;
    const { bytes, by, failed, said } = await fromSources(link, signal);
    if (bytes && by) {
      await writer.put(link, bytes, { damaged: corrupt !== undefined });
      if (corrupt) onRepaired?.(formatLink(link), by);
      return bytes;
    }
    const here = [corrupt ? corrupt.message : `${store.describe()}: missing`, ...said];
    if (peers.list().length > 0) return fromPeers(link, { signal, corrupt, failed, here });
    if (said.length === 0 && corrupt && away().length === 0) throw corrupt;
    throw notDelivered(link, [], { here, unknown: failed || corrupt !== undefined, away: away() });
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
    const given = new AbortController();
    const cancel = AbortSignal.any([signal, given.signal]);
    const asking = firstAnswer<Delivered>({
      peers,
      timing,
      signal: cancel,
      bytes: TYPICAL_BYTES,
      ask: (peer, limits) => gets.get(peer, link, limits),
    });
    // It may come with what is brought in bulk.
    const coming = arrivals.wait(linkDigest(link), cancel).then((came) => (came ? undefined : asking));
    try {
      const outcome = await demand.during(() => Promise.race([asking, coming]));
      if (!outcome) return await store.get(link, { signal });
      const { answer, by, tried } = outcome;
      if (!answer || !by)
        throw notDelivered(link, tried, { here, unknown: failed || corrupt !== undefined, away: away() });
      const damaged = corrupt !== undefined;
      // It may have come beside something else meanwhile.
      if (!damaged && isHereOrComing(linkDigest(link))) return answer.content;
      const problem = await writer.keep({ bytes: answer.bytes, records: [answer.record] }, { damaged });
      if (damaged && !problem) onRepaired?.(formatLink(link), by.provider.describe());
      return answer.content;
    } finally {
      given.abort();
    }
  }

  function rootsChanged(): void {
    for (const listener of [...watchers]) listener();
  }

  function isExpected(digest: string): boolean {
    return writer.isComing(digest) || [...bringing].some(({ expects }) => expects(digest));
  }

  async function bringNodes(
    root: Link,
    {
      have,
      ...given
    }: Pick<BringTreeOptions, 'signal' | 'readable' | 'content'> & {
      have: readonly Link[] | undefined;
    },
  ): Promise<BroughtTree> {
    const brought = whole.list().slice(-MOST_BROUGHT).reverse();
    const known = have ?? [...brought, ...((await completeRoots?.()) ?? [])];
    return bringTree(root, {
      store,
      source: chain,
      peers,
      writer,
      verifier,
      keepExtra,
      complete,
      timing,
      have: known.filter((other) => other !== root).slice(0, MOST_HAVE),
      ...given,
    });
  }

  async function bringAll(
    lists: WantedLists,
    { whole: nowWhole, ...given }: BringOptions & { whole?: () => Iterable<Link> },
  ): Promise<BringProgress> {
    const local = async (link: Link, signal: AbortSignal) =>
      sources.size === 0 ? undefined : (await fromSources(link, signal)).bytes;
    // Whoever waits for what nobody brings need not wait.
    const onNamed = () => arrivals.giveUp(isExpected);
    const dependencies = {
      store,
      local,
      peers,
      gets,
      writer,
      verifier,
      keepExtra,
      timing,
      self,
      away,
      // What has come for others is complete for them before it is written.
      isAskedFor: (digest: string) =>
        writer.isComing(digest) || [...bringing].some((other) => other !== own && other.asks(digest)),
      onNamed,
    };
    const own: Bringing = bring(lists, dependencies, given);
    bringing.add(own);
    if (own.root) rootsChanged();
    try {
      const progress = await own.ended;
      if (nowWhole) wholeDirectories.add(nowWhole());
      if (nowWhole && own.root) whole.add([own.root]);
      return progress;
    } finally {
      bringing.delete(own);
      arrivals.giveUp(isExpected);
      if (own.root) rootsChanged();
    }
  }

  const elsewhere = coalescing<BlockSource>({
    describe: () => `fetch(${store.describe()})`,
    get: (link, given = {}) => get(link, given),
    has: (link, given) => store.has(link, given),
    async close() {
      await writer.close();
      await verifier.close();
    },
  });

  const chain: BlockSource = {
    ...elsewhere,
    // What is here is there at once: nothing is gained by making requests for it one.
    get: (link, given) => (store.locate(link) ? getHere(link, given) : elsewhere.get(link, given)),
  };

  async function getHere(link: Link, given: StoreOptions | undefined): Promise<Uint8Array> {
    try {
      return await store.get(link, given);
    } catch (error) {
      given?.signal?.throwIfAborted();
      // Damaged, or gone since.
      if (error instanceof CorruptBlockError || isMissing(error)) return elsewhere.get(link, given);
      throw error;
    }
  }

  return {
    ...chain,
    demand,
    add(source) {
      const checked = verifying(source);
      sources.add(checked);
      return () => sources.delete(checked);
    },
    join: peers.join,
    async bringTree(root, { signal, have, readable = false, content = 0 }) {
      // Whoever comes second finds it done, or does it.
      for (let first = trees.get(root); first; first = trees.get(root)) {
        const tree = await abortable(first, signal);
        if (tree && readable) return;
        await abortable(Promise.resolve(tree?.kept), signal);
      }
      if (complete.has(root)) return;
      const own = bringNodes(root, { signal, have, readable, content });
      const brought = own.catch(() => undefined);
      trees.set(root, brought);
      // Why it could not be kept is told to whoever waits for that.
      const settled = brought.then((tree) => tree?.kept).catch(() => undefined);
      void settled.then(() => trees.delete(root));
      const { kept } = await own;
      if (!readable) await kept;
    },
    bring: bringAll,
    isComing(link) {
      const digest = linkDigest(link);
      return writer.isComing(digest) || [...bringing].some(({ brings }) => brings(digest));
    },
    awaited(link, signal) {
      const digest = linkDigest(link);
      if (!isExpected(digest)) return undefined;
      return store.holds(digest) ? Promise.resolve(true) : arrivals.wait(digest, signal);
    },
    roots: () => ({
      coming: [...new Set([...bringing].flatMap(({ root }) => root ?? []))],
      whole: whole.list(),
    }),
    watchRoots(listener) {
      watchers.add(listener);
      return () => watchers.delete(listener);
    },
    setSelf(id, others) {
      self = id;
      away = others ?? NOBODY;
    },
    isComplete: complete.has,
    isWhole: wholeDirectories.has,
    providers: () => [
      ...[...sources].map((source) => source.describe()),
      ...peers.list().map(({ provider }) => provider.describe()),
    ],
    status: () => peers.list().map((peer) => peer.status()),
  };
}

const NEVER = new AbortController().signal;
