import fs from 'node:fs';
import { cFunction, cString, lastError } from '../c-library.js';
import { toFsPath } from '../format/name.js';

type Lgetxattr = (path: Buffer, name: Buffer, value: Buffer, size: number) => number;

/** The most that the kernel keeps in one attribute (XATTR_SIZE_MAX). */
const value = Buffer.allocUnsafeSlow(65536);
const names = new Map<string, Buffer>();
let lgetxattr: Lgetxattr | undefined;

/** No such attribute, no attributes on this file system, or nothing at this path. */
const NONE = new Set(['ENODATA', 'EOPNOTSUPP', 'ENOENT', 'ENOTDIR']);

/** An extended attribute of what is at `path`, a symlink itself if it is one. Valid until the next call. */
export function readXattr(path: string, name: string): Buffer | undefined {
  lgetxattr ??= cFunction<Lgetxattr>(
    'long lgetxattr(const void *path, const void *name, void *value, size_t size)',
  );
  const cName = names.get(name) ?? cString(name);
  names.set(name, cName);
  const length = lgetxattr(cString(toFsPath(path)), cName, value, value.length);
  if (length >= 0) return value.subarray(0, length);
  const code = lastError();
  if (NONE.has(code)) return undefined;
  throw Object.assign(new Error(`${code}: reading the attribute ${name} of '${path}'`), { code });
}

const CAP_SYS_ADMIN = 21n;
const EVERYONE = '0 0 4294967295';

/**
 * Whether this process sees attributes of the `trusted` namespace: to one without CAP_SYS_ADMIN in the first user
 * namespace they look absent (xattr(7)).
 */
export function seesTrusted(): boolean {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(fs.readFileSync('/proc/self/status', 'latin1'))?.[1];
  const users = fs.readFileSync('/proc/self/uid_map', 'latin1').trim().split(/\s+/).join(' ');
  return ((BigInt(`0x${capabilities ?? 0}`) >> CAP_SYS_ADMIN) & 1n) === 1n && users === EVERYONE;
}
