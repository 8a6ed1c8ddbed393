import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type BlockSource,
  type DirectoryEntry,
  type FileEntry,
  formatLink,
  fromSystemError,
  LazytreeError,
  type Link,
  type LocalStore,
  type OriginEntry,
  parseLink,
  readNode,
  type Totals,
} from '@lazytree/core';
import type { Demand } from '../fetch/demand.js';
import { type FetchChain, provideImage } from '../fetch/fetch-chain.js';
import { FUSE_TYPE } from '../fuse/device/mount-fuse.js';
import { mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import { mayMount } from '../fuse/device/privilege.js';
import type { ServerReport } from '../fuse/session/messages.js';
import type { FetchRequest, OriginRequest, ServeFailure } from '../fuse/session/session.js';
import type { Keeper } from '../keeper/keeper.js';
import type { OriginOptions } from '../origins/origins.js';
import { extendAccessOrder, readAccessOrder } from '../prefetch/access-order.js';
import { createPackagesAhead } from '../prefetch/packages-ahead.js';
import { prefetchOrder } from '../prefetch/prefetch.js';
import { createReadAhead } from '../prefetch/read-ahead.js';
import { readState, writeState } from '../state-file.js';
import { type BaseKind, createBaseMounts } from './base-mount.js';
import { detachStale, removeRemains } from './connection.js';
import type { MountLog } from './mount-log.js';
import { choosePlacement, type Place, type Placed } from './placement.js';
import { canonicalTarget, prepareTarget, removeTarget, takeTarget } from './target.js';

/** What a mount is made of, as it is remembered from one daemon to the next. */
export interface MountRecord {
  target: string;
  /** The directory that is shown. */
  root: Link;
  /** As it was asked for. */
  tree: string;
  /** An image that has what the store lacks. */
  image?: string | undefined;
  /** Whether what it is likely to need is fetched before it is asked for. */
  prefetch: boolean;
  /** Whether the mount point was made for it, and goes with it. */
  madeTarget: boolean;
}

export interface MountStatus extends MountRecord {
  /** `failed` is a mount that could not be brought back. */
  state: 'mounted' | 'unmounted' | 'failed';
  size: number;
  files: number;
  use: MountUse;
}

export interface MountUse {
  /** Requests of the kernel, and how many of them were reads of content. */
  requests: number;
  reads: number;
  bytes: number;
  /** Requests answered from the local store; the others had to wait for content from elsewhere. */
  hits: number;
  fetched: number;
  /** Files put into the page cache before anyone asked. */
  pushed: number;
}

export interface MountOptions {
  root: Link;
  target: string;
  tree: string;
  image?: string | undefined;
  /** Fetch before it is asked for what was read when the tree was mounted before. */
  prefetch: boolean;
}

export interface MountTable {
  /** What readers wait for. */
  demand: Demand;
  mount(options: MountOptions): Promise<MountRecord>;
  /** Begins what every mount or overlay needs, whatever it shows, for one that waits for its tree still. */
  prepare(kind: BaseKind): void;
  /** @throws LazytreeError NOT_FOUND; REFUSED, with who holds it, unless `lazy` */
  unmount(path: string, options: { lazy: boolean }): Promise<MountRecord>;
  list(): Promise<MountStatus[]>;
  /**
   * Where overlays find a root, and whether those of an earlier daemon find it there, too. Its content is looked for in
   * `image` as well.
   */
  lowerDirectory(root: Link): Promise<{ lower: string; inherited: boolean }>;
  /** Goes on with what overlays of an earlier daemon lie over, if that is there and wanted. */
  inheritLower(options: { wanted: boolean }): Promise<boolean>;
  /** Keeps in which order files have been read since the last time. */
  learnOrders(): Promise<void>;
  /** What overlays have asked of a root. */
  usesBelow(): Promise<(root: Link) => MountUse>;
  /** Mounts again what an earlier daemon had mounted. */
  restore(): Promise<void>;
  /** Takes away what an earlier daemon has left and nothing needs any more; to be called when all is restored. */
  removeRemains(): Promise<void>;
  count(): number;
  /** Unmounts everything; it is remembered, and back with the next daemon. */
  close(): Promise<void>;
}

export interface MountTableOptions {
  home: string;
  store: LocalStore;
  fetch: FetchChain;
  log: MountLog;
  keeper: Keeper;
  /** Finds out what an origin in a tree stands for. */
  resolveOrigin(
    root: Link | undefined,
    entry: OriginEntry,
    options: Pick<OriginOptions, 'signal' | 'ahead'>,
  ): Promise<DirectoryEntry | FileEntry>;
  /** The same, as far as it is known already. */
  resolved(entry: OriginEntry): Link | undefined;
  /** Whether providers of the network are likely to come, and none has been here yet. */
  expectsPeers(): boolean;
  /** Told when what overlays lie over has died. */
  onLowerLost(): Promise<void>;
}

interface LiveMount {
  record: MountRecord;
  /** Absent where it could not be brought back. */
  placed?: Placed;
  release(): Promise<void>;
}

/** How often providers are looked for that are expected. */
const LOOK_MS = 100;

function mountsFile(home: string): string {
  return join(home, 'mounts.json');
}

export async function readMounts(home: string): Promise<MountRecord[]> {
  const state = (await readState(mountsFile(home))) as { mounts: StoredMount[] } | undefined;
  return (state?.mounts ?? []).map(({ root, ...rest }) => ({ ...rest, root: parseLink(root) }));
}

type StoredMount = Omit<MountRecord, 'root'> & { root: string };

export function createMountTable(options: MountTableOptions): MountTable {
  const { home, store, fetch, log, keeper, resolveOrigin, resolved, expectsPeers, onLowerLost } = options;
  const live = new Map<string, LiveMount>();
  const { demand } = fetch;
  const readAhead = createReadAhead({
    store,
    fetch,
    resolved,
    allows: mayPrefetch,
    onError: (error) => log.warn({ error: String(error) }, 'not read ahead'),
  });
  const packagesAhead = createPackagesAhead({
    source: fetch,
    resolved,
    resolve: (root, entry, signal) => resolveOrigin(root, entry, { signal, ahead: true }),
    allows: mayPrefetch,
    standBack: demand.standBack,
    onError: (error) => log.warn({ error: (error as Error).message }, 'not resolved ahead'),
  });
  const serve = {
    keeper,
    storeDirectory: store.directory,
    push: true,
    fetch({ root, path, links, signal }: FetchRequest) {
      readAhead.after({ root, path, links });
      return demand.during(() =>
        Promise.all(links.map(async (link) => ({ link, bytes: await get(link, signal) }))),
      );
    },
    resolveOrigin({ root, path, entry, signal }: OriginRequest) {
      packagesAhead.after({ root, path, entry });
      return demand.during(() => resolveOrigin(root === '' ? undefined : parseLink(root), entry, { signal }));
    },
    onFailure({ root, path, origin, error }: ServeFailure) {
      const cid = (error as { cid?: string }).cid;
      const about = { root, path, cid, origin, error: (error as Error).message };
      log.error({ ...about, providers: fetch.providers() }, 'EIO');
    },
  };
  const bases = createBaseMounts({
    home,
    serve,
    log,
    onEnded(kind, error) {
      log.error({ kind, error: error && String(error) }, 'a FUSE connection has ended');
      void (kind === 'trees' ? recover() : onLowerLost());
    },
  });
  let placement: Promise<Place> | undefined;

  /** Whoever wants nothing prefetched has asked for it. */
  function mayPrefetch(root: Link): boolean {
    return ![...live.values()].some(({ record }) => record.root === root && !record.prefetch);
  }

  /** What nobody has may be somebody's who is about to be known. */
  async function get(link: Link, signal: AbortSignal): Promise<Uint8Array> {
    for (;;) {
      try {
        return await fetch.get(link, { signal });
      } catch (error) {
        if (!expectsPeers() || fetch.status().length > 0) throw error;
        await sleep(LOOK_MS, undefined, { signal });
      }
    }
  }

  /** One after another: each has all that is mounted by then. */
  function save(): Promise<void> {
    const mounts = () =>
      [...live.values()].map(({ record }) => ({ ...record, root: formatLink(record.root) }));
    const saved = saving.then(() => writeState(mountsFile(home), { mounts: mounts() }));
    saving = saved.catch(() => undefined);
    return saved;
  }
  let saving: Promise<void> = Promise.resolve();

  /** What is mounted can be read on a full disk, too: only the next daemon does not know of it. */
  async function remember(): Promise<void> {
    try {
      await save();
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'NO_SPACE') throw error;
      log.error({ error: (error as Error).message }, 'what is mounted is not remembered');
    }
  }

  async function attach(record: MountRecord): Promise<LiveMount> {
    const withdraw = await provideImage(fetch, record.image);
    const prefetching = new AbortController();
    const release = async () => {
      prefetching.abort();
      await withdraw();
    };
    try {
      await bringNodes(record.root, prefetching.signal);
      // While it is being mounted, so that whoever reads then finds it there.
      if (record.prefetch) prefetch(record.root, prefetching.signal);
      placement ??= choosePlacement({
        bases,
        serve,
        onDied(target, error) {
          log.error({ target, error: error && String(error) }, 'a FUSE connection has ended');
          void remount(target);
        },
      });
      const place = await placement;
      const placed = await place(record.root, record.target);
      return { record, placed, release };
    } catch (error) {
      await release();
      throw fromSystemError(error, `mounting on '${record.target}'`);
    }
  }

  /** Brings every directory with one request, so that listing them waits for nobody. */
  async function bringNodes(root: Link, signal: AbortSignal): Promise<void> {
    if (fetch.status().length > 0) {
      await fetch.bringTree(root, { signal, readable: true }).catch((error: unknown) => {
        log.warn({ root: formatLink(root), error: (error as Error).message }, 'not all directories are here');
      });
    }
    // A root that cannot be read is told of here, and not by an errno.
    await readNode(fetch, root);
  }

  /** Only what is elsewhere has to be fetched. */
  function prefetch(root: Link, signal: AbortSignal): void {
    if (fetch.providers().length === 0) return;
    readAccessOrder(home, root)
      .then((order) => prefetchOrder(fetch, root, { order, signal, idle: demand.standBack }))
      .catch((error: unknown) => {
        if (!signal.aborted) log.warn({ root: formatLink(root), error: String(error) }, 'not prefetched');
      });
  }

  async function recover(): Promise<void> {
    for (const target of live.keys()) await remount(target);
  }

  /** Mounts again what a dead connection has left. */
  async function remount(target: string): Promise<void> {
    const mounted = live.get(target);
    if (!mounted) return;
    try {
      await detachStale(target);
      await mounted.release();
      live.set(target, await attach(mounted.record));
    } catch (error) {
      live.set(target, { record: mounted.record, async release() {} });
      log.error({ target, error: (error as Error).message }, 'not mounted again');
    }
  }

  /** Keeps what a report says of the order in which files were read. Of what cannot be reached there is none. */
  async function learn(asked: Promise<ServerReport | undefined>): Promise<ServerReport | undefined> {
    const report = await asked.catch(() => undefined);
    for (const { root, firstReads } of report?.uses ?? []) {
      if (firstReads.length === 0) continue;
      await extendAccessOrder(home, root, firstReads).catch((error: unknown) =>
        log.warn({ root: formatLink(root), error: String(error) }, 'the order of a tree was not kept'),
      );
    }
    return report;
  }

  const reportOf = (kind: BaseKind) => learn((async () => (await bases.opened(kind))?.session.report())());

  async function mountOn(record: MountRecord): Promise<MountRecord> {
    const { target, madeTarget } = record;
    try {
      live.set(target, await attach(record));
      await remember();
      return record;
    } catch (error) {
      const mounted = live.get(target);
      live.delete(target);
      if (mounted) {
        await mounted.placed?.detach({ lazy: true });
        await mounted.release();
      }
      if (madeTarget) await removeTarget(target);
      throw error;
    }
  }

  const table: MountTable = {
    demand,
    prepare(kind) {
      // Who mounts then meets the same error, and tells of it.
      void mayMount()
        .then((may) => (may ? bases.open(kind) : undefined))
        .catch(() => undefined);
    },
    async mount({ root, target: path, tree, image, prefetch: prefetches }) {
      const target = await canonicalTarget(path);
      if (live.has(target)) {
        throw new LazytreeError('REFUSED', `'${target}' is mounted already`, {
          hint: `unmount it with \`lazytree unmount ${target}\``,
        });
      }
      const giveBack = takeTarget(target);
      try {
        const madeTarget = await prepareTarget(target);
        return await mountOn({ target, root, tree, image, madeTarget, prefetch: prefetches });
      } finally {
        giveBack();
      }
    },

    async unmount(path, { lazy }) {
      const target = await canonicalTarget(path);
      const mounted = live.get(target);
      if (!mounted) {
        throw new LazytreeError('NOT_FOUND', `'${target}' is not a mount of lazytree`, {
          hint: '`lazytree mounts` lists them',
        });
      }
      await learn(reportFrom(mounted.placed));
      await mounted.placed?.detach({ lazy });
      live.delete(target);
      await remember();
      await mounted.release();
      if (mounted.record.madeTarget) await removeTarget(target);
      return mounted.record;
    },

    async list() {
      const mounts = await readMountInfo();
      return Promise.all(
        [...live.values()].map(async ({ record, placed }): Promise<MountStatus> => {
          const seen = mountAt(mounts, record.target)?.type === FUSE_TYPE;
          const { size, files } = await totalsOf(fetch, record.root);
          const use = useOf(record.root, await learn(reportFrom(placed)));
          return { ...record, state: placed ? (seen ? 'mounted' : 'unmounted') : 'failed', size, files, use };
        }),
      );
    },

    async lowerDirectory(root) {
      await bringNodes(root, new AbortController().signal);
      const { directory, inherited } = await bases.open('lower');
      return { lower: join(directory, formatLink(root)), inherited };
    },

    async inheritLower({ wanted }) {
      if (!wanted) {
        bases.abandon('lower');
        return false;
      }
      return (await bases.open('lower')).inherited;
    },

    async learnOrders() {
      await reportOf('lower');
      for (const { placed } of live.values()) await learn(reportFrom(placed));
    },

    async usesBelow() {
      const report = await reportOf('lower');
      return (root) => useOf(root, report);
    },

    async restore() {
      for (const record of await readMounts(home)) {
        try {
          live.set(record.target, await attach(record));
        } catch (error) {
          live.set(record.target, { record, async release() {} });
          await removeRemains(record.target, log);
          log.error(
            { target: record.target, tree: record.tree, error: (error as Error).message },
            'not mounted again',
          );
        }
      }
    },

    removeRemains: bases.removeRemains,

    count: () => live.size,

    async close() {
      readAhead.close();
      packagesAhead.close();
      await table.learnOrders();
      await Promise.all(
        [...live.values()].map(async ({ record: { target }, placed, release }) => {
          await placed
            ?.close()
            .catch((error: unknown) =>
              log.error({ target, error: (error as Error).message }, 'not unmounted'),
            );
          await release();
        }),
      );
      live.clear();
      await bases.close();
    },
  };
  return table;
}

/** What a directory says of itself; nothing where it cannot be read, which other commands tell of. */
export async function totalsOf(source: BlockSource, root: Link): Promise<Totals> {
  return readNode(source, root).catch(() => ({ size: 0, files: 0 }));
}

async function reportFrom(placed: Placed | undefined): Promise<ServerReport | undefined> {
  return placed?.report();
}

function useOf(root: Link, report: ServerReport | undefined): MountUse {
  const use = report?.uses.find((candidate) => candidate.root === root);
  const { requests = 0, reads = 0, bytes = 0, fetched = 0, pushed = 0 } = use ?? {};
  return { requests, reads, bytes, hits: requests - fetched, fetched, pushed };
}
