import type { Link } from '@lazytree/core';
import { machineHash, ownerOf, score } from './ownership.js';
import type { Peer } from './peer.js';
import { TIERS } from './provider.js';
import type { Item } from './work.js';

/** Who is to be asked for what, at one moment. */
export interface Division {
  /** Asked for what this machine owns: all of it, when no other machine is bringing the same. */
  readonly sources: readonly Peer[];
  /** Machines that bring the same now: asked for what they own, and for what none of the sources has delivered. */
  readonly mates: readonly Peer[];
  /** Those of later tiers: asked for what none of the above and no other trusted peer has delivered. */
  readonly later: readonly Peer[];
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

/**
 * Peers are asked before anybody of a later tier, which gets what each of them has been asked for in vain: what a peer
 * says of a root tells what it has all of, and never what it lacks.
 *
 * @param ranked all who may be asked, tier by tier, the most promising first and those in quarantine last
 */
export function divide(ranked: readonly Peer[], { root, self, excluded }: DivisionOptions): Division {
  const holds = ({ provider }: Peer) => (root === undefined ? 'unknown' : provider.holds(root));
  const trusted = ranked.filter((peer) => peer.trusted);
  const groups = TIERS.flatMap((_, tier) => {
    const those = trusted.filter((peer) => peer.tier === tier);
    // With nobody who has all of it, everyone may have any of it.
    return [those.filter((peer) => holds(peer) === 'all'), those.filter((peer) => holds(peer) !== 'all')];
  });
  groups.push(ranked.filter((peer) => !peer.trusted));
  const order = groups.filter((group) => group.length > 0);
  const sources = order[0] ?? [];
  const shared = self !== undefined && sources.some((peer) => peer.tier === 0 && holds(peer) === 'all');
  const mates = trusted.filter(
    (peer) => shared && peer.tier === 0 && holds(peer) === 'part' && !excluded.has(peer),
  );
  // Who lacks most of it is asked in the order in which the later tiers have it.
  const inOrder = !shared && trusted.some(({ tier }) => tier > 0);

  const own = self === undefined ? undefined : machineHash(self);
  const machines = own === undefined ? [] : [own, ...mates.map(({ provider }) => machineHash(provider.id))];
  const isSource = new Set(sources);
  /** Those who are to be asked before somebody. */
  const before = new Map<Peer, readonly Peer[]>();
  for (const [index, group] of order.entries()) {
    const earlier = order.slice(0, index).flat();
    for (const peer of group) before.set(peer, earlier);
  }

  /** The machine that an item is to be had from, unless it is this one, or has been asked in vain. */
  function owner({ place, tried }: Item): Peer | undefined {
    if (mates.length === 0) return undefined;
    const index = ownerOf(machines, place);
    const mate = index === 0 ? undefined : mates[index - 1];
    return mate && tried?.has(mate) ? undefined : mate;
  }

  function ownRank(place: number): number {
    if (own === undefined || root === undefined || inOrder) return 0;
    const its = score(own, place);
    const rank = RANKS.findIndex((least) => its >= least);
    return rank < 0 ? RANKS.length : rank;
  }

  return {
    sources,
    mates,
    later: trusted.filter(({ tier }) => tier > sources[0].tier),
    rank(item, peer) {
      if (item.tried?.has(peer)) return undefined;
      const its = owner(item);
      if (its) return its === peer ? 0 : undefined;
      if (isSource.has(peer)) return item.tried ? 0 : ownRank(item.place);
      return before.get(peer)?.every((earlier) => item.tried?.has(earlier)) ? 0 : undefined;
    },
  };
}
