import type fs from 'node:fs';
import { LazytreeError } from '../errors.js';
import { nameFromBytes } from '../format/name.js';
import { readXattr, seesTrusted } from './xattr.js';

/** Where overlayfs keeps its marks: `trusted`, or `user` when it was mounted with `userxattr`. */
export type MarkNamespace = 'trusted' | 'user';

/**
 * What overlayfs writes on the things in an upper layer (Documentation/filesystems/overlayfs.rst). Its other
 * attributes (`origin`, `impure`, `nlink`, `protattr`, and the escaped `overlay.overlay.…`) say nothing of what is
 * seen in the mount.
 */
export interface Marks {
  /** `opaque` hides all of the directory below; `whiteouts` says that there are files that stand for whiteouts. */
  cover(directory: string): 'opaque' | 'whiteouts' | undefined;
  /** Where in the lower layer it comes from: a name in the same directory, or from the root on with a slash first. */
  redirect(path: string): string | undefined;
  /** Whether a regular file has no content of its own. */
  isMetacopy(file: string): boolean;
  /** Whether an empty regular file, in a directory that is marked so, stands for a whiteout. */
  isWhiteout(file: string): boolean;
}

/** @throws LazytreeError UNSUPPORTED, REFUSED where the marks could not be seen */
export function openMarks(namespace: MarkNamespace): Marks {
  if (process.platform !== 'linux')
    throw new LazytreeError('UNSUPPORTED', 'overlayfs is a file system of Linux');
  if (namespace === 'trusted' && !seesTrusted()) {
    throw new LazytreeError('REFUSED', 'the attributes trusted.overlay.* cannot be read', {
      hint: 'save as root, as whom it was mounted',
    });
  }
  const read = (path: string, mark: string) => readXattr(path, `${namespace}.overlay.${mark}`);
  return {
    cover(directory) {
      const value = read(directory, 'opaque')?.toString('latin1');
      return value === 'y' ? 'opaque' : value === 'x' ? 'whiteouts' : undefined;
    },
    redirect(path) {
      const value = read(path, 'redirect');
      const to = value && nameFromBytes(value);
      if (to === undefined || REDIRECT.test(to)) return to;
      throw new LazytreeError('FAILED', `'${path}' is redirected to '${to}', which is no place`);
    },
    isMetacopy: (file) => read(file, 'metacopy') !== undefined,
    isWhiteout: (file) => read(file, 'whiteout') !== undefined,
  };
}

/** What the kernel takes, see ovl_get_redirect_xattr: a name, or an absolute path without empty parts. */
const REDIRECT = /^(?:[^/]+|(?:\/[^/]+)+)$/;

/** The usual whiteout: a character device 0/0. No other can be made in the mount. */
export function isWhiteoutDevice(stat: fs.Stats): boolean {
  return stat.isCharacterDevice() && stat.rdev === 0;
}
