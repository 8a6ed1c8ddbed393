import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '@lazytree/core';
import { mountFuse } from '../fuse/device/mount-fuse.js';
import { mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import { UnmountFlag, unmount } from '../fuse/device/system-calls.js';
import { type Session, type SessionOptions, startSession } from '../fuse/session/session.js';

/**
 * The superblocks that serve every root at `/<CID>`, each below the home at a place of its own. `trees` tells the CID
 * of a file as an extended attribute; `lower` answers none, because overlays would ask for one with every file.
 */
export type BaseKind = 'trees' | 'lower';

export interface BaseMount {
  /** Where roots are found by CID. */
  directory: string;
  session: Session;
  /** The number of the FUSE connection. */
  connection: number;
}

const ABORT_AFTER_MS = 2000;

export function baseDirectory(home: string, kind: BaseKind): string {
  return join(home, 'mnt', kind);
}

export async function openBaseMount(
  directory: string,
  options: Omit<SessionOptions, 'device' | 'target' | 'view'>,
): Promise<BaseMount> {
  await detachStale(directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const device = await mountFuse(directory);
  const session = startSession({ ...options, device, target: directory, view: { allRoots: true } });
  await session.serving;
  const connection = mountAt(await readMountInfo(), directory)?.minor ?? 0;
  return { directory, session, connection };
}

/** What a process that was killed has left there. A dead mount answers no one, but can be taken away. */
export async function detachStale(target: string): Promise<boolean> {
  let found = false;
  while (mountAt(await readMountInfo(), target)) {
    await unmount(target, UnmountFlag.DETACH);
    found = true;
  }
  return found;
}

/** Unmounts it, and does not wait for those who still use what it serves. */
export async function closeBaseMount({ directory, session, connection }: BaseMount): Promise<void> {
  await unmount(directory, UnmountFlag.DETACH).catch((error: unknown) => {
    if (errnoOf(error) !== 'EINVAL' && errnoOf(error) !== 'ENOENT') throw error;
  });
  const ended = session.ended.catch(() => undefined);
  const inTime = await Promise.race([ended.then(() => true), sleep(ABORT_AFTER_MS, false, { ref: false })]);
  if (!inTime) await abortConnection(connection);
  await ended;
}

/** Ends a connection whatever state it is in (fusectl; Documentation/filesystems/fuse.rst in Linux). */
export async function abortConnection(connection: number): Promise<void> {
  await writeFile(`/sys/fs/fuse/connections/${connection}/abort`, '1').catch((error: unknown) => {
    // It has ended by itself.
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
}
