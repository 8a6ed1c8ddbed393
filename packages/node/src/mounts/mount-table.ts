import { join } from 'node:path';
import {
  formatLink,
  fromSystemError,
  LazytreeError,
  type Link,
  type LocalStore,
  parseLink,
  readNode,
} from '@lazytree/core';
import { createDemand, type Demand } from '../fetch/demand.js';
import { type FetchChain, provideImage } from '../fetch/fetch-chain.js';
import { mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import { MountFlag, mount as mountCall } from '../fuse/device/system-calls.js';
import type { ServerReport } from '../fuse/session/messages.js';
import { extendAccessOrder, readAccessOrder } from '../prefetch/access-order.js';
import { prefetchOrder } from '../prefetch/prefetch.js';
import { readState, writeState } from '../state-file.js';
import {
  type BaseKind,
  type BaseMount,
  baseDirectory,
  closeBaseMount,
  detachStale,
  openBaseMount,
} from './base-mount.js';
import { detach } from './detach.js';
import { canonicalTarget, prepareTarget, removeTarget } from './target.js';

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
  /** @throws LazytreeError NOT_FOUND; REFUSED, with who holds it, unless `lazy` */
  unmount(path: string, options: { lazy: boolean }): Promise<MountRecord>;
  list(): Promise<MountStatus[]>;
  /** Where overlays find a root; its content is looked for in `image` as well. */
  lowerDirectory(root: Link): Promise<string>;
  use(root: Link, kind: BaseKind): Promise<MountUse>;
  /** Mounts again what an earlier daemon had mounted. */
  restore(): Promise<void>;
  count(): number;
  /** Unmounts everything; it is remembered, and back with the next daemon. */
  close(): Promise<void>;
}

export interface MountTableOptions {
  home: string;
  store: LocalStore;
  fetch: FetchChain;
  log: MountLog;
}

export interface MountLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

interface LiveMount {
  record: MountRecord;
  state: 'mounted' | 'failed';
  release(): Promise<void>;
}

export function mountsFile(home: string): string {
  return join(home, 'mounts.json');
}

export async function readMounts(home: string): Promise<MountRecord[]> {
  const state = (await readState(mountsFile(home))) as { mounts: StoredMount[] } | undefined;
  return (state?.mounts ?? []).map(({ root, ...rest }) => ({ ...rest, root: parseLink(root) }));
}

type StoredMount = Omit<MountRecord, 'root'> & { root: string };

