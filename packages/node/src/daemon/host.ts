import type { Link } from '@lazytree/core';
import { createFetchChain, type FetchChain, provideImage } from '../fetch/fetch-chain.js';
import { warmUp } from '../fuse/session/session.js';
import { type Home, openHome } from '../home.js';
import { type Keeper, openKeeper } from '../keeper/keeper.js';
import { createMountTable, type MountTable } from '../mounts/mount-table.js';
import { type PrefetchOptions, type PrefetchProgress, prefetchTree } from '../prefetch/prefetch.js';
import { createWorkspaces, type Workspaces } from '../workspaces/workspaces.js';
import type { Log } from './log.js';

/** What a daemon owns for as long as it runs. Its parts are to be asked for anew by every command: see `refresh`. */
export interface Host {
  readonly home: Home;
  readonly log: Log;
  readonly fetch: FetchChain;
  readonly mounts: MountTable;
  readonly workspaces: Workspaces;
  /** Brings all of a tree into the store. */
  prefetch(root: Link, options: PrefetchOptions & { image?: string | undefined }): Promise<PrefetchProgress>;
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

export interface OpenHostOptions {
  /** The home's directory; made if need be. */
  home: string;
  version: string;
  log: Log;
  /** How long mounts wait for another daemon when this one is killed, before they fail; 0 for not at all. */
  keepMs: number;
  /** Something is about to be mounted. */
  soon?: boolean;
}

/**
 * Opens a home, and mounts again what was mounted when it was last closed. What was mounted when its daemon was killed
 * is served on, if it has been kept.
 *
 * @throws LazytreeError as openHome
 */
export async function openHost(options: OpenHostOptions): Promise<Host> {
  const { home: directory, version, log, keepMs, soon } = options;
  if (soon) warmUp();
  const opened = await openHome({ directory, create: true });
  const keeper = openKeeper({ home: directory, version, milliseconds: keepMs, log });
  let parts = partsOf(opened, keeper, log);
  let distrusted = false;
  await parts.mounts.restore();
  await parts.workspaces.restoreAll();
  keeper.settle();
  const busy = () => parts.mounts.count() + parts.workspaces.count() > 0;

  async function closeParts(): Promise<void> {
    await parts.workspaces.close();
    await parts.mounts.close();
    await parts.fetch.close();
    await parts.home.close();
  }

  return {
    log,
    get home() {
      return parts.home;
    },
    get fetch() {
      return parts.fetch;
    },
    get mounts() {
      return parts.mounts;
    },
    get workspaces() {
      return parts.workspaces;
    },
    async prefetch(root, { image, ...options }) {
      const { fetch, mounts, home } = parts;
      const withdraw = await provideImage(fetch, image);
      try {
        const fetched = await prefetchTree(fetch, root, { ...options, idle: mounts.demand.idle });
        await home.store.flush();
        return fetched;
      } finally {
        await withdraw();
      }
    },
    busy,
    distrust() {
      distrusted = true;
    },
    async refresh() {
      if (!distrusted || busy()) return;
      // What could not be written is given up with it, and its space given back.
      await closeParts().catch((err) => log.warn({ err }, 'not everything could be written'));
      parts = partsOf(await openHome({ directory, create: false }), keeper, log);
      distrusted = false;
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

type Parts = Pick<Host, 'home' | 'fetch' | 'mounts' | 'workspaces'>;

function partsOf(home: Home, keeper: Keeper, log: Log): Parts {
  const { directory, store } = home;
  const fetch = createFetchChain(store, {
    onRepaired: (cid, provider) => log.warn({ cid, provider }, 'a damaged block was replaced'),
    onNotKept: (cid, error) => log.error({ cid, error: String(error) }, 'a block could not be kept'),
  });
  const onLowerLost = () => workspaces.recover();
  const mounts = createMountTable({ home: directory, store, fetch, keeper, log, onLowerLost });
  const workspaces: Workspaces = createWorkspaces({ home: directory, store, fetch, mounts, log });
  return { home, fetch, mounts, workspaces };
}
