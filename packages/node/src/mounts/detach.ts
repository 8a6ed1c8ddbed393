import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core';
import { unmount } from '../fuse/device/unmount.js';
import { findHolders, formatHolders } from './holders.js';

export interface DetachOptions {
  /** Those who have it open may go on. */
  lazy: boolean;
  /** Unmounts it where it is mounted; see unmount.ts. */
  by?: typeof unmount;
}

/**
 * Unmounts what is mounted on `target`, if anything still is.
 *
 * @throws LazytreeError REFUSED, naming who holds it
 */
export async function detach(target: string, { lazy, by = unmount }: DetachOptions): Promise<void> {
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
