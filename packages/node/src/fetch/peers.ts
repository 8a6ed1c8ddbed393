import type { Link } from '@lazytree/core';
import { createPeer, type Peer } from './peer.js';
import type { Provider } from './provider.js';
import type { Timing } from './timing.js';

/** The providers of a chain that are there now. */
export interface Peers {
  join(provider: Provider): () => void;
  /** Those that may be asked: tier by tier, in each the most promising first; those in quarantine after all others. */
  ranked(bytes: number, root?: Link): Peer[];
  list(): Peer[];
  /** Calls `listener` when one has come or gone, or is in quarantine now; until the function returned is called. */
  onChange(listener: () => void): () => void;
}

/** Ids of providers that have lied are remembered; there is no need for more of them than machines. */
const MOST_LIARS = 4096;

export function createPeers(timing: Timing): Peers {
  const joined = new Set<Peer>();
  const liars = new Map<string, string>();
  const listeners = new Set<() => void>();

  function changed(): void {
    for (const listener of [...listeners]) listener();
  }

  return {
    join(provider) {
      const lie = liars.get(provider.id);
      const peer = createPeer(provider, timing, () => {
        if (peer.distrusted !== undefined && liars.size < MOST_LIARS) {
          liars.set(provider.id, peer.distrusted);
        }
        changed();
      });
      joined.add(peer);
      if (lie === undefined) changed();
      else peer.distrust(lie);
      return () => {
        if (joined.delete(peer)) changed();
      };
    },
    ranked(bytes, root) {
      const askable = [...joined].filter(({ distrusted }) => distrusted === undefined);
      const rank = (peer: Peer) => peer.expectedTime(bytes, root);
      return askable
        .map((peer) => ({ peer, time: rank(peer) }))
        .sort(
          (a, b) =>
            Number(a.peer.quarantined) - Number(b.peer.quarantined) ||
            a.peer.tier - b.peer.tier ||
            a.time - b.time,
        )
        .map(({ peer }) => peer);
    },
    list: () => [...joined],
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
