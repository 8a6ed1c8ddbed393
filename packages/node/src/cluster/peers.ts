import type { Link } from '@lazytree/core';
import type { Provider } from '../fetch/provider.js';
import { createExchangeClient, type ExchangeClient } from './exchange/client.js';
import type { Announce } from './exchange/exchange.js';
import { decodeLinks } from './exchange/link-list.js';
import { peerProvider } from './exchange/peer-provider.js';
import type { Connection } from './network.js';
import { isPeerName } from './refs/signed-ref.js';
import type { Traffic } from './traffic.js';

/** How often a connected peer is asked whether it is there, and how long it may take to say so. */
const PING_MS = 5000;
const ANSWER_MS = 10_000;
/** Of the newest measurement in a latency. */
const NEW_SHARE = 0.3;
/** Roots that a peer may say it has. */
const ROOTS = 4096;
const ADDRESSES = 32;

export interface PeerStatus {
  id: string;
  name: string;
  addresses: string[];
  connected: boolean;
  /** Milliseconds that a request takes there and back; null where that is not known. */
  latency: number | null;
  /** Roots of which it says that it has everything. */
  roots: number;
  /** Bytes of messages. */
  sent: number;
  received: number;
  /** Why it is never to be asked again. */
  distrusted?: string;
}

export interface Peer {
  readonly id: string;
  /** Asks for something; @throws LazytreeError NETWORK when it is not connected */
  client(): ExchangeClient | undefined;
  status(): PeerStatus;
  /** For people. */
  describe(): string;
  traffic: Traffic;
}

export interface PeersOptions {
  /** A peer can be fetched from, until the function returned is called. */
  join(provider: Provider): () => void;
  /** A member has connected, or is there again. */
  onConnected(peer: Peer): void;
  onLost(peer: Peer): void;
  onDistrusted(peer: Peer, reason: string): void;
  onOrder(root: Link, order: readonly Link[]): void;
}

export interface Peers {
  /** A connection whose peer has proved that it is a member. */
  add(connection: Connection): void;
  remove(connection: Connection): void;
  get(id: string): Peer | undefined;
  list(): Peer[];
  connected(): Peer[];
  /** Those that are members, as far as is known, and not connected. */
  away(): Peer[];
  /** What the table knew when it was last written. */
  remember(id: string, known: { name: string; addresses: string[] }): void;
  announced(id: string, announce: Announce): void;
  /** It is a member no more. */
  forget(id: string): void;
  isDistrusted(id: string): boolean;
  close(): void;
}

interface Entry extends Peer {
  name: string;
  addresses: string[];
  connections: Connection[];
  link?:
    | { connection: Connection; client: ExchangeClient; withdraw(): void; ping: NodeJS.Timeout }
    | undefined;
  latency: number | null;
  complete: Set<Link>;
  partial: Set<Link>;
  distrusted?: string;
}

export function createPeers(options: PeersOptions): Peers {
  const entries = new Map<string, Entry>();

  function entryOf(id: string): Entry {
    const known = entries.get(id);
    if (known) return known;
    const entry: Entry = {
      id,
      name: id.slice(-8),
      addresses: [],
      connections: [],
      latency: null,
      traffic: { sent: 0, received: 0 },
      complete: new Set(),
      partial: new Set(),
      client: () => entry.link?.client,
      describe: () => `peer ${entry.name} (${id.slice(-8)})`,
      status: () => ({
        id,
        name: entry.name,
        addresses: entry.addresses,
        connected: entry.link !== undefined,
        latency: entry.latency === null ? null : Math.round(entry.latency * 100) / 100,
        roots: entry.complete.size,
        ...entry.traffic,
        ...(entry.distrusted === undefined ? {} : { distrusted: entry.distrusted }),
      }),
    };
    entries.set(id, entry);
    return entry;
  }

  /** Takes the first connection that there is into use. */
  function use(entry: Entry): void {
    const [connection] = entry.connections;
    if (entry.link?.connection === connection) return;
    const before = entry.link;
    if (before) {
      clearInterval(before.ping);
      before.withdraw();
      before.client.close();
      entry.link = undefined;
    }
    if (!connection) {
      if (before) {
        entry.partial.clear();
        options.onLost(entry);
      }
      return;
    }
    const client = createExchangeClient(connection, entry.traffic);
    const withdraw = options.join(
      peerProvider({
        id: entry.id,
        client,
        describe: entry.describe,
        holds: (root) => (entry.complete.has(root) ? 'all' : entry.partial.has(root) ? 'part' : 'unknown'),
        distrust: (reason) => distrust(entry, reason),
        onOrder: options.onOrder,
      }),
    );
    const ping = setInterval(() => void measure(entry, connection, client), PING_MS).unref();
    entry.link = { connection, client, withdraw, ping };
    void measure(entry, connection, client);
    options.onConnected(entry);
  }

  async function measure(entry: Entry, connection: Connection, client: ExchangeClient): Promise<void> {
    const began = performance.now();
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      for await (const _ of client.ask({ have: { links: new Uint8Array() } }, { signal, urgent: true })) {
        // It has nothing to say but that it is there.
      }
      const took = performance.now() - began;
      entry.latency = entry.latency === null ? took : entry.latency * (1 - NEW_SHARE) + took * NEW_SHARE;
    } catch {
      // Whoever is silent for so long is gone, whatever TCP thinks of it.
      connection.abort(new Error('silent'));
    }
  }

  function distrust(entry: Entry, reason: string): void {
    if (entry.distrusted !== undefined) return;
    entry.distrusted = reason;
    for (const connection of entry.connections.splice(0)) connection.abort(new Error('distrusted'));
    use(entry);
    options.onDistrusted(entry, reason);
  }

  return {
    add(connection) {
      const entry = entryOf(connection.remotePeer.toString());
      if (entry.distrusted !== undefined) {
        connection.abort(new Error('distrusted'));
        return;
      }
      if (connection.status !== 'open') return;
      entry.connections.push(connection);
      use(entry);
    },
    remove(connection) {
      const entry = entries.get(connection.remotePeer.toString());
      if (!entry) return;
      entry.connections = entry.connections.filter((one) => one !== connection);
      use(entry);
    },
    get: (id) => entries.get(id),
    list: () => [...entries.values()],
    away: () => [...entries.values()].filter(({ link, distrusted }) => !link && distrusted === undefined),
    connected: () => [...entries.values()].filter(({ link }) => link),
    remember(id, { name, addresses }) {
      Object.assign(entryOf(id), { name, addresses });
    },
    announced(id, { name, complete, partial, addresses }) {
      const entry = entryOf(id);
      if (isPeerName(name)) entry.name = name;
      entry.complete = new Set(decodeLinks(complete, ROOTS));
      entry.partial = new Set(decodeLinks(partial, ROOTS));
      entry.addresses = addresses.slice(0, ADDRESSES).filter((address) => address.length < 256);
    },
    forget(id) {
      const entry = entries.get(id);
      if (!entry) return;
      for (const connection of entry.connections.splice(0))
        void connection.close().catch(() => connection.abort(new Error('left')));
      use(entry);
      entries.delete(id);
    },
    isDistrusted: (id) => entries.get(id)?.distrusted !== undefined,
    close() {
      for (const entry of entries.values()) {
        entry.connections = [];
        use(entry);
      }
    },
  };
}
