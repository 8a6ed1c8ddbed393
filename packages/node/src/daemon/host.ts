import {
  type DirectoryEntry,
  type FileEntry,
  LazytreeError,
  type Link,
  type LocalStore,
  listImports,
  listPins,
  listRefs,
  resolveTreeOrigins,
} from '@lazytree/core';
import type { Cluster } from '../cluster/cluster.js';
import { isUnavailable } from '../fetch/block-unavailable.js';
import { createDemand } from '../fetch/demand.js';
import { createFetchChain, type FetchChain, provideImage } from '../fetch/fetch-chain.js';
import { heldRoots } from '../held-roots.js';
import { type Home, openHome } from '../home.js';
import { hasRemotes, isClusterHome } from '../home-directory.js';
import { type Keeper, openKeeper } from '../keeper/keeper.js';
import { createMountTable, type MountTable } from '../mounts/mount-table.js';
import {
  type AskPeers,
  createOrigins,
  type OriginCaller,
  type Origins,
  withOrigins,
} from '../origins/origins.js';
import { accessOrders, extendAccessOrder } from '../prefetch/access-order.js';
import { likelyOrder } from '../prefetch/likely-order.js';
import {
  type PrefetchOptions,
  type PrefetchProgress,
  prefetchFile,
  prefetchTree,
} from '../prefetch/prefetch.js';
import { type CredentialMemory, createCredentialMemory } from '../remotes/credential-memory.js';
import type { OpenRemotes, Remotes } from '../remotes/remotes.js';
import { createWorkspaces, type Workspaces, type WorkspacesOptions } from '../workspaces/workspaces.js';
import type { Log } from './log.js';

