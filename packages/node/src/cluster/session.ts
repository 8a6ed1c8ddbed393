import { join as joinPath } from 'node:path';
import { LazytreeError, type Link, type LocalStore, listRefs, watchCatalog } from '@lazytree/core';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import type { Provider } from '../fetch/provider.js';
import type { MountLog } from '../mounts/mount-log.js';
import { readState, writeState } from '../state-file.js';
import { type AnswerSources, createAnswering, inMessages } from './exchange/answers.js';
import { EXCHANGE, STREAMS } from './exchange/limits.js';
import { decodeLinks, encodeLinks } from './exchange/link-list.js';
import { createExchangeServer } from './exchange/server.js';
import { type ClusterKey, clusterId, discoveryTag } from './membership/cluster-key.js';
import { admit, JOIN } from './membership/join.js';
import { createMembers, MEMBERSHIP } from './membership/members.js';
import type { Membership } from './membership/membership-state.js';
import { type Network, openNetwork } from './network.js';
import { createPeerDialer } from './peer-dialer.js';
import { createPeers, type Peer, type PeerStatus } from './peers.js';
import type { RefTable } from './refs/ref-table.js';
import type { PublishedRef, SignedRef } from './refs/signed-ref.js';

/** What the cluster needs of the rest of the daemon. */
export interface ClusterServices {
  store: LocalStore;
  /** A peer can be fetched from, until the function returned is called. */
  join(provider: Provider): () => void;
  /** What this machine is called by the others, and who of them is not there; undefined when it takes part no more. */
  setSelf(id: string | undefined, away?: () => readonly string[]): void;
  awaited: AnswerSources['awaited'];
  repair: AnswerSources['repair'];
  order: AnswerSources['order'];
  onOrder(root: Link, order: readonly Link[]): void;
  urgently: AnswerSources['urgently'];
  quiet: AnswerSources['quiet'];
  resolved: AnswerSources['resolved'];
  /** Roots of which everything is here, newest first, and those that are being fetched. */
  roots(): Promise<{ complete: readonly Link[]; partial: readonly Link[] }>;
  /** Has `listener` called when that changes. Returns what ends it. */
  watchRoots(listener: () => void): () => void;
}

export interface SessionOptions extends ClusterServices {
  directory: string;
  version: string;
  log: MountLog;
  identity: PrivateKey;
  membership: Membership;
  refs: RefTable;
}

/** The time that being a member of a cluster lasts, for one daemon. */
export interface Session {
  readonly key: ClusterKey;
  readonly refs: RefTable;
  status(): { id: string; self: { id: string; name: string; addresses: string[] }; peers: PeerStatus[] };
  /** What to listen on the next time, to be found at the same place. */
  listening(): string[];
  /** Of members that could let somebody in, this one first. */
  invitationAddresses(): string[];
  ready(signal: AbortSignal): Promise<void>;
  findRef(name: string, peer: string | undefined, signal: AbortSignal): Promise<PublishedRef>;
  follow(ref: PublishedRef, signal: AbortSignal): AsyncGenerator<PublishedRef>;
  /** What a connected peer says that an origin stands for, with its name; the first who knows. */
  resolve(
    reference: string,
    integrity: string,
    signal: AbortSignal,
  ): Promise<{ root: Link; peer: string } | undefined>;
  /** Tells the others that this machine is none of them any more. */
  leave(): Promise<void>;
  close(): Promise<void>;
}

/** Peers are looked for so long before nobody is said to be there. */
const SEARCH_MS = 3000;
/** Changes within this are told of together. */
const ANNOUNCE_MS = 50;
/** For an answer that is only news: what is known will do. */
const NEWS_MS = 2000;
/** Both ends discover each other: the one with the greater id lets the other dial. */
const GIVE_WAY_MS = 1000;

