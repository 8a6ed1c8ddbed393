import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify } from '@libp2p/identify';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { afterwards } from '../helpers.ts';
import { HERE } from './network.ts';

/**
 * Somebody on the LAN who speaks libp2p, is in no cluster, and keeps to no rule: opens what it likes, sends what it
 * likes, and takes down all that comes back.
 */
export interface Hostile {
  id: string;
  /** Where it can be dialled. */
  addresses: string[];
  /** Connects, or uses the connection that there is, and opens a stream. Throws when it does not get one. */
  open(address: string, protocol: string): Promise<Line>;
  /** What a node says that it speaks, once connected. */
  protocols(address: string): Promise<string[]>;
  /** Answers streams that others open. */
  serve(protocol: string, answer: (line: Line) => void): Promise<void>;
  /** Peers that it is connected to. */
  connected(): string[];
  close(): Promise<void>;
}

/** A stream, with all that has come over it. */
export interface Line {
  /** Resolves when more may be sent. @throws when the stream is closed */
  send(bytes: Uint8Array): Promise<void>;
  received(): Buffer;
  /** Calls back with what comes from now on, what has come before at first. */
  listen(heard: (bytes: Buffer) => void): void;
  /** Says that nothing more will be sent. */
  finish(): Promise<void>;
  isOpen(): boolean;
  /** How it ended: `closed` when both sides had said all, otherwise `reset` or `aborted`. */
  closed: Promise<string>;
}

type Libp2p = Awaited<ReturnType<typeof createLibp2p>>;
type Stream = Awaited<ReturnType<Libp2p['dialProtocol']>>;

export async function createHostile(): Promise<Hostile> {
  const node = await createLibp2p({
    addresses: { listen: [`/ip4/${HERE}/tcp/0`] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    // More streams at once than anybody needs.
    streamMuxers: [yamux({ maxOutboundStreams: 100_000, maxInboundStreams: 100_000 })],
    services: { identify: identify() },
  });
  afterwards(() => node.stop());
  const connection = (address: string) =>
    node.dial(multiaddr(address), { signal: AbortSignal.timeout(10_000) });
  return {
    id: node.peerId.toString(),
    addresses: node.getMultiaddrs().map(String),
    async open(address, protocol) {
      const stream = await (await connection(address)).newStream(protocol, {
        signal: AbortSignal.timeout(10_000),
        maxOutboundStreams: 100_000,
      });
      return takeDown(stream);
    },
    async protocols(address) {
      const { remotePeer } = await connection(address);
      for (let tries = 0; tries < 50; tries++) {
        const { protocols } = await node.peerStore.get(remotePeer);
        if (protocols.length > 0) return protocols;
        await sleep(100);
      }
      return [];
    },
    async serve(protocol, answer) {
      await node.handle(protocol, (stream) => answer(takeDown(stream)), { maxInboundStreams: 100_000 });
    },
    connected: () => node.getPeers().map(String),
    close: async () => node.stop(),
  };
}

function takeDown(stream: Stream): Line {
  const parts: Buffer[] = [];
  const listeners: ((bytes: Buffer) => void)[] = [];
  stream.addEventListener('message', ({ data }) => {
    const bytes = Buffer.from(data.subarray());
    parts.push(bytes);
    for (const heard of listeners) heard(bytes);
  });
  const closed = new Promise<string>((resolve) => {
    // It may have been closed before anybody could listen.
    if (stream.status !== 'open') resolve(stream.status);
    stream.addEventListener('close', () => resolve(stream.status));
  });
  return {
    async send(bytes) {
      if (!stream.send(bytes)) await stream.onDrain({ signal: AbortSignal.timeout(10_000) });
    },
    received: () => Buffer.concat(parts),
    listen(heard) {
      for (const part of parts) heard(part);
      listeners.push(heard);
    },
    finish: () => stream.close({ signal: AbortSignal.timeout(10_000) }),
    isOpen: () => stream.status === 'open',
    closed,
  };
}

/** A message with its length before it, as libp2p's protocols send theirs. */
export function framed(bytes: Uint8Array): Buffer {
  return Buffer.concat([varint(bytes.length), bytes]);
}

export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

/** Sends bytes to a TCP port, and returns what comes back until the other side ends it, or says nothing for 2 s. */
export async function shout(host: string, port: number, bytes: Uint8Array): Promise<Buffer> {
  const socket = connect({ host, port });
  const parts: Buffer[] = [];
  socket.on('data', (part) => parts.push(part));
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.setTimeout(2000, () => socket.destroy());
  socket.write(bytes);
  await new Promise((resolve) => socket.on('close', resolve));
  return Buffer.concat(parts);
}
