import { join } from 'node:path';
import { formatLink, type Link } from '@lazytree/core';
import { mayMount } from '../fuse/device/privilege.js';
import { MountFlag, mount } from '../fuse/device/system-calls.js';
import type { ServerReport } from '../fuse/session/messages.js';
import type { BaseMounts } from './base-mount.js';
import { type ConnectionOptions, closeConnection, endConnection, openConnection } from './connection.js';
import { detach } from './detach.js';

/** A root that is shown at a mount point. */
export interface Placed {
  report(): Promise<ServerReport | undefined>;
  /** @throws LazytreeError REFUSED, naming who holds it, unless `lazy` */
  detach(options: { lazy: boolean }): Promise<void>;
  /** Takes it away when the daemon ends. */
  close(): Promise<void>;
}

/** How a root gets to a mount point. */
export type Place = (root: Link, target: string) => Promise<Placed>;

export interface PlacementOptions {
  bases: BaseMounts;
  serve: Omit<ConnectionOptions, 'view' | 'xattrs'>;
}

/** A bind of the one superblock, or, for those who may not bind, a connection for each mount point. */
export async function choosePlacement({ bases, serve }: PlacementOptions): Promise<Place> {
  return (await mayMount()) ? placeByBind(bases) : placeByConnection(serve);
}

function placeByBind(bases: BaseMounts): Place {
  return async (root, target) => {
    const { directory } = await bases.open('trees');
    await mount({ source: join(directory, formatLink(root)), target, flags: MountFlag.BIND });
    return {
      report: async () => (await bases.opened('trees'))?.session.report(),
      detach: (options) => detach(target, options),
      close: () => detach(target, { lazy: true }),
    };
  };
}

function placeByConnection(serve: PlacementOptions['serve']): Place {
  return async (root, target) => {
    const connection = await openConnection(target, { ...serve, view: { root }, xattrs: true });
    let open = true;
    connection.session.ended
      .catch(() => undefined)
      .then(() => {
        open = false;
      });
    return {
      report: async () => (open ? connection.session.report().catch(() => undefined) : undefined),
      async detach({ lazy }) {
        await detach(target, { lazy });
        if (!lazy) void endConnection(connection);
      },
      close: () => closeConnection(connection),
    };
  };
}
