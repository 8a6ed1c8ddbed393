import type { Link } from '@lazytree/core';
import type { Peer } from './peer.js';
import type { Peers } from './peers.js';
import type { Timing } from './timing.js';

export interface FirstAnswerOptions<T> {
  peers: Peers;
  timing: Timing;
  signal: AbortSignal;
  /** Of the answer, about. */
  bytes: number;
  root?: Link;
  /** Asks one provider. Resolves to nothing when it does not have it. */
  ask(peer: Peer, options: { signal: AbortSignal; patience: number }): Promise<T | undefined>;
}

/** What came of asking the providers. */
export interface Outcome<T> {
  answer?: T;
  by?: Peer;
  /** Those who were asked and did not help. */
  tried: Tried[];
}

export interface Tried {
  peer: Peer;
  why: 'missing' | Error;
}

interface Attempt {
  peer: Peer;
  cancel: AbortController;
  /** Somebody else has been asked as well. */
  late: boolean;
}

/**
 * Asks for something that somebody waits for: the most promising provider of the first tier, the next one when an answer
 * is late, missing or an error, and so on through the tiers. The first answer wins, and whoever was asked before and is later still goes into quarantine;
 * all but the winner are cancelled. @throws the signal's reason
 */
export async function firstAnswer<T>(options: FirstAnswerOptions<T>): Promise<Outcome<T>> {
  const { peers, timing, signal, bytes, root, ask } = options;
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<Outcome<T>>();
  const asked = new Set<Peer>();
  /** In the order in which they began. */
  const open = new Set<Attempt>();
  const tried: Tried[] = [];
  let done = false;

  function finish(outcome: () => void): void {
    if (done) return;
    done = true;
    for (const { cancel } of open) cancel.abort();
    outcome();
  }

  /** Asks one more; it is over when there is nobody left, and nobody who may answer yet. */
  function askNext(): void {
    const peer = peers.ranked(bytes, root).find((candidate) => !asked.has(candidate));
    if (peer) void attempt(peer);
    else if (open.size === 0) finish(() => resolve({ tried }));
  }

  async function attempt(peer: Peer): Promise<void> {
    asked.add(peer);
    const own: Attempt = { peer, cancel: new AbortController(), late: false };
    open.add(own);
    const hedge = setTimeout(() => becomeLate(own), peer.late);
    const patience = peer.quarantined ? timing.quarantinedPatience : timing.patience;
    try {
      const both = AbortSignal.any([signal, own.cancel.signal]);
      const answer = await ask(peer, { signal: both, patience });
      if (answer !== undefined) {
        win(own, answer);
        return;
      }
      tried.push({ peer, why: 'missing' });
    } catch (error) {
      tried.push({ peer, why: error as Error });
    } finally {
      open.delete(own);
      clearTimeout(hedge);
    }
    // In the place of a late one somebody has been asked already.
    if (!done && (!own.late || open.size === 0)) askNext();
  }

  function becomeLate(own: Attempt): void {
    if (done || own.late) return;
    own.late = true;
    askNext();
  }

  function win(own: Attempt, answer: T): void {
    if (done) return;
    const earlier = [...open].slice(0, [...open].indexOf(own));
    open.delete(own);
    finish(() => resolve({ answer, by: own.peer, tried }));
    for (const { peer, late } of earlier) if (late) peer.quarantine();
  }

  /** Nobody waits for those who are in quarantine now, and somebody may have come who has it. */
  function onChange(): void {
    for (const own of [...open]) if (!own.peer.trusted) becomeLate(own);
    if (!done && [...open].every(({ late }) => late)) askNext();
  }

  const stopListening = peers.onChange(() => {
    if (!done) onChange();
  });
  const onAbort = () => finish(() => reject(signal.reason));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    askNext();
    return await promise;
  } finally {
    stopListening();
    signal.removeEventListener('abort', onAbort);
  }
}
