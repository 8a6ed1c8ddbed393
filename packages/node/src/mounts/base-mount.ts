import { join } from 'node:path';
import { mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import {
  abandonConnections,
  type Connection,
  type ConnectionOptions,
  closeConnection,
  openConnection,
  removeRemains,
} from './connection.js';
import type { MountLog } from './mount-log.js';

/**
 * The superblocks that serve every root at `/<CID>`, each below the home at a place of its own. `trees` tells the CID
 * of a file as an extended attribute; `lower` answers none, because overlays would ask for one with every file.
 */
export type BaseKind = (typeof KINDS)[number];

const KINDS = ['trees', 'lower'] as const;

/** Connections that all mounts of a kind share, opened when they are first asked for. */
export interface BaseMounts {
  open(kind: BaseKind): Promise<Connection>;
  /** Lets go of what an earlier daemon has left. */
  abandon(kind: BaseKind): void;
  /** Takes away what an earlier daemon has left of those that are not open. */
  removeRemains(): Promise<void>;
  /** If it is open. */
  opened(kind: BaseKind): Promise<Connection | undefined>;
  close(): Promise<void>;
}

export interface BaseMountsOptions {
  home: string;
  serve: Omit<ConnectionOptions, 'view' | 'xattrs'>;
  log: Pick<MountLog, 'error'>;
  /** Told of a connection that ends though nobody wanted it to, and takes its mounts with it. */
  onEnded(kind: BaseKind, error: unknown): void;
}

export function createBaseMounts({ home, serve, log, onEnded }: BaseMountsOptions): BaseMounts {
  const bases = new Map<BaseKind, Promise<Connection>>();
  const retired: Connection[] = [];
  const placeOf = (kind: BaseKind) => join(home, 'mnt', kind);

  async function watch(kind: BaseKind, connection: Connection): Promise<void> {
    const error = await connection.session.ended.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    const current = bases.get(kind);
    if (!current || (await current) !== connection) return;
    bases.delete(kind);
    onEnded(kind, error);
  }

  function begin(kind: BaseKind): Promise<Connection> {
    const opening = openConnection(placeOf(kind), {
      ...serve,
      view: { allRoots: true },
      xattrs: kind === 'trees',
    });
    bases.set(kind, opening);
    opening.then(
      (opened) => void watch(kind, opened),
      () => bases.delete(kind),
    );
    return opening;
  }

  return {
    async open(kind) {
      const known = bases.get(kind);
      if (!known) return begin(kind);
      const connection = await known;
      if (await isInPlace(connection)) return connection;
      // Somebody has unmounted it: what was mounted from it goes on, and what comes needs another one.
      if (bases.get(kind) !== known) return this.open(kind);
      retired.push(connection);
      return begin(kind);
    },
    abandon(kind) {
      abandonConnections(placeOf(kind), serve.keeper);
    },
    async removeRemains() {
      for (const kind of KINDS) if (!bases.has(kind)) await removeRemains(placeOf(kind), log);
    },
    async opened(kind) {
      return bases.get(kind);
    },
    async close() {
      const opened = [...(await Promise.all(bases.values())), ...retired];
      bases.clear();
      for (const connection of opened) await closeConnection(connection);
    },
  };
}

async function isInPlace({ directory, number }: Connection): Promise<boolean> {
  return mountAt(await readMountInfo(), directory)?.minor === number;
}
