import { type Link, type LocalStore, linkDigest } from '@lazytree/core';
import { type BatchedGets, TYPICAL_BYTES } from './batched-gets.js';
import { notDelivered } from './block-unavailable.js';
import type { Tried } from './first-answer.js';
import type { Keeper } from './keeper.js';
import type { Peer } from './peer.js';
import type { Peers } from './peers.js';
import { probe } from './probe.js';
import { type Answer, request } from './request.js';
import type { Timing } from './timing.js';

/** A block, and how large it is if that is known. */
export interface Wanted {
  link: Link;
  size?: number;
}

export interface BringProgress {
  blocks: number;
  /** Of content, not compressed. */
  bytes: number;
}

export interface BringOptions {
  signal: AbortSignal;
  onProgress?: (progress: BringProgress) => void;
  /** What the blocks are of: providers say which roots they hold. */
  root?: Link;
  /** Resolves when nobody waits for content: what is demanded goes first. */
  idle?: () => Promise<void>;
}

export interface BringDependencies {
  store: LocalStore;
  /** Sources on this machine, asked before the providers. */
  local(link: Link, signal: AbortSignal): Promise<Uint8Array | undefined>;
  peers: Peers;
  gets: BatchedGets;
  keeper: Keeper;
  timing: Timing;
}

/** One of the blocks that are brought. */
interface Item extends Required<Wanted> {
  digest: string;
  done: boolean;
  /** The requests under way that ask for it. */
  batches: Set<Batch>;
  tried: Map<Peer, Tried['why']>;
}

/** One request under way. */
interface Batch {
  peer: Peer;
  items: Map<string, Item>;
  cancel: AbortController;
}

/** Requests that are under way at a provider at the same time: one being sent, one on its way, one to come. */
const DEPTH = 3;
/** What a request asks for: as much as comes within this, between these bounds. */
const BATCH_MS = 100;
const LEAST_BYTES = 64 << 10;
const MOST_BYTES = 4 << 20;
const MOST_LINKS = 1024;
/** Of a provider that has not been measured. */
const FIRST_BYTES = 512 << 10;
/** Blocks and bytes that wait for a provider; with more, whoever names them waits. */
const QUEUE_BLOCKS = 8192;
const QUEUE_BYTES = 64 << 20;
/** How often it is looked whether a provider holds the others up. */
const TICK_MS = 100;

/**
 * Brings blocks into the store, from all who have them at the same time: whoever is done with what it was asked for is
 * asked for more, so that fast ones bring more than slow ones; and what is left at the end with slow ones is asked of
 * others as well.
 *
 * @throws when some cannot be had, after all others have been brought: BlockMissingError or BlockUnavailableError for
 * the first of them; and when they cannot be kept
 */
