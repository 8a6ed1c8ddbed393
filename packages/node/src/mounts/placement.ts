import { join } from 'node:path';
import { formatLink, type Link } from '@lazytree/core';
import { mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import { mayMount } from '../fuse/device/privilege.js';
import { MountFlag, mount } from '../fuse/device/system-calls.js';
import type { ServerReport } from '../fuse/session/messages.js';
import type { BaseMounts } from './base-mount.js';
import {
  type Connection,
  type ConnectionOptions,
  closeConnection,
  detachStale,
  endConnection,
  openConnection,
} from './connection.js';
import { detach } from './detach.js';

/** A root that is shown at a mount point. */
export interface Placed {
  report(): Promise<ServerReport | undefined>;
  /** @throws LazytreeError REFUSED, naming who holds it, unless `lazy` */
  detach(options: { lazy: boolean }): Promise<void>;
  /** Takes it away when the daemon ends. */
  close(): Promise<void>;
}

/**
 * How a root gets to a mount point: in the place of what an earlier daemon has left there, unless that is served on.
 *
 * @throws LazytreeError REFUSED when something else is mounted there
 */
export type Place = (root: Link, target: string) => Promise<Placed>;

export interface PlacementOptions {
  bases: BaseMounts;
  serve: Omit<ConnectionOptions, 'view' | 'xattrs'>;
  /** Told of a connection that is dead, and still mounted. */
  onDied(target: string, error: unknown): void;
}

/** A bind of the one superblock, or, for those who may not bind, a connection for each mount point. */
export async function choosePlacement(options: PlacementOptions): Promise<Place> {
  return (await mayMount()) ? placeByBind(options.bases) : placeByConnection(options);
}

function placeByBind(bases: BaseMounts): Place {
  return async (root, target) => {
    const base = await bases.open('trees');
    if (!(await isShown(base, root, target))) {
      await detachStale(target);
      await mount({ source: join(base.directory, formatLink(root)), target, flags: MountFlag.BIND });
    }
    return {
      report: async () => (await bases.opened('trees'))?.session.report(),
      detach: (options) => detach(target, options),
      close: () => detach(target, { lazy: true }),
    };
  };
}

/** Whether a connection that goes on is bound there already. */
async function isShown({ inherited, number }: Connection, root: Link, target: string): Promise<boolean> {
  if (!inherited) return false;
  const there = mountAt(await readMountInfo(), target);
  return there?.minor === number && there.root === `/${formatLink(root)}`;
}

function placeByConnection({ serve, onDied }: PlacementOptions): Place {
  return async (root, target) => {
    const connection = await openConnection(target, { ...serve, view: { root }, xattrs: true });
    let open = true;
    let wanted = true;
    const end = (error?: unknown) => {
      open = false;
      if (wanted) void tellOfDeath(error);
    };
    connection.session.ended.then(() => end(), end);

    /** Whoever has unmounted it wants it so. */
    async function tellOfDeath(error: unknown): Promise<void> {
      if (mountAt(await readMountInfo(), target)?.minor === connection.number) onDied(target, error);
    }

    return {
      report: async () => (open ? connection.session.report() : undefined),
      async detach({ lazy }) {
        await detach(target, { lazy });
        wanted = false;
        if (!lazy) void endConnection(connection);
      },
      async close() {
        wanted = false;
        await closeConnection(connection);
      },
    };
  };
}
