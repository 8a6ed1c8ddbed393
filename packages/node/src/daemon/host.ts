import type { Link } from '@lazytree/core';
import { createFetchChain, type FetchChain, provideImage } from '../fetch/fetch-chain.js';
import { type Home, openHome } from '../home.js';
import { createMountTable, type MountTable } from '../mounts/mount-table.js';
import { type PrefetchOptions, type PrefetchProgress, prefetchTree } from '../prefetch/prefetch.js';
import { createWorkspaces, type Workspaces } from '../workspaces/workspaces.js';
import type { Log } from './log.js';

/** What a daemon owns for as long as it runs. */
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
  close(): Promise<void>;
}

export interface OpenHostOptions {
  /** The home's directory; made if need be. */
  home: string;
  log: Log;
}

/**
 * Opens a home, and mounts again what was mounted when it was last closed or its daemon was killed.
 *
 * @throws LazytreeError as openHome
 */
export async function openHost({ home: directory, log }: OpenHostOptions): Promise<Host> {
  const home = await openHome({ directory, create: true });
  const { store } = home;
  const fetch = createFetchChain(store, {
    onRepaired: (cid, provider) => log.warn({ cid, provider }, 'a damaged block was replaced'),
    onNotKept: (cid, error) => log.error({ cid, error: String(error) }, 'a block could not be kept'),
  });
  const mounts = createMountTable({ home: directory, store, fetch, log });
  const workspaces = createWorkspaces({ home: directory, store, fetch, mounts, log });
  await mounts.restore();
  await workspaces.restoreAll();
  return {
    home,
    log,
    fetch,
    mounts,
    workspaces,
    async prefetch(root, { image, ...options }) {
      const withdraw = await provideImage(fetch, image);
      try {
        return await prefetchTree(fetch, root, { ...options, idle: mounts.demand.idle });
      } finally {
        await withdraw();
      }
    },
    busy: () => mounts.count() + workspaces.count() > 0,
    async close() {
      await workspaces.close();
      await mounts.close();
      await home.close();
    },
  };
}
