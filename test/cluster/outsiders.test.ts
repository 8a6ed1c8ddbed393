import { createHmac, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { linkCodec, linkDigest, parseLink } from '@lazytree/core';
import { membershipFile } from '@lazytree/node/home-directory';
import { beforeAll, describe, expect, test } from 'vitest';
import { createHostile, framed, type Hostile, type Line, shout, varint } from './hostile.ts';
import { HERE, unlessNetworked } from './network.ts';
import { addNode, connectedPeers, ends, eventually, formCluster, type Node } from './nodes.ts';
import { importFiles } from './trees.ts';

const EXCHANGE = '/lazytree/exchange/1';
const MEMBERSHIP = '/lazytree/membership/1';
const NETWORK = 7;
const REFUSED = 8;
/** What only members may know; it is told by these words wherever it turns up. */
const SECRET = 'what only members may know';

/** A field of a protobuf message that has a length. */
const field = (number: number, bytes: Uint8Array) =>
  Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);

/** Requests of docs/exchange.md that a member would be answered. */
function requests(root: string): Buffer[] {
  const parsed = parseLink(root);
  const link = Buffer.concat([Buffer.of(linkCodec(parsed)), Buffer.from(linkDigest(parsed), 'latin1')]);
  const bodies = [
    field(1, field(1, link)),
    field(2, field(1, link)),
    field(3, field(1, link)),
    field(5, field(1, Buffer.from('secret'))),
  ];
  return bodies.map(framed);
}

/** What a proof of membership is made of: docs/security.md. */
function authenticate(key: Buffer, purpose: string, parts: readonly (Uint8Array | string)[]): Buffer {
  const mac = createHmac('sha256', key).update(`lazytree ${purpose} 1\n`);
  for (const part of parts) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Buffer.from(part as Uint8Array).length);
    mac.update(length).update(part);
  }
  return mac.digest();
}

/** An address of a node on the LAN, with its id. */
async function addressOf(node: Node): Promise<string> {
  const { self } = await node.peers();
  const found = self.addresses.find((address) => address.includes(`/ip4/${node.machine.address}/tcp/`));
  if (!found) throw new Error(`${node.name} listens nowhere on the LAN: ${self.addresses}`);
  return found.includes('/p2p/') ? found : `${found}/p2p/${self.id}`;
}

function portOf(address: string): number {
  return Number(/\/tcp\/(\d+)/.exec(address)?.[1]);
}

