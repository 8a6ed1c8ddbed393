import { multiaddr } from '@multiformats/multiaddr';
import type { Network } from './network.js';

const FIRST_MS = 500;
const LONGEST_MS = 60_000;

export interface PeerDialerOptions {
  network(): Network;
  isConnected(id: string): boolean;
  onFailed(id: string, error: Error): void;
}

/** Dials peers until they are connected, with longer and longer pauses. */
export interface PeerDialer {
  /** Dials at once, and again later should it fail. The addresses take the place of those known. */
  want(id: string, addresses: readonly string[]): void;
  /** Dials an address whose peer is not known; from then on it is one of that peer's, whatever else is said of it. */
  wantAddress(address: string): void;
  /** Begins again: the peer was connected, and is not any more. */
  lost(id: string): void;
  forget(id: string): void;
  close(): void;
}

interface Target {
  addresses: readonly string[];
  failures: number;
  timer?: NodeJS.Timeout | undefined;
  dialling: boolean;
}

export function createPeerDialer({ network, isConnected, onFailed }: PeerDialerOptions): PeerDialer {
  const targets = new Map<string, Target>();
  /** Addresses that were given by a person, by the peer that answered there. */
  const given = new Map<string, Set<string>>();
  const ended = new AbortController();

  async function dial(id: string, target: Target): Promise<void> {
    clearTimeout(target.timer);
    if (target.dialling || ended.signal.aborted || isConnected(id)) return;
    target.dialling = true;
    try {
      const addresses = new Set([...target.addresses, ...(given.get(id) ?? [])]);
      const { remotePeer } = await network().dial(
        [...addresses].map((address) => multiaddr(address)),
        { signal: ended.signal },
      );
      target.failures = 0;
      if (id.startsWith('/')) isOf(remotePeer.toString(), id);
    } catch (error) {
      if (ended.signal.aborted) return;
      onFailed(id, error as Error);
      target.failures += 1;
      again(id, target);
    } finally {
      target.dialling = false;
    }
  }

  /** Known by its address alone until now: from here on its peer id stands for it. */
  function isOf(peer: string, address: string): void {
    const whole = address.includes('/p2p/') ? address : `${address}/p2p/${peer}`;
    given.set(peer, (given.get(peer) ?? new Set()).add(whole));
    targets.delete(address);
    want(peer, [...(targets.get(peer)?.addresses ?? []), whole]);
  }

  function again(id: string, target: Target): void {
    const pause = Math.min(LONGEST_MS, FIRST_MS * 2 ** (target.failures - 1));
    clearTimeout(target.timer);
    // So that those who lost each other at the same moment do not meet again and again.
    target.timer = setTimeout(() => void dial(id, target), pause * (0.75 + Math.random() / 2)).unref();
  }

  function want(id: string, addresses: readonly string[]): void {
    if (addresses.length === 0) return;
    const target: Target = targets.get(id) ?? { addresses, failures: 0, dialling: false };
    target.addresses = addresses;
    targets.set(id, target);
    void dial(id, target);
  }

  return {
    want,
    wantAddress: (address) => want(address, [address]),
    lost(id) {
      const target = targets.get(id);
      if (!target) return;
      target.failures = 1;
      again(id, target);
    },
    forget(id) {
      clearTimeout(targets.get(id)?.timer);
      targets.delete(id);
    },
    close() {
      ended.abort();
      for (const { timer } of targets.values()) clearTimeout(timer);
      targets.clear();
    },
  };
}
