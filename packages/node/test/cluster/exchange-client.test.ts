import { noise } from '@chainsafe/libp2p-noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';
import { expect, onTestFinished, test } from 'vitest';
import { createExchangeClient } from '../../src/cluster/exchange/client.js';
import type { Answer } from '../../src/cluster/exchange/exchange.js';
import { EXCHANGE, STREAMS } from '../../src/cluster/exchange/limits.js';
import { createExchangeServer } from '../../src/cluster/exchange/server.js';

async function createNode(listen: string[]) {
  const node = await createLibp2p({
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
  });
  onTestFinished(() => node.stop());
  return node;
}

test('requests go over the streams that those before them have opened', async () => {
  const [served, asking] = [await createNode(['/ip4/127.0.0.1/tcp/0']), await createNode([])];
  const traffic = { sent: 0, received: 0 };
  const serve = createExchangeServer({
    admitted: async () => ({ peer: 'p', traffic }),
    async *answer(): AsyncGenerator<Partial<Answer>> {
      yield { resolved: new Uint8Array(33) };
    },
    onBadRequest(_, error) {
      throw error;
    },
  });
  let opened = 0;
  await served.handle(
    EXCHANGE,
    (stream, connection) => {
      opened += 1;
      return serve(stream, connection);
    },
    { maxInboundStreams: STREAMS },
  );
  const client = createExchangeClient(await asking.dial(served.getMultiaddrs()), traffic);
  const { signal } = new AbortController();
  const ask = async () => {
    const answers: Answer[] = [];
    for await (const answer of client.ask({ resolve: { reference: 'r', integrity: 'i' } }, { signal }))
      answers.push(answer);
    return answers.length;
  };
  const together = (count: number) => Promise.all(Array.from({ length: count }, ask));
  // As after the proof of membership, both ends have the connection.
  await ask();
  expect(await together(2 * STREAMS)).toEqual(Array.from({ length: 2 * STREAMS }, () => 2));
  expect(opened).toBeLessThanOrEqual(STREAMS);
  const before = opened;
  for (let round = 0; round < 3; round++) await together(before);
  expect(opened).toBe(before);
  client.close();
});
