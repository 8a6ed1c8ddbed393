import { mkdir, readdir, realpath, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, fromSystemError, LazytreeError, nameFromBytes, toFsPath } from '@lazytree/core';
import { type MountInfo, mountAt, readMountInfo } from '../fuse/device/mount-info.js';

/** Time that a look at a path may take: longer, and the file system that it is on is not answering. */
const PATIENCE_MS = 5000;

/**
 * The name of a mount point without links in it, as the kernel will report it. The mount point itself is not touched:
 * it may be a mount that answers no more.
 */
export async function canonicalTarget(path: string): Promise<string> {
  const absolute = resolve(path);
  if (absolute === '/') throw new LazytreeError('USAGE', "'/' cannot be a mount point");
  const parent = realpath(toFsPath(dirname(absolute)), { encoding: 'buffer' });
  try {
    return join(nameFromBytes(await inTime(parent, absolute)), basename(absolute));
  } catch (error) {
    throw fromSystemError(error, `looking for '${path}'`);
  }
}

/**
 * Makes `target` ready to be mounted on: an empty directory, made if there is none.
 *
 * @param mounts what is mounted where it is to be
 * @returns whether it was made
 * @throws LazytreeError REFUSED (something is mounted there), NOT_EMPTY, USAGE (not a directory)
 */
export async function prepareTarget(target: string, mounts?: readonly MountInfo[]): Promise<boolean> {
  const mounted = mountAt(mounts ?? (await readMountInfo()), target);
  if (mounted) {
    throw new LazytreeError('REFUSED', `'${target}' is a mount point of ${mounted.type} already`, {
      hint: `unmount it with \`${mounted.type === 'fuse.lazytree' ? 'lazytree unmount' : 'umount'} ${target}\`, or choose another directory`,
    });
  }
  try {
    await mkdir(toFsPath(target), { recursive: false });
    return true;
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw fromSystemError(error, `making the directory '${target}'`);
  }
  const found = await inTime(stat(toFsPath(target)), target);
  if (!found.isDirectory()) throw new LazytreeError('USAGE', `'${target}' is not a directory`);
  if ((await inTime(readdir(toFsPath(target)), target)).length > 0) {
    throw new LazytreeError('NOT_EMPTY', `'${target}' is not empty`, {
      hint: 'choose a directory that is empty or not there yet',
    });
  }
  return false;
}

/** Removes a mount point that was made for the mount. What somebody has put there since stays. */
export async function removeTarget(target: string): Promise<void> {
  await rmdir(toFsPath(target)).catch((error: unknown) => {
    if (!['ENOTEMPTY', 'ENOENT', 'EBUSY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error;
  });
}

async function inTime<T>(look: Promise<T>, path: string): Promise<T> {
  const late = sleep(PATIENCE_MS, undefined, { ref: false }).then(() => {
    throw new LazytreeError('FAILED', `the file system at '${path}' does not answer`, {
      hint: 'see `mount` for what is mounted there, and unmount it with `umount -l`',
    });
  });
  return Promise.race([look, late]);
}
