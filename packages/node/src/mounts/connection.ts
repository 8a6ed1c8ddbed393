import { mkdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '@lazytree/core';
import { mountFuse } from '../fuse/device/mount-fuse.js';
import { isOurs, type MountInfo, mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import { unmount } from '../fuse/device/unmount.js';
import { type Session, type SessionOptions, startSession } from '../fuse/session/session.js';
import { covered } from './detach.js';

/** A mounted and served FUSE connection. */
export interface Connection {
  directory: string;
  session: Session;
  /** What the kernel calls it by. */
  number: number;
}

export type ConnectionOptions = Omit<SessionOptions, 'device' | 'target'>;

/** Four requests. */
const READ_AHEAD_KIB = 4096;
/** An unmount that is the last ends it at once. */
const LINGER_MS = 100;
/** A server that does not hear of it within this is stuck. */
const ABORT_AFTER_MS = 2000;

/** Mounts and serves a connection on a directory, in the place of what a process that was killed has left there. */
export async function openConnection(directory: string, options: ConnectionOptions): Promise<Connection> {
  await detachStale(directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const device = await mountFuse(directory);
  const session = startSession({ ...options, device, target: directory });
  await session.serving;
  const mount = mountAt(await readMountInfo(), directory);
  if (mount) await readAhead(mount);
  return { directory, session, number: mount?.minor ?? 0 };
}

/**
 * Lets the kernel read ahead further than the 128 KiB that it allows file systems at first, so that large files come in
 * requests of 1 MiB (Documentation/ABI/testing/sysfs-class-bdi). It is root's to say.
 */
async function readAhead({ major, minor }: MountInfo): Promise<void> {
  await writeFile(`/sys/class/bdi/${major}:${minor}/read_ahead_kb`, String(READ_AHEAD_KIB)).catch(
    (error: unknown) => {
      if (!['EACCES', 'EPERM', 'EROFS', 'ENOENT'].includes(errnoOf(error) ?? '')) throw error;
    },
  );
}

/**
 * Takes away what a process that was killed has left there. A dead mount answers no one, but can be taken away.
 *
 * @throws LazytreeError REFUSED when something else is mounted there
 */
export async function detachStale(target: string): Promise<void> {
  for (;;) {
    const found = mountAt(await readMountInfo(), target);
    if (!found) return;
    if (!isOurs(found)) throw covered(target, found);
    await unmount(target, { lazy: true });
  }
}

/** Unmounts it, and does not wait for those who still use what it serves. */
export async function closeConnection(connection: Connection): Promise<void> {
  await unmount(connection.directory, { lazy: true }).catch((error: unknown) => {
    if (errnoOf(error) !== 'EINVAL' && errnoOf(error) !== 'ENOENT') throw error;
  });
  await endConnection(connection);
}

/**
 * Ends a connection that is not mounted here any more. Other mount namespaces may have it still: those of containers
 * and services, and that of workspaces without root.
 */
export async function endConnection({ session, number }: Connection): Promise<void> {
  const ended = session.ended.then(
    () => true,
    () => true,
  );
  const within = (ms: number) => Promise.race([ended, sleep(ms, false, { ref: false })]);
  if (await within(LINGER_MS)) return;
  session.stop();
  if (await within(ABORT_AFTER_MS)) return;
  await abortConnection(number);
  await ended;
}

/** Ends a connection whatever state it is in (fusectl; Documentation/filesystems/fuse.rst in Linux). */
async function abortConnection(connection: number): Promise<void> {
  await writeFile(`/sys/fs/fuse/connections/${connection}/abort`, '1').catch((error: unknown) => {
    // It has ended by itself.
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
}
