import { once } from 'node:events';
import { createServer } from 'node:net';
import { LazytreeError } from '@lazytree/core';
import { multiaddr } from '@multiformats/multiaddr';

/**
 * Whether a daemon can be where it is told to: better said while somebody waits for it to start than in its log.
 *
 * @throws LazytreeError USAGE for what is no address, NETWORK where it cannot listen
 */
export async function checkAddresses(listen: readonly string[], peers: readonly string[]): Promise<void> {
  for (const address of peers) parse(address);
  for (const address of listen) {
    const parts = parse(address);
    const host = parts.find(({ name }) => name === 'ip4' || name === 'ip6')?.value;
    const port = parts.find(({ name }) => name === 'tcp')?.value;
    if (host !== undefined && port !== undefined) await tryOut(address, host, Number(port));
  }
}

function parse(address: string) {
  try {
    return multiaddr(address).getComponents();
  } catch (cause) {
    throw new LazytreeError('USAGE', `'${address}' is no multiaddr`, {
      cause,
      hint: 'write it like /ip4/0.0.0.0/tcp/4001',
    });
  }
}

async function tryOut(address: string, host: string, port: number): Promise<void> {
  const server = createServer().listen({ host, port });
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw cannotListen(address, cause);
  } finally {
    server.close();
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something listens there already',
  EADDRNOTAVAIL: 'this machine has no such address',
  EACCES: 'permission denied',
};

/** Libraries have what the system said in their text alone. */
export function cannotListen(where: string, cause: unknown): LazytreeError {
  const text = String(cause);
  const code = Object.keys(REASONS).find((name) => text.includes(name));
  const why = code === undefined ? text.split('\n', 1)[0] : REASONS[code];
  return new LazytreeError('NETWORK', `cannot listen on ${where}: ${why}`, {
    cause,
    hint: 'name another place with `lazytree daemon start --listen ADDRESS`',
  });
}
