import { LazytreeError } from '@lazytree/core';
import { multiaddr } from '@multiformats/multiaddr';
import { messageStream } from '../message-stream.js';
import type { Connection, Network } from '../network.js';
import { type ClusterKey, clusterId, KEY_BYTES } from './cluster-key.js';
import { type Invited, invitationSecret } from './invitation.js';
import { Admission, JoinRequest } from './membership.js';
import { LIMIT, next, proveAsDialer, proveAsListener } from './proof.js';

export const JOIN = '/lazytree/join/1';
/** No invitation is longer valid than that, whatever it says. */
export const LONGEST_MS = 7 * 24 * 3600 * 1000;
const ANSWER_MS = 10_000;

export interface Admitted {
  key: ClusterKey;
  /** Of members, as multiaddrs. */
  addresses: string[];
}

/**
 * Asks the members that an invitation names, one after another, for the cluster's key.
 *
 * @throws LazytreeError REFUSED when one of them does not accept it, NETWORK when none can be reached
 */
export async function join(network: Network, invited: Invited, signal: AbortSignal): Promise<Admitted> {
  const failures: string[] = [];
  for (const address of invited.addresses) {
    signal.throwIfAborted();
    const limited = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
    let connection: Connection;
    try {
      connection = await network.dial(multiaddr(address), { signal: limited });
    } catch (error) {
      signal.throwIfAborted();
      failures.push(`${address}: ${(error as Error).message}`);
      continue;
    }
    try {
      return await ask(network, connection, { invited, signal: limited });
    } catch (error) {
      signal.throwIfAborted();
      if ((error as { code?: unknown }).code === 'REFUSED') {
        throw new LazytreeError('REFUSED', `${address} does not accept the invitation`, {
          cause: error,
          hint: 'ask for another: this one may have expired by its clock, or be of another cluster',
        });
      }
      failures.push(`${address}: ${(error as Error).message}`);
    } finally {
      await connection.close().catch(() => undefined);
    }
  }
  throw new LazytreeError('NETWORK', `nobody can be asked to be let in: ${failures.join('; ')}`, {
    hint: 'see that the machine which printed the invitation runs its daemon, and can be reached from here',
  });
}

async function ask(
  network: Network,
  connection: Connection,
  { invited, signal }: { invited: Invited; signal: AbortSignal },
): Promise<Admitted> {
  const { salt, expires, secret, cluster } = invited;
  const stream = messageStream(await connection.newStream(JOIN, { signal }), { limit: LIMIT });
  try {
    const request = JoinRequest.encode({ salt, expires: BigInt(Math.floor(expires / 1000)) });
    await stream.send(request, signal);
    const self = network.peerId.toString();
    const other = connection.remotePeer.toString();
    await proveAsDialer({ stream, key: secret, purpose: 'join', self, other, signal });
    const { key, addresses } = Admission.decode(await next(stream, signal));
    if (key.length !== KEY_BYTES || clusterId(Buffer.from(key)) !== cluster) {
      throw new LazytreeError('REFUSED', 'what it gives is not the key of the cluster that invited');
    }
    return { key: Buffer.from(key), addresses };
  } finally {
    stream.abort('done');
  }
}

export interface AdmitOptions {
  key: ClusterKey;
  /** This peer's id. */
  self: string;
  addresses(): string[];
}

/**
 * Lets in who comes with an invitation that a member has made and that has not expired.
 *
 * @throws LazytreeError REFUSED
 */
export async function admit(
  stream: Parameters<typeof messageStream>[0],
  connection: Connection,
  { key, self, addresses }: AdmitOptions,
): Promise<void> {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const messages = messageStream(stream, { limit: LIMIT });
  try {
    const { salt, expires: seconds } = JoinRequest.decode(await next(messages, signal));
    const expires = Number(seconds) * 1000;
    const now = Date.now();
    if (!(expires > now && expires <= now + LONGEST_MS)) throw new LazytreeError('REFUSED', 'it has expired');
    const secret = invitationSecret(key, salt, expires);
    const other = connection.remotePeer.toString();
    await proveAsListener({ stream: messages, key: secret, purpose: 'join', self, other, signal });
    await messages.send(Admission.encode({ key, addresses: addresses() }), signal);
    await messages.close();
  } catch (error) {
    messages.abort('refused');
    throw error;
  }
}