export function createMountTable({ home, store, fetch, log }: MountTableOptions): MountTable {
  const live = new Map<string, LiveMount>();
  const bases = new Map<BaseKind, Promise<BaseMount>>();
  const demand = createDemand();

  function base(kind: BaseKind): Promise<BaseMount> {
    let opening = bases.get(kind);
    if (!opening) {
      opening = openBaseMount(baseDirectory(home, kind), {
        storeDirectory: store.directory,
        xattrs: kind === 'trees',
        push: true,
        fetch: ({ links, signal }) =>
          demand.during(() =>
            Promise.all(links.map(async (link) => ({ link, bytes: await fetch.get(link, { signal }) }))),
          ),
        onFailure({ root, path, error }) {
          const cid = (error as { cid?: string }).cid;
          log.error(
            { root, path, cid, error: (error as Error).message, providers: fetch.providers() },
            'EIO',
          );
        },
      });
      bases.set(kind, opening);
      opening.then(
        (opened) => void watch(kind, opened),
        () => bases.delete(kind),
      );
    }
    return opening;
  }

  /** A superblock that ends though nobody wanted it to takes its mounts with it. */
  async function watch(kind: BaseKind, opened: BaseMount): Promise<void> {
    const error = await opened.session.ended.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    const current = bases.get(kind);
    if (!current || (await current) !== opened) return;
    bases.delete(kind);
    log.error({ kind, error: error && String(error) }, 'a FUSE connection has ended');
  }

  async function save(): Promise<void> {
    const mounts = [...live.values()].map(({ record }) => ({ ...record, root: formatLink(record.root) }));
    await writeState(mountsFile(home), { mounts });
  }

  async function attach(record: MountRecord): Promise<LiveMount> {
    const withdraw = await provideImage(fetch, record.image);
    const prefetching = new AbortController();
    const release = async () => {
      prefetching.abort();
      await withdraw();
    };
    try {
      // A root that cannot be read is told of here, and not by an errno.
      await readNode(fetch, record.root);
      const { directory } = await base('trees');
      await mountCall({
        source: join(directory, formatLink(record.root)),
        target: record.target,
        flags: MountFlag.BIND,
      });
      if (record.prefetch) prefetch(record.root, prefetching.signal);
      return { record, state: 'mounted', release };
    } catch (error) {
      await release();
      throw fromSystemError(error, `mounting on '${record.target}'`);
    }
  }

  /** Only what is elsewhere has to be fetched. */
  function prefetch(root: Link, signal: AbortSignal): void {
    if (fetch.providers().length === 0) return;
    readAccessOrder(home, root)
      .then((order) => prefetchOrder(fetch, root, { order, signal, idle: demand.idle }))
      .catch((error: unknown) => {
        if (!signal.aborted) log.warn({ root: formatLink(root), error: String(error) }, 'not prefetched');
      });
  }

  async function reportOf(kind: BaseKind): Promise<ServerReport | undefined> {
    const opened = await bases.get(kind);
    const report = await opened?.session.report();
    for (const { root, firstReads } of report?.uses ?? []) {
      if (firstReads.length > 0) await extendAccessOrder(home, root, firstReads);
    }
    return report;
  }

  const table: MountTable = {
    demand,
    async mount({ root, target: path, tree, image, prefetch: prefetches }) {
      const target = await canonicalTarget(path);
      if (live.has(target)) {
        throw new LazytreeError('REFUSED', `'${target}' is mounted already`, {
          hint: `unmount it with \`lazytree unmount ${target}\``,
        });
      }
      const madeTarget = await prepareTarget(target);
      const record = { target, root, tree, image, madeTarget, prefetch: prefetches };
      try {
        live.set(target, await attach(record));
        await save();
        return record;
      } catch (error) {
        const mounted = live.get(target);
        live.delete(target);
        if (mounted) {
          await detach(target, { lazy: true });
          await mounted.release();
        }
        if (madeTarget) await removeTarget(target);
        throw error;
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
      await reportOf('trees');
      await detach(target, { lazy });
      live.delete(target);
      await save();
      await mounted.release();
      if (mounted.record.madeTarget) await removeTarget(target);
      return mounted.record;
    },

    async list() {
      const mounts = await readMountInfo();
      return Promise.all(
        [...live.values()].map(async ({ record, state }): Promise<MountStatus> => {
          const seen = mountAt(mounts, record.target)?.type === 'fuse.lazytree';
          const { size, files } = await readNode(fetch, record.root);
          const use = await table.use(record.root, 'trees');
          return { ...record, state: state === 'mounted' && !seen ? 'unmounted' : state, size, files, use };
        }),
      );
    },

    async lowerDirectory(root) {
      await readNode(fetch, root);
      const { directory } = await base('lower');
      return join(directory, formatLink(root));
    },

    async use(root, kind) {
      return useOf(root, await reportOf(kind));
    },

    async restore() {
      for (const record of await readMounts(home)) {
        try {
          await detachStale(record.target);
          live.set(record.target, await attach(record));
        } catch (error) {
          live.set(record.target, { record, state: 'failed', async release() {} });
          log.error(
            { target: record.target, tree: record.tree, error: (error as Error).message },
            'not mounted again',
          );
        }
      }
    },

    count: () => live.size,

    async close() {
      await Promise.all([reportOf('trees'), reportOf('lower')]);
      for (const [target, mounted] of live) {
        if (mounted.state === 'mounted') await detach(target, { lazy: true });
        await mounted.release();
      }
      live.clear();
      const opened = await Promise.all(bases.values());
      bases.clear();
      for (const mounted of opened) await closeBaseMount(mounted);
    },
  };
  return table;
}

function useOf(root: Link, report: ServerReport | undefined): MountUse {
  const use = report?.uses.find((candidate) => candidate.root === root);
  const { requests = 0, reads = 0, bytes = 0, fetched = 0, pushed = 0 } = use ?? {};
  return { requests, reads, bytes, hits: requests - fetched, fetched, pushed };
}
