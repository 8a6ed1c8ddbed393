import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { pseudoRandom } from '../helpers.ts';
import { type DelayProxy, startDelayProxy } from './delay-proxy.ts';

const DELAY = 40;

/** The harness itself: what tests and benchmarks take for granted of the proxy. */
describe('a delaying proxy', () => {
  let server: Server;
  let proxy: DelayProxy;
  const open: Socket[] = [];

  /** @param onConnection of the server behind the proxy */
  async function setUp(onConnection: (socket: Socket) => void, delay = DELAY): Promise<void> {
    server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      open.push(socket);
      onConnection(socket);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    proxy = await startDelayProxy({ target: { host: '127.0.0.1', port }, delay });
  }

  async function client(): Promise<Socket> {
    const socket = connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    socket.on('error', () => undefined);
    open.push(socket);
    await once(socket, 'connect');
    return socket;
  }

  async function allOf(socket: Socket): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const part of socket) parts.push(part);
    return Buffer.concat(parts);
  }

  afterEach(async () => {
    await proxy.close();
    for (const socket of open.splice(0)) socket.destroy();
    server.close();
  });

  test('delivers all bytes in order, each way, and the end; and counts them', async () => {
    const there = pseudoRandom(20 << 20, 'there');
    const back = pseudoRandom(7 << 20, 'back');
    const arrived: Promise<Buffer>[] = [];
    await setUp((socket) => {
      arrived.push(allOf(socket));
      socket.end(back);
    });
    const socket = await client();
    socket.end(there);
    expect((await allOf(socket)).equals(back)).toBe(true);
    expect((await arrived[0]).equals(there)).toBe(true);
    expect(proxy.counts()).toEqual({ there: there.length, back: back.length });
    expect(proxy.connections()).toMatchObject({ ever: 1 });
  });

  test('delays each direction, however many round trips', async () => {
    await setUp((socket) => void socket.pipe(socket));
    const socket = await client();
    const took: number[] = [];
    for (let i = 0; i < 5; i++) {
      const began = performance.now();
      socket.write('ping');
      await once(socket, 'data');
      took.push(performance.now() - began);
    }
    // No third delay; what makes some of them longer is the machine.
    expect(Math.min(...took)).toBeGreaterThanOrEqual(2 * DELAY - 2);
    expect(Math.min(...took)).toBeLessThan(3 * DELAY);
  });

  test('a delay costs no bandwidth', async () => {
    const bytes = pseudoRandom(64 << 20, 'wide');
    await setUp((socket) => void socket.end(bytes), 200);
    const began = performance.now();
    expect((await allOf(await client())).length).toBe(bytes.length);
    // With a window of 64 KiB this would take minutes.
    expect(performance.now() - began).toBeLessThan(5000);
  });

  test('does not hold what nobody reads without end', async () => {
    const chunk = Buffer.alloc(1 << 20);
    let sent = 0;
    await setUp((socket) => {
      const push = () => {
        while (socket.write(chunk)) sent += chunk.length;
        sent += chunk.length;
      };
      socket.on('drain', push);
      push();
    }, 1);
    const socket = await client();
    socket.pause();
    let before = -1;
    while (before !== sent) {
      before = sent;
      await sleep(500);
    }
    expect(sent).toBeLessThan(400 << 20);
  });

  test.each(['there', 'back'] as const)('changes one byte on its way %s when it is to', async (direction) => {
    const bytes = pseudoRandom(1 << 16, 'spoilt');
    await setUp((socket) => void socket.pipe(socket), 0);
    const socket = await client();
    socket.write('a');
    expect(String((await once(socket, 'data'))[0])).toBe('a');
    proxy.corrupt(direction);
    socket.end(bytes);
    const echoed = await allOf(socket);
    const wrong = [...echoed.keys()].filter((at) => echoed[at] !== bytes[at]);
    expect([wrong.length, echoed.length]).toEqual([1, bytes.length]);
  });

  test('stalls without a word, and flows again for new connections', async () => {
    await setUp((socket) => void socket.pipe(socket), 1);
    const socket = await client();
    proxy.stall();
    const late = await client();
    let heard = 0;
    for (const one of [socket, late]) {
      one.on('data', () => heard++);
      one.write('hello');
    }
    await sleep(300);
    expect([heard, socket.destroyed, late.destroyed]).toEqual([0, false, false]);
    const closed = [socket, late].map((one) => new Promise((resolve) => one.on('close', resolve)));
    proxy.flow();
    await Promise.all(closed);
    const next = await client();
    next.write('again');
    expect(String((await once(next, 'data'))[0])).toBe('again');
  });

  test('cuts what is connected', async () => {
    await setUp((socket) => void socket.pipe(socket), 1);
    const socket = await client();
    socket.write('x');
    await once(socket, 'data');
    const failed = once(socket, 'error');
    proxy.cut();
    expect((await failed)[0]).toMatchObject({ code: 'ECONNRESET' });
    await sleep(20);
    expect(proxy.connections()).toEqual({ open: 0, ever: 1 });
  });
});
