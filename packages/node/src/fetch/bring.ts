import { type Link, type LocalStore, linkDigest } from '@lazytree/core';
import type { BatchedGets } from './batched-gets.js';
import { notDelivered } from './block-unavailable.js';
import type { BlockWriter } from './block-writer.js';
import { type Division, divide } from './division.js';
import { createHitRate, type HitRate } from './hit-rate.js';
import type { Peer } from './peer.js';
import type { Peers } from './peers.js';
import { probe } from './probe.js';
import { type Answer, type KeepExtra, request } from './request.js';
import type { Timing } from './timing.js';
import type { Verifier } from './verifier.js';
import { type Batch, createWork, type Item, type Limit, type Wanted } from './work.js';

export interface BringProgress {
  /** Of what was named, files and content that are in the store now. */
  files: number;
  bytes: number;
  /** Blocks that were not there. */
  brought: number;
}

export interface BringOptions {
  signal: AbortSignal;
  onProgress?: (progress: BringProgress) => void;
  /** What the blocks are of: providers say which roots they hold, and machines that bring the same one share the work. */
  root?: Link;
  /** Resolves when nobody waits for content: what is demanded goes first. */
  idle?: () => Promise<void>;
  /** It is little, and wanted soon: the round trips count, and not who brings how much of it. */
  eager?: boolean;
}

/** Lists of blocks, which are taken one by one as there is room for what they name. */
export type WantedLists = Iterable<readonly Wanted[]> | AsyncIterable<readonly Wanted[]>;

/** Blocks that are being brought, for those who would like to have them, too. */
export interface Bringing {
  readonly root: Link | undefined;
  /** Whether a block is among those that are to be brought. */
  brings(digest: string): boolean;
  /** Whether somebody has been asked for it. */
  asks(digest: string): boolean;
  /** Whether it is among those that are to be brought, or may come to be. */
  expects(digest: string): boolean;
  /** It has come in another way. */
  came(digest: string): void;
  readonly ended: Promise<BringProgress>;
}

export interface BringDependencies {
  store: LocalStore;
  /** What the sources on this machine have, which are asked before the providers. */
  local(link: Link, signal: AbortSignal): Promise<Uint8Array | undefined>;
  peers: Peers;
  gets: BatchedGets;
  writer: BlockWriter;
  verifier: Verifier;
  keepExtra: KeepExtra;
  timing: Timing;
  /** What this machine is called by the others. */
  self: string | undefined;
  /** Providers that are known, and cannot be asked now. */
  away(): readonly string[];
  /** Whether a block has been asked for by somebody else on this machine: then it is on its way. */
  isAskedFor(digest: string): boolean;
  /** Told when all blocks have been named. */
  onNamed(): void;
}

/** Requests under way at a provider at the same time: one being sent, one on its way, one that waits for its turn. */
const DEPTH = 3;
/** What a request asks for: as much as comes within this, between these bounds. */
const BATCH_MS = 100;
const LEAST_BYTES = 64 << 10;
const MOST_BYTES = 4 << 20;
const MOST_LINKS = 1024;
/** Of a provider that has not been measured. */
const FIRST_BYTES = 128 << 10;
/** Of one that lacks most of what it is asked for, should it have all of it after all. */
const MOST_UNLIKELY_BYTES = 16 << 20;
/** What waits for a request; with more, whoever names it waits. */
const WAITING_BLOCKS = 8192;
const WAITING_BYTES = 64 << 20;
/** A machine that brings the same and does bring, but slowly, is waited for so many times as long as a silent one. */
const SLOW_STALLS = 3;
/** How often it is looked whether somebody holds the others up. */
const TICK_MS = 100;

/**
 * Brings blocks into the store, from all who have them at the same time. Whoever is done with what it was asked for is
 * asked for more, so that fast ones bring more than slow ones; what is left at the end with slow ones is asked of
 * others as well. Machines that bring the same root at the same time get most of it from each other: see ownership.ts.
 *
 * `ended` rejects when some cannot be had, after all others have been brought: with BlockMissingError or
 * BlockUnavailableError for the first of them; and at once when they cannot be kept.
 */
