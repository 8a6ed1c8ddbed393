import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core';
import { unmount } from '../fuse/device/unmount.js';
import { findHolders, formatHolders } from './holders.js';

/**
 * Unmounts what is mounted on `target`, if anything still is.
 *
 * @param options `lazy`: those who have it open may go on
 * @throws LazytreeError REFUSED, naming who holds it
 */
export async function detach(target: string, { lazy }: { lazy: boolean }): Promise<void> {
  try {
    await unmount(target, { lazy });
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
