import fs from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { errnoOf, formatLink, type LazytreeError } from '@lazytree/core';
import { createMemoryFile } from '../fuse/device/memory-file.js';
import { mountFuse } from '../fuse/device/mount-fuse.js';
import { isOurs, type MountInfo, mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import { unmount } from '../fuse/device/unmount.js';
import {
  type Session,
  type SessionOptions,
  startSession,
  TABLE_BYTES,
  warmUp,
} from '../fuse/session/session.js';
import type { Keeper, Kept } from '../keeper/keeper.js';
import { hasFailed } from '../poll.js';
import { covered } from './detach.js';
import type { MountLog } from './mount-log.js';

/** A mounted and served FUSE connection. */
export interface Connection {
  directory: string;
  session: Session;
  /** What the kernel calls it by. */
  number: number;
  /** Whether it is an earlier daemon's, with all that was mounted from it. */
  inherited: boolean;
}

export interface ConnectionOptions extends Omit<SessionOptions, 'device' | 'table' | 'target'> {
  /** Keeps the connection for the next daemon, and has what the one before has left. */
  keeper: Keeper;
}

/** Four requests. */
const READ_AHEAD_KIB = 4096;
/** An unmount that is the last ends it at once. */
const LINGER_MS = 100;
/** A server that does not hear of it within this is stuck. */
const ABORT_AFTER_MS = 2000;

/**
 * Mounts and serves a connection on a directory. If a process that was killed has left one there that can be served
 * on, it is that one; else it is in its place.
 */
export async function openConnection(directory: string, options: ConnectionOptions): Promise<Connection> {
  warmUp();
  const inherited = await takeOver(directory, options);
  if (inherited) return inherited;
  await detachStale(directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const descriptor = createMemoryFile('lazytree nodes', TABLE_BYTES);
  let device: number;
  try {
    device = await mountFuse(directory);
  } catch (error) {
    fs.closeSync(descriptor);
    throw error;
  }
  const session = startSession({
    ...options,
    device,
    table: { descriptor, goOn: false },
    target: directory,
  });
  const { resends } = await session.serving;
  const mount = mountAt(await readMountInfo(), directory);
  if (mount) await readAhead(mount);
  const connection = { directory, session, number: mount?.minor ?? 0, inherited: false };
  if (resends) {
    const kept = options.keeper.keep(aboutOf(connection, options), [device, descriptor]);
    dropAtEnd(session, kept);
  }
  return connection;
}

/** What the next daemon has to know of a connection, and what it has to want in order to have it. */
interface About {
  directory: string;
  number: number;
  xattrs: boolean;
  /** Of the tree that it serves; empty for all roots. */
  root: string;
}

function aboutOf(
  { directory, number }: Pick<Connection, 'directory' | 'number'>,
  options: ConnectionOptions,
) {
  const { view, xattrs } = options;
  return { directory, number, xattrs, root: 'root' in view ? formatLink(view.root) : '' } satisfies About;
}

/** Goes on with what an earlier daemon has served here; undefined where there is nothing of that kind. */
async function takeOver(directory: string, options: ConnectionOptions): Promise<Connection | undefined> {
  const mount = mountAt(await readMountInfo(), directory);
  if (!mount || !isOurs(mount)) return undefined;
  const { minor: number } = mount;
  const wanted = aboutOf({ directory, number }, options);
  const found = options.keeper.claim((about) => isDeepStrictEqual(about, wanted));
  if (!found) return undefined;
  const [device, descriptor] = found.descriptors;
  // Somebody has aborted it meanwhile.
  if (hasFailed(device)) {
    for (const one of found.descriptors) fs.closeSync(one);
    found.drop();
    return undefined;
  }
  const session = startSession({
    ...options,
    device,
    table: { descriptor, goOn: true },
    target: directory,
  });
  dropAtEnd(session, found);
  // Some of what was mounted from here may lie over one that is not here any more.
  const alone = abandonConnections(directory, options.keeper) === 0;
  try {
    await session.serving;
    return { directory, session, number, inherited: alone };
  } catch (error) {
    options.onFailure({ root: wanted.root, path: `${directory} as it was left`, error });
    await session.ended.catch(() => undefined);
    return undefined;
  }
}

/** Lets go of connections that an earlier daemon has had in a place, and says how many those were. */
export function abandonConnections(directory: string, keeper: Keeper): number {
  const isThere = (about: Partial<About>) => about.directory === directory;
  for (let count = 0; ; count++) {
    const found = keeper.claim(isThere);
    if (!found) return count;
    for (const one of found.descriptors) fs.closeSync(one);
    found.drop();
  }
}

/** As long as anyone has it open, a connection does not end. */
function dropAtEnd({ ended }: Session, kept: Kept): void {
  ended.then(
    () => kept.drop(),
    () => kept.drop(),
  );
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

/** Takes away what is not served any more. What somebody else has mounted there stays. */
export async function removeRemains(target: string, log: Pick<MountLog, 'error'>): Promise<void> {
  await detachStale(target).catch((error: LazytreeError) => {
    if (error.code !== 'REFUSED') log.error({ target, error: error.message }, 'not unmounted');
  });
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
export async function endConnection({
  session,
  number,
}: Pick<Connection, 'session' | 'number'>): Promise<void> {
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