/** The most memory that a node's daemon has taken so far, in bytes. */
function mostMemory(node: Node): number {
  const status = fs.readFileSync(`/proc/${node.daemon().pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

describe.skipIf(unlessNetworked('outsiders'))('outsiders', () => {
  let anna: Node;
  let bert: Node;
  let root: string;
  let address: string;
  let mallory: Hostile;

  beforeAll(async () => {
    [anna, bert] = await formCluster(['anna', 'bert']);
    root = await importFiles(anna, { secret: `${SECRET}\n` }, 'secret');
    address = await addressOf(anna);
    mallory = await createHostile();
  });

  /** Opens a stream if that is allowed, says things, and waits for what comes of it. */
  async function tell(protocol: string, messages: readonly Uint8Array[], patience = 1500): Promise<Buffer> {
    let line: Line;
    try {
      line = await mallory.open(address, protocol);
      for (const message of messages) await line.send(message);
    } catch {
      // Refused: that is an answer with nothing in it.
      return Buffer.alloc(0);
    }
    await Promise.race([line.closed, sleep(patience)]);
    return line.received();
  }

  async function expectUnharmed(): Promise<void> {
    expect(await bert.ok('cat', 'secret@anna/secret')).toBe(SECRET);
    expect(await connectedPeers(anna)).toContain('bert');
    const members = (await anna.peers()).peers.filter(({ connected }) => connected);
    expect(members.map(({ name }) => name)).toEqual(['bert']);
  }

  test('who proves nothing gets no answer', async () => {
    expect(await mallory.protocols(address)).toContain(MEMBERSHIP);
    for (const message of [...requests(root), Buffer.alloc(0), framed(randomBytes(40))]) {
      expect(await tell(EXCHANGE, [message])).toHaveLength(0);
    }
    await expectUnharmed();
  });

  test('who has the key gets answers to the same requests', async () => {
    const { key } = JSON.parse(fs.readFileSync(membershipFile(anna.home), 'utf8'));
    const insider = await createHostile();
    // Who cannot be asked anything is no peer.
    await insider.serve(EXCHANGE, () => undefined);
    const proving = await insider.open(address, MEMBERSHIP);
    const nonce = randomBytes(32);
    await proving.send(framed(field(1, nonce)));
    await eventually('a challenge', () => proving.received().length === 35);
    const theirs = proving.received().subarray(3);
    const { id } = (await anna.peers()).self;
    const parts = [nonce, theirs, insider.id, id];
    const proof = authenticate(Buffer.from(key, 'base64'), 'membership dialer', parts);
    await proving.send(framed(field(1, proof)));
    await eventually('a proof', () => proving.received().length === 70);
    for (const request of requests(root)) {
      const line = await insider.open(address, EXCHANGE);
      await line.send(request);
      await eventually('an answer', () => line.received().length > 0);
    }
    await insider.close();
    await eventually('it is away', async () => (await connectedPeers(anna)).join() === 'anna,bert');
  });

  test('who proves nonsense is not believed', async () => {
    for (const message of [
      framed(Buffer.alloc(32)),
      framed(randomBytes(64)),
      randomBytes(500),
      varint(2 ** 40),
    ]) {
      expect((await tell(MEMBERSHIP, [message])).length).toBeLessThan(200);
      expect(await tell(EXCHANGE, requests(root))).toHaveLength(0);
    }
    await expectUnharmed();
  });

  test('who hands on what members prove to each other has proved nothing', async () => {
    const between = await createHostile();
    let handedOn = 0;
    const handOn = (from: Line, to: Line) =>
      from.listen((bytes) => {
        handedOn += bytes.length;
        // One that has been closed hears nothing.
        to.send(bytes).catch(() => undefined);
      });
    // Bert dials it, and all that he says is said to anna, and the other way round.
    await between.serve(MEMBERSHIP, async (victim) => {
      const other = await between.open(address, MEMBERSHIP);
      handOn(victim, other);
      handOn(other, victim);
    });
    await bert.stop();
    await bert.start(['--peer', between.addresses[0]]);
    await eventually('what they said was handed on', () => handedOn >= 64 || handedOn);
    await sleep(1000);
    for (const to of [address, await addressOf(bert)]) {
      const line = await between.open(to, EXCHANGE).catch(() => undefined);
      for (const request of requests(root)) await line?.send(request).catch(() => undefined);
      await sleep(500);
      expect(line?.received() ?? Buffer.alloc(0)).toHaveLength(0);
    }
    await eventually('they see each other', async () => (await connectedPeers(bert)).includes('anna'));
    await expectUnharmed();
    await bert.stop();
    await bert.start();
    await between.close();
  });

  test('who says to a member what it has said itself has proved nothing', async () => {
    const mirror = await createHostile();
    const line = await mirror.open(address, MEMBERSHIP);
    // A challenge, as a member's is: a field of 32 bytes.
    const challenge = framed(Buffer.concat([Buffer.of(0x0a, 32), randomBytes(32)]));
    await line.send(challenge);
    await eventually('an answer', () => line.received().length > 0);
    const answer = line.received();
    await line.send(answer);
    await Promise.race([line.closed, sleep(2000)]);
    // A challenge in turn, and then nothing.
    expect(line.received().length).toBe(answer.length);
    const after = await mirror.open(address, EXCHANGE).catch(() => undefined);
    for (const request of requests(root)) await after?.send(request).catch(() => undefined);
    await sleep(500);
    expect(after?.received() ?? Buffer.alloc(0)).toHaveLength(0);
    await mirror.close();
    await expectUnharmed();
  });

  test('garbage, and connections that say nothing, harm nobody', async () => {
    const port = portOf(address);
    expect((await shout(anna.machine.address, port, randomBytes(1 << 20))).length).toBeLessThan(1000);
    expect(
      (await shout(anna.machine.address, port, Buffer.from('GET / HTTP/1.1\r\n\r\n'))).length,
    ).toBeLessThan(1000);
    const silent = Array.from({ length: 300 }, () =>
      connect({ host: anna.machine.address, port }).on('error', () => undefined),
    );
    await sleep(500);
    await expectUnharmed();
    for (const socket of silent) socket.destroy();
  });

  test('frames that are too large are not waited for, and not kept', async () => {
    const before = mostMemory(anna);
    const megabyte = Buffer.alloc(1 << 20);
    for (const protocol of [MEMBERSHIP, EXCHANGE]) {
      for (const size of [2 ** 31, 2 ** 53, 100 << 20]) {
        expect((await tell(protocol, [varint(size), ...Array(64).fill(megabyte)])).length).toBeLessThan(200);
      }
    }
    expect((mostMemory(anna) - before) / 2 ** 20).toBeLessThan(100);
    await expectUnharmed();
  });

  test('floods of streams are cut off, while members are served', async () => {
    const before = mostMemory(anna);
    let opened = 0;
    for (const protocol of [MEMBERSHIP, EXCHANGE]) {
      const lines = Array.from({ length: 3000 }, async () => {
        const line = await mallory.open(address, protocol);
        opened++;
        await line.send(Buffer.of(255));
      });
      const all = Promise.allSettled(lines);
      const began = performance.now();
      await expectUnharmed();
      expect(performance.now() - began).toBeLessThan(15_000);
      await all;
    }
    expect((mostMemory(anna) - before) / 2 ** 20, `with ${opened} streams`).toBeLessThan(150);
    await expectUnharmed();
  });
});

describe.skipIf(unlessNetworked('other clusters'))('members of nothing, or of another cluster', () => {
  let anna: Node;
  let carl: Node;
  let root: string;

  beforeAll(async () => {
    [anna, carl] = await Promise.all([addNode('anna'), addNode('carl')]);
    await anna.ok('cluster', 'init');
    root = await importFiles(anna, { secret: `${SECRET}\n` }, 'secret');
  });

  test('a token is good for as long as it says, and as it was given', async () => {
    const expired = await anna.ok('cluster', 'invite', '--for', '1s');
    const token = await anna.ok('cluster', 'invite', '--for', '10m');
    await sleep(1500);
    // In the secret, which is followed by the cluster's id alone.
    const wrong = [...token];
    wrong[wrong.length - 44] = wrong.at(-44) === 'a' ? 'b' : 'a';
    for (const bad of [expired, wrong.join(''), 'nonsense']) {
      const { code, out, err } = await carl.run(['cluster', 'join', bad]);
      expect({ bad, code, out }).toEqual({
        bad,
        code: bad === 'nonsense' ? expect.any(Number) : REFUSED,
        out: '',
      });
      expect(code).not.toBe(0);
      expect(err).toMatch(/^lazytree: [^\n]+\n$/);
    }
    anna.machine.blackHole();
    const unreachable = await ends('a join', carl.begin('cluster', 'join', token));
    expect({ code: unreachable.code, out: unreachable.out }).toEqual({ code: NETWORK, out: '' });
    anna.machine.plug();
    expect((await anna.peers()).peers).toEqual([]);
  });

  test('another cluster on the same LAN hears nothing, also when it knows an address', async () => {
    await carl.ok('cluster', 'init');
    await carl.stop();
    await carl.start(['--peer', await addressOf(anna)]);
    await sleep(3000);
    for (const tree of [root, 'secret', 'secret@anna']) {
      const { code, out } = await carl.run(['cat', `${tree}/secret`]);
      expect({ tree, code, out }).toEqual({ tree, code: 4, out: '' });
    }
    expect(await carl.ok('ref', 'list', '--cluster')).not.toContain('secret');
    for (const node of [anna, carl]) expect(await connectedPeers(node)).toEqual([node.name]);
  });

  test('what members said on the wire is worth nothing a second time', async () => {
    const [dora, emil] = await formCluster(['dora', 'emil']);
    await importFiles(dora, { secret: `${SECRET}\n` }, 'secret');
    const port = portOf(await addressOf(dora));
    const said: Buffer[] = [];
    const tap = createServer((client) => {
      const far = connect({ host: dora.machine.address, port });
      client.on('data', (part) => said.push(Buffer.from(part)));
      client.on('error', () => far.destroy());
      far.on('error', () => client.destroy());
      client.pipe(far).pipe(client);
    });
    await new Promise<void>((resolve) => tap.listen(0, HERE, resolve));
    await emil.stop();
    // They reach each other through the tap alone.
    for (const { machine } of [dora, emil]) machine.isolate();
    await emil.start(['--peer', `/ip4/${HERE}/tcp/${(tap.address() as { port: number }).port}`]);
    await eventually('they talk through the tap', async () => (await connectedPeers(emil)).includes('dora'));
    expect(await emil.ok('cat', 'secret/secret')).toBe(SECRET);
    await emil.stop();
    tap.close();
    expect(said.length).toBeGreaterThan(3);
    const answer = await shout(dora.machine.address, port, Buffer.concat(said));
    // To the first message of a handshake there is an answer, and to nothing after it.
    expect(answer.length).toBeLessThan(2000);
    expect(await connectedPeers(dora)).toEqual(['dora']);
    expect(await dora.ok('cat', 'secret/secret')).toBe(SECRET);
  });
});
