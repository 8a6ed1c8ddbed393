import fs from 'node:fs';
import { cFunction, cString } from '../c-library.js';
import type { Metadata } from '../format/entry.js';

/** utimensat(2) of the C library; node:fs takes times as doubles, which cannot hold nanoseconds. */
type Utimensat = (directory: number, path: Buffer, times: BigInt64Array, flags: number) => number;

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
let utimensat: Utimensat | undefined;

/** Sets permission bits (not for a symlink, which has none) and modification time, to the nanosecond. */
export function setMetadata(path: string | Buffer, metadata: Metadata, fd?: number): void {
  const { mode, seconds, nanoseconds } = metadata;
  if (fd !== undefined) fs.fchmodSync(fd, mode);
  setTime(path, seconds, nanoseconds);
}

export function setDirectoryMetadata(path: string | Buffer, { mode, seconds, nanoseconds }: Metadata): void {
  fs.chmodSync(path, mode);
  setTime(path, seconds, nanoseconds);
}

function setTime(path: string | Buffer, seconds: number, nanoseconds: number): void {
  utimensat ??= cFunction<Utimensat>(
    'int utimensat(int directory, const void *path, const void *times, int flags)',
  );
  const time = [BigInt(seconds), BigInt(nanoseconds)] as const;
  if (utimensat(AT_FDCWD, cString(path), BigInt64Array.of(...time, ...time), AT_SYMLINK_NOFOLLOW) !== 0) {
    // The C library's errno is not at hand; node:fs says what is wrong, or succeeds at a coarser time.
    fs.lutimesSync(path, seconds + nanoseconds / 1e9, seconds + nanoseconds / 1e9);
  }
}
