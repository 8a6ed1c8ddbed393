import type { Link } from '@lazytree/core';
import type { Parcel, Provider } from '../../fetch/provider.js';
import type { ExchangeClient } from './client.js';
import { HAVE_ROOTS, LINKS } from './limits.js';
import { decodeLinks, encodeLinks } from './link-list.js';

export interface PeerProviderOptions {
  /** The peer id. */
  id: string;
  client: ExchangeClient;
  describe(): string;
  holds(root: Link): 'all' | 'part' | 'unknown';
  distrust(reason: string): void;
  /** A tree's files in the order in which they were first read there. */
  onOrder(root: Link, order: readonly Link[]): void;
}

/** A member of the cluster as somewhere to fetch from. */
export function peerProvider(options: PeerProviderOptions): Provider {
  const { id, client, describe, holds, distrust, onOrder } = options;
  return {
    id,
    describe,
    holds,
    distrust,
    async *get(links, { signal, urgent, patient = false }) {
      for (let at = 0; at < links.length; at += LINKS) {
        const part = links.slice(at, at + LINKS);
        const request = { get: { links: encodeLinks(part), urgent, patient } };
        for await (const answer of client.ask(request, { signal, urgent }))
          yield* parcelOf(answer, part.length);
      }
    },
    async *tree(root, { have, content = 0, signal }) {
      const known = encodeLinks(have.slice(0, HAVE_ROOTS));
      const request = { tree: { root: encodeLinks([root]), have: known, content } };
      for await (const answer of client.ask(request, { signal, urgent: true })) {
        if (answer.order.length > 0) onOrder(root, decodeLinks(answer.order, ORDER_LINKS));
        yield* parcelOf(answer, LINKS);
      }
    },
  };
}

/** As long as an order ever is: see prefetch/access-order.ts. */
const ORDER_LINKS = 200_000;

function* parcelOf(
  { records, missing }: { records: Uint8Array; missing: Uint8Array },
  most: number,
): Generator<Parcel> {
  if (records.length + missing.length === 0) return;
  yield {
    records: Buffer.from(records.buffer, records.byteOffset, records.length),
    // Of a message, of which all else has been decoded.
    exclusive: true,
    missing: decodeLinks(missing, most),
  };
}
