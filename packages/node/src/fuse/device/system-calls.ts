import { callAside, cString } from '../../c-library.js';

/**
 * System calls that node:fs lacks, through the C library. Those that name a path run off the event loop: what they
 * touch may be served by this very process.
 */

/** <sys/mount.h> */
export const MountFlag = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  REMOUNT: 32,
  BIND: 4096,
  PRIVATE: 1 << 18,
} as const;

export const UnmountFlag = { DETACH: 2, NOFOLLOW: 8 } as const;

export interface MountCall {
  source: string;
  target: string;
  type?: string;
  flags?: number;
  data?: string;
}

/** mount(2). @throws SystemCallError */
export async function mount({ source, target, type, flags = 0, data }: MountCall): Promise<void> {
  const text = (value: string | undefined) => (value === undefined ? null : cString(value));
  await callAside(
    'mount',
    'int mount(const void *source, const void *target, const void *type, unsigned long flags, const void *data)',
    [cString(source), cString(target), text(type), flags, text(data)],
  );
}

/** umount2(2), never following a symlink. @throws SystemCallError */
export async function umount(target: string, flags = 0): Promise<void> {
  await callAside('umount2', 'int umount2(const void *target, int flags)', [
    cString(target),
    flags | UnmountFlag.NOFOLLOW,
  ]);
}

/** setxattr(2). @throws SystemCallError */
export async function setXattr(path: string, name: string, value: Buffer): Promise<void> {
  await callAside(
    'setxattr',
    'int setxattr(const void *path, const void *name, const void *value, size_t size, int flags)',
    [cString(path), cString(name), value, value.length, 0],
  );
}
