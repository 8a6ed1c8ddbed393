import { unmountByFusermount } from './fusermount.js';
import { mayMount } from './privilege.js';
import { UnmountFlag, umount } from './system-calls.js';

/**
 * Takes the uppermost mount on `target` away, by whichever way this process has.
 *
 * @param options `lazy`: those who have it open may go on
 * @throws SystemCallError as umount2(2) does; LazytreeError
 */
export async function unmount(target: string, { lazy }: { lazy: boolean }): Promise<void> {
  if (await mayMount()) await umount(target, lazy ? UnmountFlag.DETACH : 0);
  else await unmountByFusermount(target, { lazy });
}
