import type { Link } from '@lazytree/core';
import { type Provider, TIERS, type Tier } from './provider.js';
import type { Timing } from './timing.js';

/** What is known of a provider, for people. */
export interface PeerStatus {
  id: string;
  /** Its name and place. */
  name: string;
  tier: Tier;
  /** Milliseconds to the first answer of a small request, and bytes a second of a large one; absent until measured. */
  latency?: number;
  rate?: number;
  requests: number;
  /** Bytes received from it. */
  bytes: number;
  /** Blocks it was asked for and did not have. */
  missing: number;
  failures: number;
  /** Milliseconds since the epoch. */
  quarantinedUntil?: number;
  /** Why it is never asked again. */
  distrusted?: string;
}

/** A provider, how it has done so far, and what that lets expect of it. */
export interface Peer {
  readonly provider: Provider;
  /** The place of its tier in the order in which tiers are asked. */
  readonly tier: number;
  /** Neither in quarantine nor distrusted. */
  readonly trusted: boolean;
  readonly quarantined: boolean;
  readonly distrusted: string | undefined;
  /** Whether it has sat out its quarantine, and nobody is finding out yet whether it is well again. */
  readonly probeDue: boolean;
  /** Milliseconds until an answer of `bytes` is likely to be here, longer for what it is not likely to have. */
  expectedTime(bytes: number, root?: Link): number;
  /** Milliseconds after which an answer is late. */
  readonly late: number;
  /** Bytes a second, once measured. */
  readonly rate: number | undefined;
  /** Milliseconds since it has sent anything. */
  silence(): number;
  /** Starts a request of about `expected` bytes. One that waits for what the provider has to get itself measures nothing. */
  begin(expected: number, options: { patient: boolean }): Transfer;
  answered(had: number, missing: number): void;
  /** It does not answer, or fails. */
  quarantine(): void;
  failed(): void;
  /** It has answered: whatever was wrong with it is over. */
  recovered(): void;
  probing(): void;
  distrust(reason: string): void;
  status(): PeerStatus;
}

/** One request under way. */
export interface Transfer {
  /** Bytes have come. */
  received(bytes: number): void;
  end(): void;
}

const SMOOTHING = 0.25;
/** What is expected of a provider before anything is known of it: any machine of a LAN. */
const LATENCY = 2;
const RATE = 50e6;
/** A rate is measured over this much, or over so many milliseconds: less says more about latency. */
const SAMPLE_BYTES = 256 << 10;
const SAMPLE_MS = 500;
/** Requests of up to this many bytes tell the latency. */
const SMALL_BYTES = 64 << 10;
/** An answer is late after so many times the latency. */
const LATE = 4;
/** A provider that never had anything is still asked now and then. */
const LEAST_HOPE = 0.05;

/** @param onQuarantined whoever waits for it had better ask somebody else */
export function createPeer(provider: Provider, timing: Timing, onQuarantined: () => void): Peer {
  let latency: number | undefined;
  let rate: number | undefined;
  let expectedInFlight = 0;
  let active = 0;
  let heard = Number.NEGATIVE_INFINITY;
  let had = 0.5;
  let strikes = 0;
  let until: number | undefined;
  let probed = false;
  let distrusted: string | undefined;
  let sample = { bytes: 0, since: 0 };
  const counts = { requests: 0, bytes: 0, missing: 0, failures: 0 };

  function measure(bytes: number, silent: number): void {
    const now = performance.now();
    // Time without a request is nobody's fault.
    if (sample.since === 0) {
      sample = { bytes: 0, since: now };
      return;
    }
    // Nor does what it lacks say how fast it sends what it has.
    if (bytes === 0) {
      sample.since += Math.min(silent, now - sample.since);
      return;
    }
    sample.bytes += bytes;
    const elapsed = now - sample.since;
    if (elapsed <= 0 || (sample.bytes < SAMPLE_BYTES && elapsed < SAMPLE_MS)) return;
    rate = smooth(rate, (sample.bytes * 1000) / elapsed);
    sample = { bytes: 0, since: now };
  }

  function hope(root: Link | undefined): number {
    const holds = root === undefined ? 'unknown' : provider.holds(root);
    if (holds === 'all') return Math.max(had, 0.9);
    return Math.max(holds === 'part' ? had : had * 0.8, LEAST_HOPE);
  }

  const peer: Peer = {
    provider,
    tier: TIERS.indexOf(provider.tier ?? 'peer'),
    get trusted() {
      return distrusted === undefined && until === undefined;
    },
    get quarantined() {
      return until !== undefined;
    },
    get distrusted() {
      return distrusted;
    },
    get probeDue() {
      return until !== undefined && !probed && Date.now() >= until;
    },
    expectedTime(bytes, root) {
      const time = (latency ?? LATENCY) + ((expectedInFlight + bytes) * 1000) / (rate ?? RATE);
      return time / hope(root);
    },
    get late() {
      return Math.max(timing.hedge, LATE * (latency ?? 0));
    },
    get rate() {
      return rate;
    },
    silence: () => performance.now() - heard,
    begin(expected, { patient }) {
      const began = performance.now();
      let first = true;
      let left = expected;
      counts.requests += 1;
      expectedInFlight += expected;
      active += 1;
      return {
        received(bytes) {
          if (first && !patient && expected <= SMALL_BYTES)
            latency = smooth(latency, performance.now() - began);
          first = false;
          const silent = peer.silence();
          heard = performance.now();
          counts.bytes += bytes;
          const less = Math.min(left, bytes);
          left -= less;
          expectedInFlight -= less;
          if (!patient) measure(bytes, silent);
        },
        end() {
          expectedInFlight -= left;
          left = 0;
          active -= 1;
          if (active === 0) sample.since = 0;
        },
      };
    },
    answered(found, missing) {
      counts.missing += missing;
      if (found + missing > 0) had = smooth(had, found / (found + missing));
    },
    quarantine() {
      const serving = until !== undefined && Date.now() < until;
      if (distrusted !== undefined || serving) return;
      const length = Math.min(timing.quarantine * 2 ** strikes, timing.longestQuarantine);
      strikes += 1;
      until = Date.now() + length;
      probed = false;
      onQuarantined();
    },
    failed() {
      counts.failures += 1;
      peer.quarantine();
    },
    recovered() {
      strikes = 0;
      until = undefined;
      probed = false;
    },
    probing() {
      probed = true;
    },
    distrust(reason) {
      if (distrusted !== undefined) return;
      distrusted = reason;
      provider.distrust(reason);
      onQuarantined();
    },
    status: () => ({
      id: provider.id,
      name: provider.describe(),
      tier: provider.tier ?? 'peer',
      ...(latency !== undefined && { latency }),
      ...(rate !== undefined && { rate }),
      ...counts,
      ...(until !== undefined && { quarantinedUntil: until }),
      ...(distrusted !== undefined && { distrusted }),
    }),
  };
  return peer;
}

function smooth(known: number | undefined, measured: number): number {
  return known === undefined ? measured : known + SMOOTHING * (measured - known);
}
