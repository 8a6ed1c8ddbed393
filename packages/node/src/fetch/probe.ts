import type { Link } from '@lazytree/core';
import type { BatchedGets } from './batched-gets.js';
import type { Peers } from './peers.js';

/**
 * Asks those who have sat out their quarantine for a block that somebody else is being asked for. Nobody waits for it:
 * who answers in time is well again, and who does not stays away for twice as long. Those of a later tier than
 * somebody who may be asked have nothing to be well for.
 */
export function probe(link: Link, { peers, gets }: { peers: Peers; gets: BatchedGets }): void {
  const joined = peers.list();
  const last = Math.min(...joined.filter(({ trusted }) => trusted).map(({ tier }) => tier));
  for (const peer of joined) {
    if (!peer.probeDue || peer.tier > last) continue;
    peer.probing();
    const cancel = new AbortController();
    const timer = setTimeout(() => cancel.abort(), peer.late);
    gets
      .get(peer, link, { signal: cancel.signal, patience: peer.late })
      // However it has failed; a failure that has been counted already is not counted twice.
      .catch(() => peer.quarantine())
      .finally(() => clearTimeout(timer));
  }
}
