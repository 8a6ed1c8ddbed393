import { spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import os from 'node:os';
import { beforeAll, describe, expect, test } from 'vitest';
import { addMachine, HERE, type Machine, unlessNetworked } from './network.ts';

/** The harness itself: what the other tests here take for granted of it. */
describe.skipIf(unlessNetworked('network namespaces'))('a LAN', () => {
  let a: Machine;
  let b: Machine;

  beforeAll(async () => {
    a = await addMachine('machine-a');
    b = await addMachine('machine-b');
  });

  function on({ enter }: Machine, script: string) {
    const [program, ...args] = [...enter, process.execPath, '--eval', script];
    return spawnSync(program, args, { encoding: 'utf8' });
  }

  test('is all that its machines and this process see', () => {
    const interfaces = 'console.log(JSON.stringify([os.hostname(), Object.keys(os.networkInterfaces())]))';
    expect(on(a, interfaces).stdout).toBe('["machine-a",["lo","eth0"]]\n');
    expect(Object.keys(os.networkInterfaces()).sort()).toEqual(['lan', 'lo', 'port1', 'port2']);
    expect(os.hostname()).not.toBe('machine-a');
  });

  test('carries multicasts to every machine', async () => {
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(5353, resolve));
    socket.addMembership('224.0.0.251');
    const received = once(socket, 'message');
    const send = `const s = dgram.createSocket('udp4'); s.send('hello', 5353, '224.0.0.251', () => s.close())`;
    expect(on(a, send).stderr).toBe('');
    const [message, from] = await received;
    socket.close();
    expect([String(message), from.address]).toEqual(['hello', a.address]);
  });

  /** Whether anything comes back: that nobody listens there. On a busy machine that may take a second try. */
  function reaches(from: Machine, address: string): boolean {
    const script = `net.connect({ port: 1, host: '${address}', timeout: 700 })
      .on('error', ({ code }) => console.log(code)).on('timeout', () => process.exit())`;
    return Array.from({ length: 4 }).some(() =>
      ['ECONNREFUSED\n', 'ECONNRESET\n'].includes(on(from, script).stdout),
    );
  }

  test('keeps machines that are isolated from each other, and not from this process', async () => {
    const [c, d] = await Promise.all([addMachine('machine-c'), addMachine('machine-d')]);
    expect(reaches(c, d.address)).toBe(true);
    c.isolate();
    d.isolate();
    expect([reaches(c, d.address), reaches(c, HERE), reaches(c, b.address)]).toEqual([false, true, true]);
  });

  test('loses a machine without a cable, or with one that leads nowhere, and gets it back', () => {
    expect(reaches(a, HERE)).toBe(true);
    for (const lose of [a.blackHole, a.unplug]) {
      lose();
      expect([reaches(a, HERE), reaches(b, HERE)]).toEqual([false, true]);
      a.plug();
      expect(reaches(a, HERE)).toBe(true);
    }
  });

  test('is as slow as it is told to be', async () => {
    const SIZE = 5_000_000;
    const server = createServer((socket) => socket.resume()).listen(0, HERE);
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    b.limit(5);
    const [took] = await Promise.all([
      once(server, 'connection').then(async ([connection]) => {
        const began = performance.now();
        await once(connection, 'close');
        return performance.now() - began;
      }),
      once(
        spawn(b.enter[0], [
          ...b.enter.slice(1),
          process.execPath,
          '--eval',
          `net.connect(${port}, '${HERE}').end(Buffer.alloc(${SIZE}))`,
        ]),
        'exit',
      ),
    ]);
    server.close();
    expect(took).toBeGreaterThan(700);
  });
});
