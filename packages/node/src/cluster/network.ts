import { noise } from '@chainsafe/libp2p-noise';
import { LazytreeError } from '@lazytree/core';
import { identify } from '@libp2p/identify';
import type { Connection, Libp2p, PrivateKey } from '@libp2p/interface';
import { mdns } from '@libp2p/mdns';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';
import { cannotListen } from './check-addresses.js';
import { createNoiseCrypto } from './noise-crypto.js';

/** Machines of a cluster, and those that would be: more are turned away. */
const CONNECTIONS = 512;
const PENDING = 64;
/** New connections of one address in a second. */
const PER_SECOND = 50;
/** A stream may have so many bytes on the way: at 250 MB/s, what 16 ms need. */
const WINDOW = 4 << 20;
const DISCOVERY_MS = 5000;

export interface NetworkOptions {
  identity: PrivateKey;
  /** Multiaddrs to listen on. */
  listen: readonly string[];
  /** By which members find each other with multicast DNS; without it, nobody is looked for. */
  discovery?: string;
  version: string;
}

export type Network = Libp2p;
export type { Connection };

/**
 * TCP, noise, yamux, identify and multicast DNS. `prepare` is waited for before anybody can connect.
 * @throws LazytreeError when it cannot listen there
 */
export async function openNetwork(
  { identity, listen, discovery, version }: NetworkOptions,
  prepare?: (network: Network) => Promise<void>,
): Promise<Network> {
  try {
    const network = await createLibp2p({
      start: false,
      privateKey: identity,
      nodeInfo: { name: 'lazytree', version, userAgent: `lazytree/${version}` },
      addresses: { listen: [...listen] },
      transports: [tcp()],
      connectionEncrypters: [noise({ crypto: createNoiseCrypto() })],
      streamMuxers: [
        yamux({ streamOptions: { maxStreamWindowSize: WINDOW, maxReadBufferLength: 2 * WINDOW } }),
      ],
      peerDiscovery: discovery === undefined ? [] : [mdns({ serviceTag: discovery, interval: DISCOVERY_MS })],
      services: { identify: identify() },
      connectionManager: {
        maxConnections: CONNECTIONS,
        maxIncomingPendingConnections: PENDING,
        inboundConnectionThreshold: PER_SECOND,
        dialTimeout: 5000,
        // The peers here are dialled again by peer-dialer.ts.
        reconnectRetries: 0,
      },
      // Members tell whether they are there with every request: see peers.ts.
      connectionMonitor: { enabled: false },
    });
    await prepare?.(network);
    await network.start();
    return network;
  } catch (error) {
    throw error instanceof LazytreeError ? error : cannotListen(listen.join(', '), error);
  }
}
