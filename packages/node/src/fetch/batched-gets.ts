import { type BatchedRecord, type Link, linkDigest } from '@lazytree/core';
import type { Peer } from './peer.js';
import { type Answer, type KeepExtra, request } from './request.js';
import type { Verifier } from './verifier.js';

/** A block that somebody waits for, as a provider has sent it. */
export interface Delivered {
  content: Uint8Array;
  /** The whole record, and what it says. */
  bytes: Buffer;
  record: BatchedRecord;
}

export interface BatchedGets {
  /** Resolves to nothing when the provider does not have it. A signal that aborts cancels its part of the request. */
  get(
    peer: Peer,
    link: Link,
    options: { signal: AbortSignal; patience: number },
  ): Promise<Delivered | undefined>;
}

interface Waiting {
  link: Link;
  patience: number;
  settled: boolean;
  /** The request that it has become a part of. */
  batch?: Batch;
  resolve(delivered: Delivered | undefined): void;
  reject(error: unknown): void;
}

interface Batch {
  /** Parts that are waited for. */
  open: number;
  cancel: AbortController;
}

/** What a request asks for at the most. */
const MOST_LINKS = 1024;
/** Bytes that are expected of a block when nothing is known of it. */
export const TYPICAL_BYTES = 8 << 10;

/** Makes what is asked of a provider at about the same time one request. */
export function createBatchedGets(how: { verifier: Verifier; keepExtra: KeepExtra }): BatchedGets {
  const gathering = new Map<Peer, Waiting[]>();

  function sendAll(): void {
    for (const [peer, waiting] of gathering) {
      const wanted = waiting.filter(({ settled }) => !settled);
      for (let at = 0; at < wanted.length; at += MOST_LINKS) {
        void send(peer, wanted.slice(at, at + MOST_LINKS), how);
      }
    }
    gathering.clear();
  }

  return {
    get(peer, link, { signal, patience }) {
      const { promise, resolve, reject } = Promise.withResolvers<Delivered | undefined>();
      const settle = <T>(how: (value: T) => void) => {
        return (value: T) => {
          if (waiting.settled) return;
          waiting.settled = true;
          if (waiting.batch) waiting.batch.open -= 1;
          signal.removeEventListener('abort', onAbort);
          how(value);
        };
      };
      const waiting: Waiting = {
        link,
        patience,
        settled: false,
        resolve: settle(resolve),
        reject: settle(reject),
      };
      const onAbort = () => {
        waiting.reject(signal.reason);
        if (waiting.batch?.open === 0) waiting.batch.cancel.abort();
      };
      if (signal.aborted) return Promise.reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      const list = gathering.get(peer);
      if (list) list.push(waiting);
      else {
        if (gathering.size === 0) setImmediate(sendAll);
        gathering.set(peer, [waiting]);
      }
      return promise;
    },
  };
}

async function send(
  peer: Peer,
  all: readonly Waiting[],
  how: { verifier: Verifier; keepExtra: KeepExtra },
): Promise<void> {
  const batch = { open: all.length, cancel: new AbortController() };
  const byDigest = new Map<string, Waiting[]>();
  for (const waiting of all) {
    waiting.batch = batch;
    const digest = linkDigest(waiting.link);
    const same = byDigest.get(digest);
    if (same) same.push(waiting);
    else byDigest.set(digest, [waiting]);
  }
  const links = [...byDigest.values()].map(([{ link }]) => link);
  const options = {
    ...how,
    signal: batch.cancel.signal,
    urgent: true,
    expected: links.length * TYPICAL_BYTES,
    patience: Math.max(...all.map(({ patience }) => patience)),
  };
  try {
    for await (const answer of request(peer, links, options)) deliver(answer, byDigest);
  } catch (error) {
    for (const { reject } of all) reject(error);
  }
}

function deliver(answer: Answer, byDigest: ReadonlyMap<string, Waiting[]>): void {
  answer.records.forEach((record, index) => {
    const waiting = byDigest.get(record.digest) ?? [];
    if (waiting.every(({ settled }) => settled)) return;
    const bytes = answer.bytes.subarray(record.offset, record.end);
    const delivered = { content: answer.content(index), bytes, record: { ...record, offset: 0 } };
    for (const { resolve } of waiting) resolve(delivered);
  });
  for (const link of answer.missing) {
    for (const { resolve } of byDigest.get(linkDigest(link)) ?? []) resolve(undefined);
  }
}