export async function bring(
  links: Iterable<Wanted> | AsyncIterable<Wanted>,
  { store, local, peers, gets, keeper, timing }: BringDependencies,
  { signal, onProgress, root, idle }: BringOptions,
): Promise<BringProgress> {
  signal.throwIfAborted();
  const progress = { blocks: 0, bytes: 0 };
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const end = Promise.withResolvers<void>();
  /** Not asked for yet, and asked for in vain. */
  const fresh: Item[] = [];
  let freshBytes = 0;
  let again: Item[] = [];
  const batches = new Set<Batch>();
  const known = new Set<string>();
  let lost: { first: Item; count: number } | undefined;
  let named = false;
  let scheduled = false;
  let room: (() => void) | undefined;

  function fail(error: unknown): void {
    end.reject(error);
    stop.abort(error);
  }

  async function readLinks(): Promise<void> {
    for await (const { link, size = TYPICAL_BYTES } of links) {
      either.throwIfAborted();
      const digest = linkDigest(link);
      if (known.has(digest) || (await store.has(link))) continue;
      const bytes = await local(link, either);
      if (bytes) {
        await kept(keeper.put(link, bytes));
        arrived(bytes.length);
        continue;
      }
      known.add(digest);
      fresh.push({ link, size, digest, done: false, batches: new Set(), tried: new Map() });
      freshBytes += size;
      schedule();
      if (fresh.length < QUEUE_BLOCKS && freshBytes < QUEUE_BYTES) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      room = resolve;
      await promise;
    }
    named = true;
    schedule();
  }

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    setImmediate(async () => {
      await idle?.();
      scheduled = false;
      if (!either.aborted) pump();
    });
  }

  /** Gives work to whoever can take more. */
  function pump(): void {
    const candidates = peers.ranked(FIRST_BYTES, root);
    giveUpOnLost(candidates);
    for (let round = 0; round < DEPTH; round++) {
      for (const peer of candidates) {
        if (activeOf(peer) > round) continue;
        const items = take(peer, candidates);
        if (items.length > 0) void send(peer, items);
      }
    }
    if (room && fresh.length < QUEUE_BLOCKS / 2 && freshBytes < QUEUE_BYTES / 2) {
      room();
      room = undefined;
    }
    if (named && fresh.length + again.length + batches.size === 0) end.resolve();
  }

  function activeOf(peer: Peer): number {
    let active = 0;
    for (const batch of batches) if (batch.peer === peer) active += 1;
    return active;
  }

  /** What everyone has been asked for in vain. */
  function giveUpOnLost(candidates: readonly Peer[]): void {
    const isLost = ({ tried }: Item) => candidates.every((peer) => tried.has(peer));
    if (candidates.length === 0) {
      again.push(...fresh.splice(0));
      freshBytes = 0;
    }
    for (const item of again.filter(isLost)) {
      lost ??= { first: item, count: 0 };
      lost.count += 1;
      known.delete(item.digest);
    }
    again = again.filter((item) => !isLost(item));
  }

  /** The next work of a provider: what others did not have, then what nobody has been asked for, then what is slow. */
  function take(peer: Peer, candidates: readonly Peer[]): Item[] {
    const trusted = candidates.filter((candidate) => candidate.trusted);
    const most = batchBytes(peer, Math.max(1, trusted.length));
    const items: Item[] = [];
    let bytes = 0;
    const isFull = () => bytes >= most || items.length >= MOST_LINKS;
    const add = (item: Item) => {
      items.push(item);
      bytes += item.size;
    };
    again = again.filter((item) => {
      // Those in quarantine are asked when all others have been.
      const may = !item.tried.has(peer) && (peer.trusted || trusted.every((other) => item.tried.has(other)));
      if (isFull() || !may) return true;
      add(item);
      return false;
    });
    if (!peer.trusted && trusted.length > 0) return items;
    let taken = 0;
    for (; taken < fresh.length && !isFull(); taken++) add(fresh[taken]);
    for (const { size } of fresh.splice(0, taken)) freshBytes -= size;
    if (items.length === 0 && activeOf(peer) === 0)
      for (const item of fromTheSlowest(peer)) if (!isFull()) add(item);
    return items;
  }

  function batchBytes(peer: Peer, sharing: number): number {
    const { rate } = peer;
    const most = rate === undefined ? FIRST_BYTES : Math.min((rate * BATCH_MS) / 1000, MOST_BYTES);
    // At the end everyone gets a part of what is left.
    return Math.max(LEAST_BYTES, named ? Math.min(most, freshBytes / (2 * sharing)) : most);
  }

  /** What another provider would take longer for than this one. Asked for last, it is likely to come last. */
  function fromTheSlowest(peer: Peer): Item[] {
    let slowest: { items: Item[]; time: number } | undefined;
    for (const batch of batches) {
      const items = [...batch.items.values()].filter(
        (item) => item.batches.size < 2 && !item.tried.has(peer),
      );
      const bytes = items.reduce((sum, { size }) => sum + size, 0);
      const time = timeLeft(batch.peer);
      const gain = time - 2 * peer.expectedTime(bytes, root);
      if (items.length > 0 && gain > 0 && time > (slowest?.time ?? 0))
        slowest = { items: items.reverse(), time };
    }
    return slowest?.items ?? [];
  }

  /** Of all that a provider has been asked for here; a silent one may never send it. */
  function timeLeft(peer: Peer): number {
    let bytes = 0;
    for (const batch of batches) {
      if (batch.peer === peer) for (const { size } of batch.items.values()) bytes += size;
    }
    return peer.expectedTime(bytes) + (peer.silence() > peer.late ? peer.silence() : 0);
  }

  async function send(peer: Peer, items: readonly Item[]): Promise<void> {
    const batch: Batch = {
      peer,
      items: new Map(items.map((item) => [item.digest, item])),
      cancel: new AbortController(),
    };
    batches.add(batch);
    for (const item of items) item.batches.add(batch);
    probe(items[0].link, { peers, gets });
    const others = peers.list().some((other) => other !== peer && other.trusted);
    let failure: Error | undefined;
    try {
      const answers = request(
        peer,
        items.map(({ link }) => link),
        {
          signal: AbortSignal.any([either, batch.cancel.signal]),
          urgent: false,
          expected: items.reduce((sum, { size }) => sum + size, 0),
          patience: others ? Math.max(timing.stall, peer.late) : timing.patience,
        },
      );
      for await (const answer of answers) await receive(answer, batch);
    } catch (error) {
      if (!batch.cancel.signal.aborted) failure = error as Error;
    }
    batches.delete(batch);
    for (const item of batch.items.values()) {
      item.batches.delete(batch);
      if (failure) item.tried.set(peer, failure);
      if (item.batches.size === 0) again.push(item);
    }
    schedule();
  }

  async function receive(answer: Answer, batch: Batch): Promise<void> {
    for (const link of answer.missing) {
      const item = batch.items.get(linkDigest(link));
      if (!item) continue;
      batch.items.delete(item.digest);
      item.batches.delete(batch);
      item.tried.set(batch.peer, 'missing');
      if (item.batches.size === 0) again.push(item);
    }
    const news = answer.records.filter(({ digest }) => batch.items.has(digest));
    // Until they are kept they are under way: it is not over before.
    const keeping = keeper.keep(
      news.length === answer.records.length ? answer : { ...answer, records: news },
    );
    for (const { digest, raw } of news) {
      const item = batch.items.get(digest);
      if (item) complete(item, batch);
      arrived(raw);
    }
    await kept(keeping);
    if (batch.items.size === 0) schedule();
  }

  /** Nobody else needs to send it any more. */
  function complete(item: Item, by: Batch): void {
    item.done = true;
    known.delete(item.digest);
    for (const batch of item.batches) {
      batch.items.delete(item.digest);
      if (batch !== by && batch.items.size === 0) batch.cancel.abort();
    }
    item.batches.clear();
  }

  function arrived(bytes: number): void {
    progress.blocks += 1;
    progress.bytes += bytes;
    onProgress?.(progress);
  }

  async function kept(keeping: Promise<Error | undefined>): Promise<void> {
    const problem = await keeping;
    if (problem) fail(problem);
  }

  const lease = store.lease(root === undefined ? [] : [root]);
  const stopListening = peers.onChange(schedule);
  const ticking = setInterval(schedule, TICK_MS).unref();
  const onAbort = () => fail(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    readLinks().catch(fail);
    await end.promise;
    if (lost) {
      const here = [`${store.describe()}: missing`];
      throw notDelivered(lost.first.link, triedOf(lost.first), { here, unknown: false });
    }
    return progress;
  } finally {
    stopListening();
    clearInterval(ticking);
    signal.removeEventListener('abort', onAbort);
    stop.abort();
    room?.();
    lease.release();
  }
}

function triedOf({ tried }: Item): Tried[] {
  return [...tried].map(([peer, why]) => ({ peer, why }));
}
