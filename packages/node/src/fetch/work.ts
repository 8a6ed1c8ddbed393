import { type Link, linkDigest } from '@lazytree/core';
import { TYPICAL_BYTES } from './batched-gets.js';
import type { Tried } from './first-answer.js';
import { placeOf } from './ownership.js';
import type { Peer } from './peer.js';

/** A block to be brought. */
export interface Wanted {
  link: Link;
  /** Of its content, if that is known. */
  size?: number;
  /** Blocks of one place, such as a directory, are best brought by one machine and with one request. */
  place?: Link;
  /** Files that are complete with it, for who counts them. */
  files?: number;
}

/** A block on its way. */
export interface Item {
  readonly link: Link;
  readonly digest: string;
  readonly size: number;
  readonly place: number;
  /** Its place in the order in which blocks were named. */
  readonly number: number;
  /** What it counts for, each time it was named. */
  bytes: number;
  files: number;
  /** The requests under way that ask for it. */
  readonly batches: Batch[];
  /** Those who were asked in vain. */
  tried?: Map<Peer, Tried['why']>;
  /** Everyone has been asked once, and some failed: they are asked again, with more patience. */
  lastChance?: boolean;
}

/** One request under way. */
export interface Batch {
  readonly peer: Peer;
  /** Whether it waits for what the provider is about to bring itself. */
  readonly patient: boolean;
  /** Those that there is no answer for yet. */
  readonly items: Map<string, Item>;
  readonly cancel: AbortController;
  readonly began: number;
}

export interface Limit {
  bytes: number;
  links: number;
  /** Takes nothing when that would be less than the limit. */
  full?: boolean;
}

/** Blocks that are to be brought, and those who have been asked for them. */
export interface Work {
  /** Blocks that wait for a request, and their bytes. */
  readonly waiting: { blocks: number; bytes: number };
  readonly batches: ReadonlySet<Batch>;
  find(digest: string): Item | undefined;
  add(wanted: Wanted): void;
  /** Takes the waiting ones of the lowest rank, in their order, up to a limit; those without a rank stay. */
  take(rank: (item: Item) => number | undefined, limit: Limit): Item[];
  /** Takes all that nobody of `peers` is left to ask for. Those who failed are asked a second time first. */
  takeLost(peers: readonly Peer[]): Item[];
  begin(peer: Peer, items: readonly Item[], patient: boolean): Batch;
  /** Takes an item out of a batch in vain; it waits again unless another batch has it. */
  giveBack(item: Item, batch: Batch, why: Tried['why'] | undefined): void;
  end(batch: Batch, why: Tried['why'] | undefined): void;
  /** Whoever has been asked for it need not send it any more. */
  complete(item: Item): void;
}

/** Ranks that an item can have: the lowest is 0. */
const RANKS = 3;

export function createWork(): Work {
  const items = new Map<string, Item>();
  const batches = new Set<Batch>();
  let queue: Item[] = [];
  let again: Item[] = [];
  let bytes = 0;
  let named = 0;
  /** How often somebody has been asked in vain. */
  let failures = 0;

  function remove(taken: ReadonlySet<Item>): void {
    if (taken.size === 0) return;
    again = again.filter((item) => !taken.has(item));
    queue = queue.filter((item) => !taken.has(item));
    for (const { size } of taken) bytes -= size;
  }

  /** In the order in which they were named: what came back is first again, and beside what it belongs to. */
  function* all(): Generator<Item> {
    if (again.length > 0) {
      queue = [...again, ...queue].sort((a, b) => a.number - b.number);
      again = [];
    }
    yield* queue;
  }

  function giveBack(item: Item, batch: Batch, why: Tried['why'] | undefined): void {
    batch.items.delete(item.digest);
    item.batches.splice(item.batches.indexOf(batch), 1);
    if (why !== undefined) {
      failures += 1;
      item.tried ??= new Map();
      item.tried.set(batch.peer, why);
    }
    if (item.batches.length > 0) return;
    again.push(item);
    bytes += item.size;
  }

  return {
    get waiting() {
      return { blocks: queue.length + again.length, bytes };
    },
    batches,
    find: (digest) => items.get(digest),
    add({ link, size = TYPICAL_BYTES, place = link, files = 0 }) {
      const digest = linkDigest(link);
      const known = items.get(digest);
      if (known) {
        known.bytes += size;
        known.files += files;
        return;
      }
      const item = {
        link,
        digest,
        size,
        place: placeOf(linkDigest(place)),
        number: named++,
        bytes: size,
        files,
        batches: [],
      };
      items.set(digest, item);
      queue.push(item);
      bytes += size;
    },
    take(rank, limit) {
      const found: Item[][] = Array.from({ length: RANKS }, () => []);
      let best = 0;
      for (const item of all()) {
        const of = rank(item);
        if (of === undefined) continue;
        found[of].push(item);
        if (of === 0) best += item.size;
        if (best >= limit.bytes || found[0].length >= limit.links) break;
      }
      const taken = new Set<Item>();
      let sum = 0;
      for (const item of found.flat()) {
        if (sum >= limit.bytes || taken.size >= limit.links) break;
        taken.add(item);
        sum += item.size;
      }
      if (limit.full && sum < limit.bytes && taken.size < limit.links) return [];
      remove(taken);
      return [...taken];
    },
    takeLost(peers) {
      const lost = new Set<Item>();
      if (failures === 0 && peers.length > 0) return [];
      for (const item of all()) {
        if (!peers.every((peer) => item.tried?.has(peer))) continue;
        if (item.lastChance || !tryAgain(item)) lost.add(item);
      }
      remove(lost);
      for (const { digest } of lost) items.delete(digest);
      return [...lost];
    },
    begin(peer, asked, patient) {
      const batch = {
        peer,
        patient,
        items: new Map(asked.map((item) => [item.digest, item])),
        cancel: new AbortController(),
        began: performance.now(),
      };
      for (const item of asked) item.batches.push(batch);
      batches.add(batch);
      return batch;
    },
    giveBack,
    end(batch, why) {
      batches.delete(batch);
      for (const item of [...batch.items.values()]) giveBack(item, batch, why);
    },
    complete(item) {
      items.delete(item.digest);
      if (item.batches.length === 0) {
        remove(new Set([item]));
        return;
      }
      for (const batch of item.batches) batch.items.delete(item.digest);
    },
  };
}

/** Forgets who failed. Returns whether that is anybody. */
function tryAgain(item: Item): boolean {
  item.lastChance = true;
  let failed = false;
  for (const [peer, why] of item.tried ?? []) {
    if (why === 'missing') continue;
    failed = true;
    item.tried?.delete(peer);
  }
  return failed;
}
