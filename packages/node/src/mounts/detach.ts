import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core';
import { isOurs, type MountInfo, readMountInfo } from '../fuse/device/mount-info.js';
import { unmount } from '../fuse/device/unmount.js';
import { findHolders, formatHolders } from './holders.js';

export interface DetachOptions {
  /** Those who have it open may go on. */
  lazy: boolean;
  /** Unmounts it where it is mounted; see unmount.ts. */
  by?: typeof unmount;
}

/**
 * Unmounts what we have mounted on `target`, if it still is. What somebody else has mounted there since stays.
 *
 * @throws LazytreeError REFUSED, naming who holds it, or what lies over it
 */
export async function detach(target: string, { lazy, by = unmount }: DetachOptions): Promise<void> {
  // Nobody else mounts in a namespace of our own.
  if (by === unmount && !(await isSeen(target))) return;
  try {
    await by(target, { lazy });
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EINVAL' || code === 'ENOENT') return;
    if (code !== 'EBUSY') throw fromSystemError(error, `unmounting '${target}'`);
    const holders = formatHolders(await findHolders(target));
    throw new LazytreeError('REFUSED', `'${target}' is in use by ${holders || 'what is mounted below it'}`, {
      cause: error,
      hint: 'end that first, or use --lazy, which leaves it to those who have it open',
    });
  }
}

/** Whether a mount of ours is the uppermost on `target`. @throws LazytreeError REFUSED when it is below another */
async function isSeen(target: string): Promise<boolean> {
  const there = (await readMountInfo()).filter((mount) => mount.target === target);
  const top = there.at(-1);
  if (!top || !there.some(isOurs)) return false;
  if (!isOurs(top)) throw covered(target, top);
  return true;
}

export function covered(target: string, { type }: MountInfo): LazytreeError {
  return new LazytreeError('REFUSED', `a ${type} is mounted on '${target}', and not by lazytree`, {
    hint: `take it away with \`umount ${target}\``,
  });
}
