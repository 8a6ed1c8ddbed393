import type { Link } from '@lazytree/core';

/** A part of what a provider answers. Nothing in it has been verified unless it says so. */
export interface Parcel {
  /** Whole records of the store's format (docs/store.md), one after another, as the provider has them stored. */
  records: Buffer;
  /** Whether nobody else has the buffer that `records` are in: whoever takes them may do with it what they like. */
  exclusive?: boolean;
  /** Blocks that were asked for and that it does not have. */
  missing: readonly Link[];
  /**
   * More such records, which nobody asked for: from a provider that is `generous`, and whose storage has them beside
   * what was asked for. Never a part of the answer.
   */
  extra?: Buffer;
  /**
   * Said by a provider that has made all of these records itself, in this process, each under the hash that it has found
   * the block to have. Never of what came as records.
   */
  hashed?: boolean;
  /** In place of records, in an answer of `tree`: nodes that the provider has hashed itself, in this process. */
  nodes?: readonly HashedNode[];
}

/** A node under the hash that it was found to have. */
export interface HashedNode {
  link: Link;
  bytes: Uint8Array;
  /** The nodes that it links to. */
  below: readonly Link[];
}

/** Where a provider stands among the others: each tier is asked for what the ones before it cannot give now. */
export type Tier = 'peer' | 'origin' | 'remote';

/** From the first that is asked to the last. */
export const TIERS: readonly Tier[] = ['peer', 'origin', 'remote'];

/** How a provider wants to be asked in bulk. */
export interface BatchHint {
  /** Of content that one request is to ask for. */
  bytes: number;
  /** Requests under way at the same time. */
  requests: number;
}

export interface GetOptions {
  signal: AbortSignal;
  /** Somebody waits for these blocks: they go before what is fetched ahead. */
  urgent: boolean;
  /** A block that the provider is fetching itself is worth waiting for: it answers when it has it. */
  patient?: boolean;
}

export interface TreeOptions {
  signal: AbortSignal;
  /** Roots of which the asker has every node: nothing that they reach at the same path is sent. */
  have: readonly Link[];
  /** A tree of no more bytes than this may come with the content of its files, after all nodes. */
  content?: number;
}

/**
 * Somewhere outside of this machine that has blocks: a peer, an origin, a remote. Requests run side by side; each ends
 * with the iteration or with an error, and `signal` cancels it to the other end.
 */
export interface Provider {
  /** Names it to every machine alike: a peer's id. */
  readonly id: string;
  /** For people: a name, and where it is. */
  describe(): string;
  /** Default: a peer. */
  readonly tier?: Tier;
  /**
   * Requests are dear, and blocks lie in the order of their tree: bulk asks for much at a time, in the order in which
   * blocks were named. Without it, a request asks for what comes in a moment.
   */
  readonly batch?: BatchHint;
  /** Whether parcels may have more than was asked for. From anybody else that is a lie. */
  readonly generous?: boolean;
  /**
   * Answers for each of `links` once, as a record or as missing, in any order. One that cannot read some of them sends
   * all others before it fails: they count.
   */
  get(links: readonly Link[], options: GetOptions): AsyncIterable<Parcel>;
  /**
   * Every node under a root that is not under one of `have`, parents before their children: directories, and the nodes
   * of large files; each once. A root that it does not have is missing; so are nodes below that it lacks.
   */
  tree(root: Link, options: TreeOptions): AsyncIterable<Parcel>;
  /** What it says of a root: it has all of it, is fetching it now, or has said nothing. */
  holds(root: Link): 'all' | 'part' | 'unknown';
  /** It has sent what it was not asked for or what is not what it says: it is never to be asked again. */
  distrust(reason: string): void;
}
