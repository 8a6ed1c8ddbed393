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

  test('loses a machine without a cable, or with one that leads nowhere, and gets it back', async () => {
    const server = createServer((socket) => socket.end()).listen(0, HERE);
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const connects = async (machine: Machine) => {
      const script = `net.connect({ port: ${port}, host: '${HERE}', timeout: 500 })
        .on('connect', () => process.exit(0)).on('error', () => process.exit(1)).on('timeout', () => process.exit(2))`;
      const [program, ...args] = [...machine.enter, process.execPath, '--eval', script];
      const [code] = await once(spawn(program, args), 'exit');
      return code;
    };
    expect(await connects(a)).toBe(0);
    for (const lose of [a.blackHole, a.unplug]) {
      lose();
      expect(await connects(a)).toBe(2);
      expect(await connects(b)).toBe(0);
      a.plug();
      expect(await connects(a)).toBe(0);
    }
    server.close();
  });
});
