import { type Link, linkDigest, UntrueRecordError } from '@lazytree/core';
import type { Peer } from './peer.js';
import type { HashedNode, Parcel } from './provider.js';
import type { Verified, Verifier } from './verifier.js';

/** A part of an answer, found true: whole records, and what the provider does not have. */
export interface Answer extends Verified {
  missing: readonly Link[];
  /** See {@link Parcel.nodes}. */
  nodes: readonly HashedNode[];
}

export interface RequestOptions {
  verifier: Verifier;
  /** Keeps what nobody asked for, found true. */
  keepExtra: KeepExtra;
  signal: AbortSignal;
  urgent: boolean;
  patient?: boolean;
  /** Bytes that are likely to come. */
  expected: number;
  /** Milliseconds after which it has failed if the provider has sent nothing, at first and later. */
  patience: number;
  stall?: number;
}

/** Resolves when it is kept, or cannot be. */
export type KeepExtra = (extra: Verified) => Promise<unknown>;

/** What a provider has sent is not what it was asked for: see {@link Peer.distrust}. */
export class LieError extends Error {}

/**
 * Asks a provider for blocks. Ends when there is an answer for each of them; a provider that lies is distrusted, one
 * that fails goes into quarantine, and whoever asked gets an error.
 */
export async function* request(
  peer: Peer,
  links: readonly Link[],
  options: RequestOptions,
): AsyncGenerator<Answer> {
  const { provider } = peer;
  const { urgent, patient = false } = options;
  const waiting = new Set(links.map(linkDigest));
  const asked = (signal: AbortSignal) => provider.get(links, { signal, urgent, patient });
  for await (const answer of answers(peer, asked, options)) {
    for (const digest of digestsIn(answer)) {
      if (!waiting.delete(digest)) throw lied(peer, 'it has sent a block that it was not asked for');
    }
    peer.answered(answer.records.length, answer.missing.length);
    yield answer;
  }
  if (waiting.size === 0) return;
  peer.failed();
  throw new Error(`it has answered for ${links.length - waiting.size} blocks of ${links.length}`);
}

function* digestsIn({ records, missing }: Answer): Generator<string> {
  for (const { digest } of records) yield digest;
  for (const link of missing) yield linkDigest(link);
}

/** Makes a provider a liar, and returns the error to be thrown. */
export function lied(peer: Peer, reason: string): LieError {
  peer.distrust(reason);
  return new LieError(reason);
}

/** What comes from a provider, checked and counted, until it ends or `signal` aborts or nothing comes for long. */
export async function* answers(
  peer: Peer,
  ask: (signal: AbortSignal) => AsyncIterable<Parcel>,
  { verifier, keepExtra, signal, patient = false, expected, patience, stall = patience }: RequestOptions,
): AsyncGenerator<Answer> {
  signal.throwIfAborted();
  const cancel = new AbortController();
  const ended = Promise.withResolvers<never>();
  ended.promise.catch(() => undefined);
  const stop = (reason: unknown) => {
    ended.reject(reason);
    cancel.abort(reason);
  };
  const onAbort = () => stop(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const transfer = peer.begin(expected, { patient });
  const parcels = ask(cancel.signal)[Symbol.asyncIterator]();
  let timer: NodeJS.Timeout | undefined;
  let limit = patience;
  const giveUp = () => {
    const left = limit - peer.silence();
    // What it sends for other requests may be what it sends first.
    if (left > 0) timer = setTimeout(giveUp, left);
    else stop(new Error(`no answer within ${limit / 1000} s`));
  };
  try {
    for (;;) {
      timer = setTimeout(giveUp, limit);
      // A provider that does not listen to the signal holds nobody up.
      const next = await Promise.race([parcels.next(), ended.promise]);
      clearTimeout(timer);
      if (next.done) return;
      const { records: bytes, exclusive, hashed = false, missing, extra, nodes = [] } = next.value;
      if (extra && !peer.provider.generous) throw lied(peer, 'it has sent blocks that nobody asked for');
      const ofNodes = nodes.reduce((sum, node) => sum + node.bytes.length, 0);
      transfer.received(bytes.length + (extra?.length ?? 0) + ofNodes);
      const verified = await check(peer, bytes, { verifier, hashed, exclusive });
      signal.throwIfAborted();
      peer.recovered();
      yield { ...verified, missing, nodes };
      // Whoever waits for what they asked for does not wait for this.
      if (extra) await keepExtra(await check(peer, extra, { verifier, hashed }));
      limit = stall;
    }
  } catch (error) {
    if (!(error instanceof LieError) && !signal.aborted) peer.failed();
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    transfer.end();
    cancel.abort();
    parcels.return?.().catch(() => undefined);
  }
}

async function check(
  peer: Peer,
  bytes: Buffer,
  { verifier, hashed, exclusive }: { verifier: Verifier; hashed: boolean; exclusive?: boolean | undefined },
): Promise<Verified> {
  try {
    if (hashed) return verifier.accept(bytes);
    return await verifier.verify(bytes, exclusive);
  } catch (error) {
    if (error instanceof UntrueRecordError) throw lied(peer, `it has sent a bad record: ${error.message}`);
    throw error;
  }
}
