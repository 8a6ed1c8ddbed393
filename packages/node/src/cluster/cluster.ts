import { mkdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join as joinPath } from 'node:path';
import { fromSystemError, LazytreeError } from '@lazytree/core';
import type { PrivateKey } from '@libp2p/interface';
import { clusterDirectory } from '../home-directory.js';
import type { MountLog } from '../mounts/mount-log.js';
import { openIdentity } from './identity.js';
import { newClusterKey } from './membership/cluster-key.js';
import { createToken, parseToken } from './membership/invitation.js';
import { join, LONGEST_MS } from './membership/join.js';
import {
  type Membership,
  readMembership,
  removeMembership,
  writeMembership,
} from './membership/membership-state.js';
import { openNetwork } from './network.js';
import type { PeerStatus } from './peers.js';
import { openRefTable } from './refs/ref-table.js';
import { isPeerName, type PublishedRef } from './refs/signed-ref.js';
import { type ClusterServices, openSession, type Session } from './session.js';

/** Where it listens unless told otherwise: any address, and a port that stays once it was given. */
const ANYWHERE = ['/ip4/0.0.0.0/tcp/0'];
const ADDRESSES_IN_TOKEN = 8;
/** What a home keeps of the peers that it has met, and of what they publish. */
const OF_THIS_CLUSTER = ['peers.json', 'refs.json'];

export interface ClusterOptions extends ClusterServices {
  home: string;
  version: string;
  log: MountLog;
  /** For this run, instead of what is remembered. */
  listen?: readonly string[];
  /** Dialled besides those remembered. */
  peers?: readonly string[];
}

export interface TakePartOptions {
  /** By which people call this machine. Default: LAZYTREE_PEER_NAME, or the host's name. */
  name?: string | undefined;
}

export interface ClusterStatus {
  id: string;
  self: { id: string; name: string; addresses: string[] };
  peers: PeerStatus[];
}

/** This machine's part in a cluster; it may be in none. */
export interface Cluster {
  isMember(): boolean;
  /** @throws LazytreeError REFUSED when it is in one already */
  init(options: TakePartOptions): Promise<ClusterStatus>;
  /** A token with which others join for so many milliseconds. */
  invite(lifetime: number): Promise<string>;
  /** @throws LazytreeError USAGE, REFUSED, NETWORK */
  join(token: string, options: TakePartOptions & { signal: AbortSignal }): Promise<ClusterStatus>;
  leave(): Promise<void>;
  status(): Promise<ClusterStatus>;
  /** Resolves when the peers that are there have been found, as far as that can be known. */
  ready(signal: AbortSignal): Promise<void>;
  refs(): Promise<PublishedRef[]>;
  /**
   * What a name is in the cluster, asking the peers that are connected.
   *
   * @param peer an id, a beginning or end of one, or a name; without it, the one peer that publishes the name
   * @throws LazytreeError NOT_FOUND, USAGE (several)
   */
  findRef(name: string, peer: string | undefined, signal: AbortSignal): Promise<PublishedRef>;
  /** A ref as it is, and again whenever it changes. */
  follow(ref: PublishedRef, signal: AbortSignal): AsyncGenerator<PublishedRef>;
  /** What a peer says that an origin stands for; undefined when nobody knows, and in no cluster. */
  resolve: Session['resolve'];
  close(): Promise<void>;
}

