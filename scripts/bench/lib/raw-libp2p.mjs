// What libp2p itself gives: bytes over one stream of noise and yamux, between two processes.
//   raw-libp2p.mjs serve FILE PORT        writes its address to FILE; answers a number with as many bytes
//   raw-libp2p.mjs fetch ADDRESS BYTES    prints the seconds from the request to the last byte
import { writeFileSync } from 'node:fs';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { randomBytes } from './random.mjs';

const PROTOCOL = '/lazytree/bench/1';
const CHUNK = 1 << 16;

const [, , role, where, number] = process.argv;
const node = await createLibp2p({
  addresses: { listen: role === 'serve' ? [`/ip4/0.0.0.0/tcp/${number}`] : [] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
});
if (role === 'serve') await serve();
else await fetchBytes();

async function serve() {
  const bytes = randomBytes(7)(CHUNK);
  await node.handle(PROTOCOL, async (stream) => {
    for await (const request of stream) {
      for (let left = Number(Buffer.from(request.subarray()).readDoubleLE()); left > 0; left -= CHUNK) {
        if (!stream.send(bytes.subarray(0, Math.min(left, CHUNK)))) await stream.onDrain();
      }
    }
  });
  writeFileSync(where, `/tcp/${number}/p2p/${node.peerId}`);
}

async function fetchBytes() {
  const stream = await node.dialProtocol(multiaddr(where), PROTOCOL);
  const wanted = Number(number);
  const request = Buffer.alloc(8);
  request.writeDoubleLE(wanted);
  let received = 0;
  const began = performance.now();
  stream.send(request);
  for await (const part of stream) {
    received += part.byteLength;
    if (received >= wanted) break;
  }
  process.stdout.write(`${(performance.now() - began) / 1000}\n`);
  await node.stop();
}