export function bring(lists: WantedLists, dependencies: BringDependencies, options: BringOptions): Bringing {
  const { store, local, peers, gets, writer, verifier, keepExtra, timing, self, away, isAskedFor, onNamed } =
    dependencies;
  const { signal, onProgress, root, idle, eager } = options;
  const progress: BringProgress = { files: 0, bytes: 0, brought: 0 };
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const end = Promise.withResolvers<void>();
  const work = createWork();
  const excluded = new Set<Peer>();
  const hits = new Map<Peer, HitRate>();
  let lost: Item | undefined;
  let named = false;
  let scheduled = false;
  let keeping = 0;
  let room: (() => void) | undefined;
  /** Since when there is nothing to be asked of the sources. */
  let resting: number | undefined;

  function fail(error: unknown): void {
    end.reject(error);
    stop.abort(error);
  }

  async function readLists(): Promise<void> {
    for await (const list of lists) {
      for (const wanted of list) {
        either.throwIfAborted();
        await name(wanted);
      }
      schedule();
      const { blocks, bytes } = work.waiting;
      if (blocks < WAITING_BLOCKS && bytes < WAITING_BYTES) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      room = resolve;
      await promise;
    }
    named = true;
    onNamed();
    schedule();
  }

  async function name(wanted: Wanted): Promise<void> {
    const { link, size = 0, files = 0 } = wanted;
    const digest = linkDigest(link);
    if (!work.find(digest)) {
      if (writer.isComing(digest) || (await store.has(link))) return count(size, files);
      const bytes = await local(link, either);
      if (bytes) {
        await finish(writer.put(link, bytes));
        progress.brought += 1;
        return count(bytes.length, files);
      }
    }
    work.add(wanted);
  }

  function count(bytes: number, files: number): void {
    progress.bytes += bytes;
    progress.files += files;
    onProgress?.(progress);
  }

  /** It is not over before all is kept. */
  async function finish(kept: Promise<Error | undefined>): Promise<void> {
    keeping += 1;
    const problem = await kept;
    keeping -= 1;
    if (problem) fail(problem);
  }

  function schedule(): void {
    if (scheduled || either.aborted) return;
    scheduled = true;
    setImmediate(async () => {
      await idle?.();
      scheduled = false;
      if (!either.aborted) askForMore();
    });
  }

  /** Gives work to whoever can take more. */
  function askForMore(): void {
    const ranked = peers.ranked(FIRST_BYTES, root);
    const division = divide(ranked, { root, self, excluded });
    const gone = work.takeLost(ranked);
    lost ??= gone[0];
    const deepest = Math.max(0, ...ranked.map(depthOf));
    for (let round = 0; round < deepest; round++) {
      for (const peer of ranked) {
        if (round >= depthOf(peer) || activeAt(peer) > round) continue;
        const items = take(peer, division);
        if (items.length > 0) void send(peer, items, division);
      }
    }
    lookForIdlers(division);
    const { blocks, bytes } = work.waiting;
    if (room && blocks < WAITING_BLOCKS / 2 && bytes < WAITING_BYTES / 2) {
      room();
      room = undefined;
    }
    if (named && blocks + work.batches.size + keeping === 0) end.resolve();
  }

  function activeAt(peer: Peer): number {
    let active = 0;
    for (const batch of work.batches) if (batch.peer === peer) active += 1;
    return active;
  }

  function take(peer: Peer, division: Division): Item[] {
    const limit = limitFor(peer, division);
    const rank = (item: Item) => (isAskedFor(item.digest) ? undefined : division.rank(item, peer));
    const items = work.take(rank, limit);
    const idles =
      items.length === 0 && peer.trusted && division.sources.includes(peer) && activeAt(peer) === 0;
    return idles ? fromTheSlowest(peer, limit.bytes) : items;
  }

  function limitFor(peer: Peer, { mates, sources }: Division): Limit {
    const { batch } = peer.provider;
    if (batch) {
      // One that has something to do waits for a whole batch, unless no more is to come.
      const naming = !named && room === undefined;
      const more = naming || [...work.batches].some((other) => other.peer.tier < peer.tier);
      return { bytes: batch.bytes, links: WAITING_BLOCKS, full: more && activeAt(peer) > 0 };
    }
    const likely = mates.includes(peer) || eager ? MOST_BYTES : batchBytes(peer, sources.length);
    // To learn what it lacks costs the same for few blocks and for many.
    const bytes = Math.max(likely, Math.min(likely / hitsOf(peer).share, MOST_UNLIKELY_BYTES));
    return { bytes, links: MOST_LINKS };
  }

  function hitsOf(peer: Peer): HitRate {
    const known = hits.get(peer);
    if (known) return known;
    const own = createHitRate();
    hits.set(peer, own);
    return own;
  }

  function batchBytes({ rate }: Peer, sharing: number): number {
    const most = rate === undefined ? FIRST_BYTES : Math.min((rate * BATCH_MS) / 1000, MOST_BYTES);
    // At the end everyone gets a part of what is left.
    const fair = named ? Math.max(work.waiting.bytes / (2 * Math.max(1, sharing)), LEAST_BYTES) : most;
    return Math.max(LEAST_BYTES, Math.min(most, fair));
  }

  /** What another provider would take longer for than this one. Asked for last, it is likely to come last. */
  function fromTheSlowest(peer: Peer, bytes: number): Item[] {
    let slowest: { items: Item[]; time: number } | undefined;
    for (const batch of work.batches) {
      if (batch.patient || batch.peer === peer) continue;
      const items = [...batch.items.values()].filter(
        (item) => item.batches.length < 2 && !item.tried?.has(peer),
      );
      const time = timeLeft(batch.peer);
      const gain = time - 2 * peer.expectedTime(sizeOf(items), root);
      if (items.length > 0 && gain > 0 && time > (slowest?.time ?? 0)) slowest = { items, time };
    }
    const last = slowest?.items.reverse().slice(0, MOST_LINKS) ?? [];
    let sum = 0;
    return last.filter(({ size }) => {
      sum += size;
      return sum - size < bytes;
    });
  }

  /** Of all that a provider has been asked for here; a silent one may never send it. */
  function timeLeft(peer: Peer): number {
    let bytes = 0;
    for (const batch of work.batches) if (batch.peer === peer) bytes += sizeOf([...batch.items.values()]);
    const silence = peer.silence();
    return (
      peer.expectedTime(bytes) + (silence > peer.late && silence < Number.POSITIVE_INFINITY ? silence : 0)
    );
  }

  /**
   * With nothing left to be asked of the sources, machines that bring the same hold this one up: what one of them does
   * not bring is divided among the others. Before that there is no hurry.
   */
  function lookForIdlers({ sources, mates }: Division): void {
    const now = performance.now();
    const stuck = (named || room !== undefined) && !sources.some((peer) => activeAt(peer) > 0);
    if (!stuck || mates.length === 0) {
      resting = undefined;
      return;
    }
    resting ??= now;
    if (now - resting < timing.stall) return;
    const held = new Map<Peer, number>();
    for (const { peer, patient, items } of work.batches) {
      if (patient) held.set(peer, (held.get(peer) ?? 0) + items.size);
    }
    const silent = [...held.keys()].filter((peer) => peer.silence() > timing.stall);
    const [slowest] = [...held.keys()].sort((a, b) => (held.get(b) ?? 0) - (held.get(a) ?? 0));
    if (silent.length > 0) silent.forEach(exclude);
    else if (slowest && now - resting > SLOW_STALLS * timing.stall) exclude(slowest);
    else return;
    resting = undefined;
  }

  function exclude(mate: Peer): void {
    excluded.add(mate);
    for (const batch of work.batches) if (batch.peer === mate && batch.patient) batch.cancel.abort();
  }

  async function send(peer: Peer, items: readonly Item[], division: Division): Promise<void> {
    const { sources, mates, later } = division;
    const patient = mates.includes(peer);
    verifier.expect(work.waiting.bytes);
    const batch = work.begin(peer, items, patient);
    probe(items[0].link, { peers, gets });
    const others = [...sources, ...later].some(
      (other) => other !== peer && other.trusted && items.some(({ tried }) => !tried?.has(other)),
    );
    const hurry = others && !patient && !items.some(({ lastChance }) => lastChance);
    let failure: Error | undefined;
    try {
      const answers = request(
        peer,
        items.map(({ link }) => link),
        {
          verifier,
          keepExtra,
          signal: AbortSignal.any([either, batch.cancel.signal]),
          urgent: false,
          patient,
          expected: sizeOf(items),
          patience: hurry ? Math.max(timing.stall, peer.late) : timing.patience,
        },
      );
      for await (const answer of answers) {
        await receive(answer, batch);
        if (batch.items.size === 0) schedule();
      }
    } catch (error) {
      if (!batch.cancel.signal.aborted) failure = error as Error;
    }
    work.end(batch, failure);
    schedule();
  }

  async function receive(answer: Answer, batch: Batch): Promise<void> {
    hitsOf(batch.peer).answered(answer.records.length, answer.missing.length);
    for (const link of answer.missing) {
      const item = batch.items.get(linkDigest(link));
      if (item) work.giveBack(item, batch, 'missing');
    }
    const news = answer.records.filter(({ digest }) => batch.items.has(digest));
    const kept = writer.keep({ bytes: answer.bytes, records: news });
    for (const { digest } of news) completed(batch.items.get(digest), batch);
    await finish(kept);
  }

  function completed(item: Item | undefined, by?: Batch): void {
    if (!item) return;
    const asked = [...item.batches];
    work.complete(item);
    for (const batch of asked) if (batch !== by && batch.items.size === 0) batch.cancel.abort();
    progress.brought += 1;
    count(item.bytes, item.files);
  }

  async function run(): Promise<BringProgress> {
    signal.throwIfAborted();
    const lease = store.lease(root === undefined ? [] : [root]);
    const stopListening = peers.onChange(schedule);
    const ticking = setInterval(schedule, TICK_MS).unref();
    const onAbort = () => fail(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      readLists().catch(fail);
      await end.promise;
      if (!lost) return progress;
      const tried = [...(lost.tried ?? [])].map(([peer, why]) => ({ peer, why }));
      throw notDelivered(lost.link, tried, {
        here: [`${store.describe()}: missing`],
        unknown: false,
        away: away(),
      });
    } finally {
      stopListening();
      clearInterval(ticking);
      signal.removeEventListener('abort', onAbort);
      stop.abort();
      room?.();
      lease.release();
    }
  }

  return {
    root,
    brings: (digest) => work.find(digest) !== undefined,
    asks: (digest) => (work.find(digest)?.batches.length ?? 0) > 0,
    expects: (digest) => !named || work.find(digest) !== undefined,
    came(digest) {
      completed(work.find(digest));
      if (named && work.waiting.blocks === 0) schedule();
    },
    ended: run(),
  };
}

function depthOf({ provider }: Peer): number {
  return provider.batch?.requests ?? DEPTH;
}

function sizeOf(items: readonly Item[]): number {
  return items.reduce((sum, { size }) => sum + size, 0);
}