export async function openCluster(options: ClusterOptions): Promise<Cluster> {
  const { home, log, version } = options;
  const directory = clusterDirectory(home);
  await makePrivate(directory);
  let current: Promise<Session> | undefined;

  async function start(membership: Membership): Promise<Session> {
    const identity = await openIdentity(directory);
    const listen = options.listen?.length ? options.listen : membership.listen;
    const session = await openSession({
      ...options,
      directory,
      identity,
      refs: await openRefTable(directory, identity),
      membership: {
        ...membership,
        listen: [...listen],
        peers: [...membership.peers, ...(options.peers ?? [])],
      },
    });
    if (!options.listen?.length) {
      const taken = session.listening();
      if (taken.join() !== membership.listen.join())
        await writeMembership(home, { ...membership, listen: taken });
    }
    return session;
  }

  function begin(membership: Membership): Promise<Session> {
    current = start(membership);
    current.catch((error: unknown) => log.error({ error: String(error) }, 'not in the cluster'));
    return current;
  }

  async function session(): Promise<Session> {
    if (!current) {
      throw new LazytreeError('NOT_FOUND', 'this machine is in no cluster', {
        hint: 'begin one with `lazytree cluster init`, or join one with `lazytree cluster join TOKEN`',
      });
    }
    return current;
  }

  function refuseSecond(): void {
    if (!current) return;
    throw new LazytreeError('REFUSED', 'this machine is in a cluster already', {
      hint: '`lazytree cluster leave` takes it out',
    });
  }

  async function takePart(membership: Membership): Promise<ClusterStatus> {
    await writeMembership(home, membership);
    try {
      return (await begin(membership)).status();
    } catch (error) {
      await removeMembership(home);
      current = undefined;
      throw error;
    }
  }

  const found = await readMembership(home);
  if (found) begin(found);

  return {
    isMember: () => current !== undefined,
    async init({ name }) {
      refuseSecond();
      return takePart({ key: newClusterKey(), name: peerName(name), listen: ANYWHERE, peers: [] });
    },
    async invite(lifetime) {
      if (!(lifetime > 0 && lifetime <= LONGEST_MS)) {
        throw new LazytreeError('USAGE', 'an invitation lasts from a second to 7 days');
      }
      const { key, invitationAddresses } = await session();
      const addresses = invitationAddresses().slice(0, ADDRESSES_IN_TOKEN);
      if (addresses.length === 0) throw new LazytreeError('NETWORK', 'this machine listens nowhere');
      return createToken({ key, addresses, expires: Date.now() + lifetime });
    },
    async join(token, { name, signal }) {
      refuseSecond();
      const invited = parseToken(token);
      const own = peerName(name);
      const key = await askToJoin(await openIdentity(directory));
      return takePart({ ...key, name: own, listen: ANYWHERE });

      async function askToJoin(identity: PrivateKey): Promise<Pick<Membership, 'key' | 'peers'>> {
        const network = await openNetwork({ identity, listen: [], version });
        try {
          const admitted = await join(network, invited, signal);
          return {
            key: admitted.key,
            peers: [...new Set([...invited.addresses, ...admitted.addresses])].slice(0, 16),
          };
        } finally {
          await network.stop();
        }
      }
    },
    async leave() {
      const left = await session().catch((error: unknown) => {
        // Also a part that could not begin can be given up.
        if ((error as { code?: unknown }).code === 'NOT_FOUND') throw error;
        return undefined;
      });
      await left?.leave();
      await removeMembership(home);
      current = undefined;
      await left?.close();
      // Another cluster has no business with them. The key of this machine stays: it is the same peer anywhere.
      await Promise.all(OF_THIS_CLUSTER.map((name) => rm(joinPath(directory, name), { force: true })));
    },
    status: async () => (await session()).status(),
    async ready(signal) {
      if (current) await (await session()).ready(signal);
    },
    refs: async () => (await session()).refs.list(),
    findRef: async (name, peer, signal) => (await session()).findRef(name, peer, signal),
    async *follow(ref, signal) {
      yield* (await session()).follow(ref, signal);
    },
    async resolve(reference, integrity, signal) {
      return current && (await current).resolve(reference, integrity, signal);
    },
    async close() {
      const open = await current?.catch(() => undefined);
      current = undefined;
      await open?.close();
    },
  };
}

async function makePrivate(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fromSystemError(error, `making ${directory}`);
  }
}

function peerName(name: string | undefined): string {
  const given = name ?? process.env.LAZYTREE_PEER_NAME;
  if (given !== undefined) {
    if (isPeerName(given)) return given;
    throw new LazytreeError('USAGE', `'${given}' cannot be the name of a machine`, {
      hint: 'use up to 63 letters, digits and . _ - with a letter or digit first',
    });
  }
  const own = hostname().split('.')[0];
  return isPeerName(own) ? own : 'peer';
}
