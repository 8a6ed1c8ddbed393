import fs from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { fromSystemError } from '@lazytree/core';
import { daemonSocket, SOCKET_NAME } from '../home-directory.js';
import { daemonStatus } from './control-client.js';
import { socketAddress } from './socket-address.js';

const LOOK_MS = 25;

export interface HomeSocket {
  /** Whether it is still what callers find. */
  isThere(): boolean;
  remove(): void;
}

/**
 * Makes the home's socket, where one that nobody listens to any more may be. It gets its name when it has its mode:
 * nobody else can ever connect to it. The caller has the store's lock.
 */
export async function listenInHome(server: Server, home: string): Promise<HomeSocket> {
  // One that gave the store up a moment ago removes its socket next.
  while (await daemonStatus(home)) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  let inode: bigint;
  try {
    const draft = await mkdtemp(join(home, '.daemon-'));
    try {
      const { path, release } = socketAddress(draft, SOCKET_NAME);
      await listen(server, path);
      server.once('close', release);
      fs.chmodSync(join(draft, SOCKET_NAME), 0o600);
      inode = inodeOf(join(draft, SOCKET_NAME)) as bigint;
      await rename(join(draft, SOCKET_NAME), daemonSocket(home));
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  } catch (error) {
    throw fromSystemError(error, `making the socket ${daemonSocket(home)}`);
  }
  const isThere = () => inodeOf(daemonSocket(home)) === inode;
  return {
    isThere,
    remove() {
      if (isThere()) fs.rmSync(daemonSocket(home), { force: true });
    },
  };
}

function inodeOf(path: string): bigint | undefined {
  return fs.lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
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
