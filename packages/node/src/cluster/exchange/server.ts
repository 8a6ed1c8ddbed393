import { LazytreeError } from '@lazytree/core';
import type { Connection, Stream } from '@libp2p/interface';
import { messageStream } from '../message-stream.js';
import { createRateLimit, type RateLimit } from '../rate-limit.js';
import type { Traffic } from '../traffic.js';
import type { Answering } from './answers.js';
import { encodeAnswer } from './encode-answer.js';
import { Request } from './exchange.js';
import { REFS, REQUEST_BURST, REQUEST_BYTES, REQUESTS_PER_SECOND } from './limits.js';

export interface ServeOptions {
  /** Resolves when the connection's peer has proved that it is a member; rejects when it does not. */
  admitted(connection: Connection): Promise<{ peer: string; traffic: Traffic }>;
  answer: Answering;
  onBadRequest(peer: string, error: Error): void;
}

/** The answering end of the exchange: handles each stream that a peer opens, request after request. */
export function createExchangeServer({ admitted, answer, onBadRequest }: ServeOptions) {
  const limits = new WeakMap<Connection, RateLimit>();

  function limitOf(connection: Connection): RateLimit {
    const limit =
      limits.get(connection) ?? createRateLimit({ perSecond: REQUESTS_PER_SECOND, burst: REQUEST_BURST });
    limits.set(connection, limit);
    return limit;
  }

  return async (stream: Stream, connection: Connection): Promise<void> => {
    let peer: string;
    let traffic: Traffic;
    try {
      ({ peer, traffic } = await admitted(connection));
    } catch {
      // Whoever is no member learns nothing, not even why.
      stream.abort(new Error('refused'));
      return;
    }
    const messages = messageStream(stream, { limit: REQUEST_BYTES, traffic });
    const signal = messages.ended;
    try {
      for (;;) {
        const bytes = await messages.receive(signal);
        if (!bytes) break;
        await limitOf(connection).take(signal);
        const request = decode(bytes);
        for await (const part of answer(request, { peer, signal })) {
          await messages.send(encodeAnswer(part), signal);
        }
        await messages.send(encodeAnswer({ end: true }), signal);
      }
      await messages.close();
    } catch (error) {
      if (!signal.aborted) {
        onBadRequest(peer, error as Error);
        messages.abort((error as Error).message);
      }
    }
  };
}

function decode(bytes: Buffer): Request {
  try {
    return Request.decode(bytes, { limits: { announce: { refs: REFS } } });
  } catch (cause) {
    throw new LazytreeError('NETWORK', 'a request that is none', { cause });
  }
}
