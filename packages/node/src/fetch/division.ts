import type { Link } from '@lazytree/core';
import { machineHash, ownerOf, score } from './ownership.js';
import type { Peer } from './peer.js';
import type { Item } from './work.js';

/** Who is to be asked for what, at one moment. */
export interface Division {
  /** Asked for what this machine owns: all of it, when no other machine is bringing the same. */
  readonly sources: readonly Peer[];
  /** Machines that bring the same now: asked for what they own, and for what none of the sources has delivered. */
  readonly mates: readonly Peer[];
  /** Asked for what none of the above has delivered. */
  readonly others: readonly Peer[];
  /** What an item is to a provider: the lowest rank is to be asked of it first, and what has none not at all. */
  rank(item: Item, peer: Peer): number | undefined;
}

export interface DivisionOptions {
  root: Link | undefined;
  /** What this machine is called by the others. */
  self: string | undefined;
  /** Machines that bring the same, and have not been of help. */
  excluded: ReadonlySet<Peer>;
}

/**
 * Ranks of what this machine brings, by its score for the place: of what it owns among a few machines the score is
 * high. So machines that begin at the same time bring different things even before they know of each other.
 */
const RANKS = [0.875, 0.5];

/** @param ranked all who may be asked, the most promising first and those in quarantine last */
export function divide(ranked: readonly Peer[], { root, self, excluded }: DivisionOptions): Division {
  const trusted = ranked.filter((peer) => peer.trusted);
  const pick = (what: string) =>
    root === undefined ? [] : trusted.filter(({ provider }) => provider.holds(root) === what);
  const whole = pick('all');
  const parts = self === undefined ? [] : pick('part').filter((peer) => !excluded.has(peer));
  // With nobody who has all of it, everyone may have any of it.
  const mates = whole.length > 0 ? parts : [];
  const sources = whole.length > 0 ? whole : trusted.length > 0 ? trusted : ranked;
  const others = ranked.filter((peer) => !sources.includes(peer) && !mates.includes(peer));

  const own = self === undefined ? undefined : machineHash(self);
  const machines = own === undefined ? [] : [own, ...mates.map(({ provider }) => machineHash(provider.id))];
  const isSource = new Set(sources);

  /** The machine that an item is to be had from, unless it is this one, or has been asked in vain. */
  function owner({ place, tried }: Item): Peer | undefined {
    if (mates.length === 0) return undefined;
    const index = ownerOf(machines, place);
    const mate = index === 0 ? undefined : mates[index - 1];
    return mate && tried?.has(mate) ? undefined : mate;
  }

  function ownRank(place: number): number {
    if (own === undefined || root === undefined) return 0;
    const its = score(own, place);
    const rank = RANKS.findIndex((least) => its >= least);
    return rank < 0 ? RANKS.length : rank;
  }

  return {
    sources,
    mates,
    others,
    rank(item, peer) {
      if (item.tried?.has(peer)) return undefined;
      const its = owner(item);
      if (its) return its === peer ? 0 : undefined;
      if (isSource.has(peer)) return item.tried ? 0 : ownRank(item.place);
      return sources.every((source) => item.tried?.has(source)) ? 0 : undefined;
    },
  };
}