export async function openSession(options: SessionOptions): Promise<Session> {
  const { membership, refs, log, store, directory, identity, version } = options;
  const { key, name } = membership;
  const self = peerIdFromPrivateKey(identity).toString();
  const began = performance.now();
  const ended = new AbortController();
  const knownFile = joinPath(directory, 'peers.json');
  const watchers = new Set<() => void>();
  let network!: Network;
  let announcing: NodeJS.Timeout | undefined;
  let changes: Promise<void> = Promise.resolve();
  let searched = false;

  const peers = createPeers({
    join: options.join,
    onOrder: options.onOrder,
    onConnected(peer) {
      log.info({ peer: peer.id }, 'a peer has connected');
      void tell([peer], refs.signed());
      wakeAll();
    },
    onLost(peer) {
      log.info({ peer: peer.id }, 'a peer has gone');
      if (!peers.isDistrusted(peer.id)) dialer.lost(peer.id);
    },
    onDistrusted(peer, reason) {
      log.error({ peer: peer.id, reason }, 'a peer has lied, and is not asked again');
      dialer.forget(peer.id);
    },
  });
  const dialer = createPeerDialer({
    network: () => network,
    isConnected: (id) => peers.get(id)?.client() !== undefined || peers.isDistrusted(id),
    onFailed: (peer, error) => log.info({ peer, error: error.message }, 'a peer cannot be reached'),
  });
  const members = createMembers({
    key,
    self,
    onMember(connection) {
      peers.add(connection);
    },
    onRefused(connection, error) {
      const peer = connection.remotePeer.toString();
      log.warn({ peer, address: connection.remoteAddr.toString(), error: error.message }, 'no member');
    },
  });
  const answer = createAnswering({
    ...options,
    refs: (filter) => refs.signed(filter),
    announced(peer, announce) {
      if (announce.leaving) {
        peers.forget(peer);
        dialer.forget(peer);
        change(rememberPeers);
        return;
      }
      peers.announced(peer, announce);
      const known = peers.get(peer)?.status();
      if (known?.addresses.length) dialer.want(peer, known.addresses);
      change(async () => {
        const taken = await refs.accept(announce.refs);
        if (taken.some(({ owner }) => owner === self)) await publish();
        if (taken.length > 0) wakeAll();
        await rememberPeers();
      });
    },
  });
  const serve = createExchangeServer({
    async admitted(connection) {
      await members.admitted(connection);
      const peer = connection.remotePeer.toString();
      const { traffic } = peers.get(peer) ?? {};
      if (!traffic || peers.isDistrusted(peer)) throw new LazytreeError('REFUSED', 'distrusted');
      return { peer, traffic };
    },
    answer,
    onBadRequest: (peer, error) =>
      log.warn({ peer, error: error.message }, 'a request that cannot be answered'),
  });

  function wakeAll(): void {
    for (const wake of [...watchers]) wake();
  }

  /** Changes of what is known follow one another. */
  function change(task: () => Promise<void>): void {
    changes = changes.then(task).catch((error: unknown) => {
      log.error({ error: String(error) }, 'the state of the cluster could not be kept');
    });
  }

  async function publish(): Promise<void> {
    const changed = await refs.publish(await listRefs(store), name);
    if (changed.length > 0) wakeAll();
    await tell(peers.connected(), changed);
  }

  async function tell(to: readonly Peer[], statements: readonly SignedRef[]): Promise<void> {
    const { complete, partial } = await options.roots();
    const about = {
      name,
      complete: encodeLinks(complete),
      partial: encodeLinks(partial),
      addresses: ownAddresses(),
      leaving: false,
    };
    const [first = [], ...rest] = inMessages(statements);
    await Promise.all(
      to.map(async (peer) => {
        try {
          for (const refs of [first, ...rest]) await ask(peer, { announce: { ...about, refs } });
        } catch {
          // It has gone, and hears all of it when it is back.
        }
      }),
    );
  }

  async function ask(peer: Peer, request: Parameters<NonNullable<ReturnType<Peer['client']>>['ask']>[0]) {
    const client = peer.client();
    const found: SignedRef[] = [];
    if (!client) return found;
    const signal = AbortSignal.any([ended.signal, AbortSignal.timeout(NEWS_MS)]);
    for await (const part of client.ask(request, { signal })) found.push(...part.refs);
    return found;
  }

  function announceSoon(): void {
    announcing ??= setTimeout(() => {
      announcing = undefined;
      change(publish);
    }, ANNOUNCE_MS).unref();
  }

  function ownAddresses(): string[] {
    const all = network.getMultiaddrs().map(String);
    const reachable = all.filter((address) => !/^\/ip4\/127\.|^\/ip6\/::1\//.test(address));
    return reachable.length > 0 ? reachable : all;
  }

  let remembered = '';
  async function rememberPeers(): Promise<void> {
    const known = peers
      .list()
      .map((peer) => peer.status())
      .filter(({ distrusted }) => distrusted === undefined)
      .map(({ id, name: called, addresses }) => ({ id, name: called, addresses }));
    const text = JSON.stringify(known);
    if (text === remembered) return;
    await writeState(knownFile, { peers: known });
    remembered = text;
  }

  await listen();
  options.setSelf(self, () => peers.away().map((peer) => peer.describe()));

  change(async () => {
    const state = (await readState(knownFile)) as {
      peers: { id: string; name: string; addresses: string[] }[];
    };
    for (const { id, ...known } of state?.peers ?? []) {
      peers.remember(id, known);
      dialer.want(id, known.addresses);
    }
    for (const address of membership.peers) dialer.wantAddress(address);
    await publish();
  });
  const unwatch = [watchCatalog(store, announceSoon), options.watchRoots(announceSoon)];

  /** What is done with connections, told before there are any. */
  async function attach(opened: Network): Promise<void> {
    network = opened;
    network.addEventListener('connection:open', ({ detail }) => members.add(detail));
    network.addEventListener('connection:close', ({ detail }) => peers.remove(detail));
    network.addEventListener('peer:discovery', ({ detail: { id, multiaddrs } }) => {
      const peer = id.toString();
      const addresses = multiaddrs.map((address) => `${address}/p2p/${peer}`);
      if (peer === self || peers.isDistrusted(peer)) return;
      if (self < peer) dialer.want(peer, addresses);
      else setTimeout(() => dialer.want(peer, addresses), GIVE_WAY_MS).unref();
    });
    await network.handle(MEMBERSHIP, (stream, connection) => members.handle(stream, connection), {
      maxInboundStreams: 1,
    });
    await network.handle(
      JOIN,
      (stream, connection) =>
        admit(stream, connection, { key, self, addresses: () => invitationAddresses() }).then(
          () => log.info({ peer: connection.remotePeer.toString() }, 'has joined'),
          (error: unknown) => log.warn({ error: String(error) }, 'was not let in'),
        ),
      { maxInboundStreams: 1 },
    );
    await network.handle(EXCHANGE, serve, { maxInboundStreams: STREAMS });
  }

  /** Where it listened before, or on another port if that one is taken meanwhile. */
  async function listen(): Promise<void> {
    const where = { identity, discovery: discoveryTag(key), version };
    const { listen: known } = membership;
    try {
      await openNetwork({ ...where, listen: known }, attach);
    } catch (error) {
      const anywhere = known.map((address) => address.replace(/\/tcp\/\d+$/, '/tcp/0'));
      if (anywhere.join() === known.join()) throw error;
      log.warn({ listen: known, error: String(error) }, 'cannot listen there, and takes another port');
      await openNetwork({ ...where, listen: anywhere }, attach);
    }
  }

  function invitationAddresses(): string[] {
    const others = peers.connected().flatMap((peer) => peer.status().addresses);
    return [...ownAddresses(), ...others];
  }

  async function ready(signal: AbortSignal): Promise<void> {
    while (!searched && peers.connected().length === 0) {
      const left = SEARCH_MS - (performance.now() - began);
      if (left <= 0) break;
      await woken(AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(left))])).catch(() => undefined);
      signal.throwIfAborted();
    }
    searched = true;
  }

  function woken(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const giveUp = () => reject(signal.reason);
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp, { once: true });
    watchers.add(resolve);
    return promise.finally(() => {
      watchers.delete(resolve);
      signal.removeEventListener('abort', giveUp);
    });
  }

  /** Asks all that are connected what they know of a name. */
  async function askFor(refName: string): Promise<void> {
    const answers = await Promise.all(
      peers.connected().map((peer) => ask(peer, { refs: { name: refName, owner: '' } }).catch(() => [])),
    );
    await refs.accept(answers.flat());
  }

  function matches(peer: string, { owner, ownerName }: PublishedRef): boolean {
    if (peer === owner || peer === ownerName || peer === peers.get(owner)?.status().name) return true;
    return peer.length >= 8 && (owner.startsWith(peer) || owner.endsWith(peer));
  }

  return {
    key,
    refs,
    status: () => ({
      id: clusterId(key),
      self: { id: self, name, addresses: network.getMultiaddrs().map(String) },
      peers: peers.list().map((peer) => peer.status()),
    }),
    listening: () => {
      const port = network
        .getMultiaddrs()[0]
        ?.getComponents()
        .find(({ name: part }) => part === 'tcp')?.value;
      return membership.listen.map((address) => address.replace(/\/tcp\/0$/, `/tcp/${port ?? 0}`));
    },
    invitationAddresses,
    ready,
    async findRef(refName, peer, signal) {
      await ready(signal);
      await askFor(refName);
      const found = refs
        .list()
        .filter((ref) => ref.name === refName && (peer === undefined || matches(peer, ref)))
        .filter((ref) => peer !== undefined || ref.owner !== self);
      const owners = new Set(found.map(({ owner }) => owner));
      if (owners.size === 1) return found[0];
      const what = peer === undefined ? `'${refName}'` : `'${refName}' of the peer '${peer}'`;
      if (owners.size === 0) {
        throw new LazytreeError('NOT_FOUND', `there is no ref ${what} in the cluster`, {
          hint: 'list them with `lazytree ref list --cluster`',
        });
      }
      const names = found.map(({ owner, ownerName }) => `${refName}@${ownerName} (${owner.slice(-8)})`);
      throw new LazytreeError('USAGE', `several peers publish ${what}: ${names.join(', ')}`, {
        hint: 'say whose with NAME@PEER; an end of the peer id will do',
      });
    },
    async *follow({ owner, name: refName }, signal) {
      let sequence = 0;
      for (;;) {
        const now = refs.get(owner, refName);
        if (now && now.sequence > sequence) {
          sequence = now.sequence;
          yield now;
          continue;
        }
        await woken(AbortSignal.any([signal, ended.signal]));
      }
    },
    async resolve(reference, integrity, signal) {
      await ready(signal);
      const done = new AbortController();
      const within = AbortSignal.any([signal, ended.signal, done.signal, AbortSignal.timeout(NEWS_MS)]);
      const asked = peers.connected().map(async (peer) => {
        const client = peer.client();
        if (!client) throw new LazytreeError('NETWORK', 'the peer has gone');
        const request = { resolve: { reference, integrity } };
        let root: Link | undefined;
        // To its end: the stream serves the next request.
        for await (const { resolved } of client.ask(request, { signal: within, urgent: true })) {
          root ??= decodeLinks(resolved, 1)[0];
        }
        if (root) return { root, peer: peer.describe() };
        throw new LazytreeError('NOT_FOUND', 'it does not know');
      });
      try {
        return await Promise.any(asked);
      } catch {
        // Nobody knows, or nobody has answered in time: then there is the origin.
        signal.throwIfAborted();
        return undefined;
      } finally {
        done.abort();
      }
    },
    async leave() {
      const none = new Uint8Array();
      const announce = { name, refs: [], complete: none, partial: none, addresses: [], leaving: true };
      await Promise.all(peers.connected().map((peer) => ask(peer, { announce }).catch(() => undefined)));
    },
    async close() {
      ended.abort();
      clearTimeout(announcing);
      for (const end of unwatch) end();
      options.setSelf(undefined);
      dialer.close();
      peers.close();
      await changes;
      await network.stop();
    },
  };
}