/** What a daemon owns for as long as it runs. Its parts are to be asked for anew by every command: see `refresh`. */
export interface Host {
  readonly home: Home;
  readonly log: Log;
  readonly fetch: FetchChain;
  readonly mounts: MountTable;
  readonly workspaces: Workspaces;
  /** What outside of the cluster trees come from. */
  readonly origins: Origins;
  /** What remotes were last opened with. */
  readonly credentials: CredentialMemory;
  /** This machine's part in a cluster. It is loaded when it is first asked for, or at once in a home that has one. */
  cluster(): Promise<Cluster>;
  /** Whether it is in one. */
  isMember(): boolean;
  /** The home's remotes, opened when they are first asked for; undefined when it has none. */
  remotes(): Promise<Remotes | undefined>;
  /** Brings all of a tree into the store, and what its origins stand for to whoever wants it. */
  prefetch(
    root: Link,
    options: PrefetchOptions & { caller: OriginCaller; image?: string | undefined },
  ): Promise<PrefetchProgress>;
  /** Brings all of a directory or a file, and lets it be read meanwhile: what is on its way is waited for. */
  arriving(entry: DirectoryEntry | FileEntry, options: PrefetchOptions): Arriving;
  /** Whether there is anything that needs the daemon when no command runs. */
  busy(): boolean;
  /** Says that the store could not write: what it has not written yet, and LevelDB, are stuck until it is opened again. */
  distrust(): void;
  /**
   * Opens the home again when it is distrusted. To be called when no command runs; does nothing while something else
   * uses the home.
   */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

/** A directory or a file that is on its way here. */
export interface Arriving {
  store: LocalStore;
  /** Resolves when all of it is here, or cannot be. */
  ended: Promise<void>;
  /** Why not all of it can be kept here, as far as that is known. */
  problem(): unknown;
}

export interface OpenHostOptions {
  /** The home's directory; made if need be. */
  home: string;
  version: string;
  log: Log;
  /** How long mounts wait for another daemon when this one is killed, before they fail; 0 for not at all. */
  keepMs: number;
  /** Where peers find this machine, and where it looks for them, for this run. */
  listen?: readonly string[] | undefined;
  peers?: readonly string[] | undefined;
  /** Opens the remotes of a home that has some, in place of what is configured in it. */
  openRemotes?: OpenRemotes | undefined;
}

/** Loaded by homes that have some. */
const openHomeRemotes: OpenRemotes = async (parts) => {
  const { openRemotes } = await import('../remotes/open-remotes.js');
  return openRemotes(parts);
};

/**
 * Opens a home, and mounts again what was mounted when it was last closed. What was mounted when its daemon was killed
 * is served on, if it has been kept.
 *
 * @throws LazytreeError as openHome
 */
export async function openHost(options: OpenHostOptions): Promise<Host> {
  const { home: directory, version, log, keepMs, openRemotes = openHomeRemotes } = options;
  const opened = await openHome({ directory, create: true });
  await checkPlaces(options).catch(async (error) => {
    await opened.close();
    throw error;
  });
  const keeper = openKeeper({ home: directory, version, milliseconds: keepMs, log });
  const credentials = createCredentialMemory();
  const expectsAnyone = () => isClusterHome(directory) || hasRemotes(directory);
  const pushTo: WorkspacesOptions['push'] = async (name, given) => {
    const remote = await (await findRemotes())?.open(name);
    if (!remote) throw new LazytreeError('NOT_FOUND', `there is no remote '${name}'`);
    return remote.push(given);
  };
  const askPeers: AskPeers = async (reference, integrity, signal) =>
    isClusterHome(directory) ? (await openPart()).resolve(reference, integrity, signal) : undefined;
  let parts = partsOf(opened, { keeper, log, expectsAnyone, push: pushTo, askPeers });
  let distrusted = false;
  let cluster: Promise<Cluster> | undefined;
  let remotes: Promise<Remotes> | undefined;
  await parts.mounts.restore();
  await parts.workspaces.restoreAll();
  keeper.settle();
  await parts.mounts.removeRemains();
  const busy = () => parts.mounts.count() + parts.workspaces.count() > 0;
  if (isClusterHome(directory)) openPart().catch((err) => log.error({ err }, 'not in the cluster'));
  // Who reads what is mounted names no tree.
  attachRemotes().catch((err) => log.error({ err }, 'the remotes cannot be used'));

  function openPart(): Promise<Cluster> {
    cluster ??= openClusterPart(parts, options).catch((error: unknown) => {
      cluster = undefined;
      throw error;
    });
    return cluster;
  }

  async function findRemotes(): Promise<Remotes | undefined> {
    if (!hasRemotes(directory)) return undefined;
    const { home, fetch } = parts;
    remotes ??= openRemotes({
      home: directory,
      store: home.store,
      source: fetch,
      credentials,
      orders: accessOrders(directory, () => parts.mounts.learnOrders()),
      log,
      join: fetch.join,
    }).catch((error: unknown) => {
      remotes = undefined;
      throw error;
    });
    return remotes;
  }

  async function attachRemotes(): Promise<void> {
    await (await findRemotes())?.attach();
  }

  async function closeParts(): Promise<void> {
    await (await cluster?.catch(() => undefined))?.close();
    cluster = undefined;
    // Whoever asked for them was told why they could not be opened.
    await (await remotes?.catch(() => undefined))?.close();
    remotes = undefined;
    await parts.workspaces.close();
    await parts.mounts.close();
    await parts.fetch.close();
    await parts.origins.settled();
    await parts.home.close();
  }

  return {
    log,
    credentials,
    get home() {
      return parts.home;
    },
    get fetch() {
      return parts.fetch;
    },
    get origins() {
      return parts.origins;
    },
    get mounts() {
      return parts.mounts;
    },
    get workspaces() {
      return parts.workspaces;
    },
    async prefetch(root, { image, caller, ...options }) {
      const { fetch, mounts, home, origins } = parts;
      const withdraw = await provideImage(fetch, image);
      try {
        // Where origins stand for something, that is to be here as well.
        const source = withOrigins(fetch, origins, { caller });
        const { link } = await resolveTreeOrigins(source, home.store, root, { signal: options.signal });
        const fetched = await prefetchTree(fetch, link, { ...options, idle: mounts.demand.standBack });
        await home.store.flush();
        return fetched;
      } finally {
        await withdraw();
      }
    },
    cluster: openPart,
    arriving(entry, options) {
      const { fetch, mounts, home } = parts;
      const given = { ...options, idle: mounts.demand.standBack };
      const bringing =
        entry.kind === 'directory'
          ? prefetchTree(fetch, entry.link, given)
          : prefetchFile(fetch, entry, given);
      let problem: unknown;
      const store: LocalStore = {
        ...home.store,
        resolveOrigin: fetch.resolveOrigin,
        async flush() {
          try {
            await home.store.flush();
          } catch (error) {
            problem ??= error;
            throw error;
          }
        },
        async has(link, { signal = options.signal } = {}) {
          return (await fetch.awaited(link, signal)) === true || home.store.has(link, { signal });
        },
        async get(link, { signal = options.signal } = {}) {
          if ((await fetch.awaited(link, signal)) === true) return home.store.get(link, { signal });
          return fetch.get(link, { signal });
        },
      };
      return {
        store,
        ended: bringing.then(
          () => undefined,
          (error: unknown) => {
            problem ??= error;
          },
        ),
        problem: () => problem,
      };
    },
    isMember: () => isClusterHome(directory),
    remotes: findRemotes,
    // Others count on a member of a cluster.
    busy: () => busy() || isClusterHome(directory),
    distrust() {
      distrusted = true;
    },
    async refresh() {
      if (!distrusted || busy()) return;
      // What could not be written is given up with it, and its space given back.
      await closeParts().catch((err) => log.warn({ err }, 'not everything could be written'));
      parts = partsOf(await openHome({ directory, create: false }), {
        keeper,
        log,
        expectsAnyone,
        push: pushTo,
        askPeers,
      });
      distrusted = false;
      if (isClusterHome(directory)) await openPart();
      await attachRemotes().catch((err) => log.error({ err }, 'the remotes cannot be used'));
      log.warn('the store was opened again after it could not write');
    },
    async close() {
      try {
        await closeParts();
      } finally {
        keeper.close();
      }
    },
  };
}

async function checkPlaces({ listen = [], peers = [] }: OpenHostOptions): Promise<void> {
  if (listen.length + peers.length === 0) return;
  const { checkAddresses } = await import('../cluster/check-addresses.js');
  await checkAddresses(listen, peers);
}

const NEVER = new AbortController().signal;

/** In which peers are found again, and remotes opened: whoever reads meanwhile, perhaps since before a daemon was killed, waits for them. */
const ARRIVAL_MS = 5000;
/** Roots that peers are told of. */
const ROOTS = 1000;
/** And of which a peer is told when it is asked for a tree: each costs it a look. */
const LIKELY = 8;

async function openClusterPart(
  { home: { directory, store }, fetch, origins }: Parts,
  { version, log, listen, peers }: OpenHostOptions,
): Promise<Cluster> {
  const { openCluster } = await import('../cluster/cluster.js');
  const served = createDemand();
  return openCluster({
    home: directory,
    version,
    log,
    listen: listen ?? [],
    peers: peers ?? [],
    store,
    join: fetch.join,
    setSelf: fetch.setSelf,
    awaited: fetch.awaited,
    repair(link) {
      fetch.get(link).catch((error: unknown) => log.warn({ error: String(error) }, 'a damaged block stays'));
    },
    order: (root) =>
      likelyOrder(directory, store, root).catch((error: unknown) => {
        log.warn({ error: String(error) }, 'the order of a tree is not known');
        return [];
      }),
    onOrder(root, order) {
      extendAccessOrder(directory, root, order).catch((error: unknown) =>
        log.warn({ error: String(error) }, 'the order of a tree was not kept'),
      );
    },
    urgently: served.during,
    quiet: served.idle,
    resolved: origins.known,
    async roots() {
      const refs = (await listRefs(store)).map(({ root }) => root);
      const pins = (await listPins(store)).map(({ root }) => root);
      const imports = (await listImports(store)).sort((a, b) => b.time - a.time).map(({ root }) => root);
      const { coming, whole } = fetch.roots();
      const complete = new Set([...refs, ...pins, ...whole, ...imports]);
      for (const root of coming) complete.delete(root);
      return { complete: [...complete].slice(0, ROOTS), partial: coming };
    },
    watchRoots: fetch.watchRoots,
  });
}

type Parts = Pick<Host, 'home' | 'fetch' | 'origins' | 'mounts' | 'workspaces'>;

interface PartsOptions {
  keeper: Keeper;
  log: Log;
  /** Whether somebody may have what is not here. */
  expectsAnyone(): boolean;
  push: WorkspacesOptions['push'];
  askPeers: AskPeers;
}

function partsOf(home: Home, { keeper, log, expectsAnyone, push, askPeers }: PartsOptions): Parts {
  const { directory, store } = home;
  const chain = createFetchChain(store, {
    completeRoots: () => likelyRoots(directory, store),
    onRepaired: (cid, provider) => log.warn({ cid, provider }, 'a damaged block was replaced'),
    onNotKept: (error, blocks) => log.error({ error: String(error), blocks }, 'blocks could not be kept'),
  });
  const origins = createOrigins({
    home: directory,
    store,
    source: chain,
    askPeers,
    onNotRecorded: (error) =>
      log.error({ error: String(error) }, 'what an origin stands for was not recorded'),
  });
  const fetch: FetchChain = {
    ...withOrigins(chain, origins),
    async get(link, given) {
      try {
        return await chain.get(link, given);
      } catch (error) {
        if (!isUnavailable(error)) throw error;
        // What a peer has promised may be had from where the peer has it from.
        if (!(await origins.rescue(link, given?.signal ?? NEVER))) throw error;
        return store.get(link, given);
      }
    },
  };
  const onLowerLost = () => workspaces.recover();
  const peersBy = performance.now() + ARRIVAL_MS;
  const expectsPeers = () => performance.now() < peersBy && expectsAnyone();
  const mounts = createMountTable({
    home: directory,
    store,
    fetch,
    keeper,
    log,
    resolveOrigin: (root, entry, options) =>
      origins.resolveEntry(entry, { ...options, caller: root && origins.callerOf(root) }),
    resolved: origins.resolved,
    expectsPeers,
    onLowerLost,
  });
  const workspaces: Workspaces = createWorkspaces({
    home: directory,
    store,
    fetch,
    mounts,
    keeper,
    log,
    push,
  });
  return { home, fetch, origins, mounts, workspaces };
}

/** Of those whose nodes are all here, what another tree is likely to be a change of. */
async function likelyRoots(directory: string, store: LocalStore): Promise<Link[]> {
  const newestFirst = <T extends { time: number; root: Link }>(list: T[]) =>
    list.sort((a, b) => b.time - a.time).map(({ root }) => root);
  const [refs, imports] = await Promise.all([listRefs(store), listImports(store)]);
  return [...new Set([...(await heldRoots(directory)), ...newestFirst(refs), ...newestFirst(imports)])].slice(
    0,
    LIKELY,
  );
}
