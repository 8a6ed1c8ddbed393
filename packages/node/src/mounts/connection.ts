import { mkdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '@lazytree/core';
import { mountFuse } from '../fuse/device/mount-fuse.js';
import { mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import { unmount } from '../fuse/device/unmount.js';
import { type Session, type SessionOptions, startSession } from '../fuse/session/session.js';

/** A mounted and served FUSE connection. */
export interface Connection {
  directory: string;
  session: Session;
  /** What the kernel calls it by. */
  number: number;
}

export type ConnectionOptions = Omit<SessionOptions, 'device' | 'target'>;

const ABORT_AFTER_MS = 2000;

/** Mounts and serves a connection on a directory, in the place of what a process that was killed has left there. */
export async function openConnection(directory: string, options: ConnectionOptions): Promise<Connection> {
  await detachStale(directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const device = await mountFuse(directory);
  const session = startSession({ ...options, device, target: directory });
  await session.serving;
  const number = mountAt(await readMountInfo(), directory)?.minor ?? 0;
  return { directory, session, number };
}

/** What a process that was killed has left there. A dead mount answers no one, but can be taken away. */
export async function detachStale(target: string): Promise<boolean> {
  let found = false;
  while (mountAt(await readMountInfo(), target)) {
    await unmount(target, { lazy: true });
    found = true;
  }
  return found;
}

/** Unmounts it, and does not wait for those who still use what it serves. */
export async function closeConnection(connection: Connection): Promise<void> {
  await unmount(connection.directory, { lazy: true }).catch((error: unknown) => {
    if (errnoOf(error) !== 'EINVAL' && errnoOf(error) !== 'ENOENT') throw error;
  });
  await endConnection(connection);
}

/**
 * Ends a connection that is not mounted here any more. Another mount namespace may have it still, as those of
 * workspaces without root do.
 */
export async function endConnection({ session, number }: Connection): Promise<void> {
  const ended = session.ended.then(
    () => true,
    () => true,
  );
  const inTime = () => Promise.race([ended, sleep(ABORT_AFTER_MS, false, { ref: false })]);
  if (await inTime()) return;
  await abortConnection(number);
  // Where there is no fusectl, it ends with this process.
  await inTime();
}

/** Ends a connection whatever state it is in (fusectl; Documentation/filesystems/fuse.rst in Linux). */
export async function abortConnection(connection: number): Promise<void> {
  await writeFile(`/sys/fs/fuse/connections/${connection}/abort`, '1').catch((error: unknown) => {
    // It has ended by itself.
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
}
