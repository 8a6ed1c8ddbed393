import fs from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { fromSystemError } from '@lazytree/core';
import { daemonSocket, SOCKET_NAME } from '../home-directory.js';
import { daemonStatus } from './control-client.js';
import { socketAddress } from './socket-address.js';

const LOOK_MS = 25;

/**
 * Makes the home's socket, where one that nobody listens to any more may be. It gets its name when it has its mode:
 * nobody else can ever connect to it. The caller has the store's lock.
 *
 * @returns removes the socket again
 */
export async function listenInHome(server: Server, home: string): Promise<() => void> {
  // One that gave the store up a moment ago removes its socket next.
  while (await daemonStatus(home)) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  try {
    const draft = await mkdtemp(join(home, '.daemon-'));
    try {
      const { path, release } = socketAddress(draft, SOCKET_NAME);
      await listen(server, path);
      server.once('close', release);
      fs.chmodSync(join(draft, SOCKET_NAME), 0o600);
      await rename(join(draft, SOCKET_NAME), daemonSocket(home));
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  } catch (error) {
    throw fromSystemError(error, `making the socket ${daemonSocket(home)}`);
  }
  return () => fs.rmSync(daemonSocket(home), { force: true });
}

function listen(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ path }, () => {
    server.off('error', reject);
    resolve();
  });
  return promise;
}
