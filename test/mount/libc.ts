import { createRequire } from 'node:module';

/** Functions of the C library that node:fs lacks, for processes that test file systems. Nothing of vitest in here. */

type CFunction = (...args: unknown[]) => number | bigint;
interface Koffi {
  load(path: string | null): { func(signature: string): CFunction };
  errno(): number;
  decode(pointer: unknown, type: unknown, length?: number): unknown;
  struct(fields: Record<string, unknown>): unknown;
  array(type: string, length: number, hint: string): unknown;
}

const koffi = createRequire(new URL('../../packages/node/package.json', import.meta.url))('koffi') as Koffi;
const library = koffi.load(null);

export class Errno extends Error {
  readonly errno: number;
  constructor(name: string, errno: number) {
    super(`${name}: errno ${errno}`);
    this.errno = errno;
  }
}

/** A function of the C library that returns a number, and a negative one when it fails. */
function wrapped(signature: string): (...args: unknown[]) => number {
  const call = library.func(signature);
  return (...args) => {
    const result = Number(call(...args));
    if (result < 0) throw new Errno(signature.replace(/\(.*/, ''), koffi.errno());
    return result;
  };
}

export const lseek = wrapped('int64_t lseek(int fd, int64_t offset, int whence)');
export const fallocate = wrapped('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
export const flock = wrapped('int flock(int fd, int operation)');
export const fcntl = wrapped('int fcntl(int fd, int command, void *argument)');
export const setxattr = wrapped(
  'int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)',
);
export const removexattr = wrapped('int removexattr(const char *path, const char *name)');
export const mknod = wrapped('int mknod(const char *path, unsigned int mode, unsigned long device)');
export const linkat = wrapped(
  'int linkat(int oldDirectory, const char *old, int newDirectory, const char *name, int flags)',
);
export const renameat2 = wrapped(
  'int renameat2(int oldDirectory, const char *old, int newDirectory, const char *name, unsigned int flags)',
);
export const unshare = wrapped('int unshare(int flags)');
export const setns = wrapped('int setns(int fd, int type)');
export const fadvise = wrapped('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');

export const SEEK = { SET: 0, END: 2, DATA: 3, HOLE: 4 } as const;
export const AT_FDCWD = -100;
export const AT_SYMLINK_FOLLOW = 0x400;

const getxattrOf = wrapped(
  'long lgetxattr(const char *path, const char *name, _Out_ uint8_t *value, size_t size)',
);
const listxattrOf = wrapped('long llistxattr(const char *path, _Out_ uint8_t *list, size_t size)');

export function getxattr(path: string, name: string): string {
  const value = Buffer.alloc(4096);
  return value.toString('latin1', 0, getxattrOf(path, name, value, value.length));
}

export function listxattr(path: string): string[] {
  const list = Buffer.alloc(4096);
  const length = listxattrOf(path, list, list.length);
  return list.toString('latin1', 0, length).split('\0').slice(0, -1);
}

const LOCK = { read: 0, write: 1, unlock: 2 } as const;
const F_OFD_SETLK = 37;

/** A lock that belongs to the open file, so that one process can be in its own way. */
export function lockRange(fd: number, kind: keyof typeof LOCK, start: number, length: number): void {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(LOCK[kind], 0);
  lock.writeBigInt64LE(BigInt(start), 8);
  lock.writeBigInt64LE(BigInt(length), 16);
  fcntl(fd, F_OFD_SETLK, lock);
}

const mmap = library.func(
  'void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)',
) as unknown as (...args: unknown[]) => unknown;
const munmap = library.func('int munmap(void *address, size_t length)');
const msync = library.func('int msync(void *address, size_t length, int flags)');
const copyOut = library.func('void *memcpy(_Out_ uint8_t *to, const void *from, size_t size)');
const copyIn = library.func('void *memmove(void *to, const uint8_t *from, size_t size)');

const PROT = { read: 1, readWrite: 3 } as const;
const MAP_SHARED = 1;
const MS_SYNC = 4;

/** Reads a range of a file through its pages. */
export function readMapped(fd: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const address = mmap(null, length, PROT.read, MAP_SHARED, fd, offset);
  copyOut(bytes, address, length);
  munmap(address, length);
  return bytes;
}

export function writeMapped(fd: number, offset: number, bytes: Buffer): void {
  const address = mmap(null, bytes.length, PROT.readWrite, MAP_SHARED, fd, offset);
  copyIn(address, bytes, bytes.length);
  msync(address, bytes.length, MS_SYNC);
  munmap(address, bytes.length);
}

const opendir = library.func('void *opendir(const char *path)') as unknown as (path: string) => unknown;
const readdir = library.func('void *readdir(void *directory)') as unknown as (directory: unknown) => unknown;
const telldir = library.func('long telldir(void *directory)');
const seekdir = library.func('void seekdir(void *directory, long position)');
const closedir = library.func('int closedir(void *directory)');
const DIRENT = koffi.struct({
  inode: 'uint64_t',
  next: 'int64_t',
  length: 'uint16_t',
  type: 'uint8_t',
  name: koffi.array('char', 256, 'String'),
});

export interface DirectoryStream {
  /** The next entry, or undefined at the end. */
  read(): { name: string; inode: number; type: number } | undefined;
  /** A number of up to 63 bits. */
  tell(): number | bigint;
  seek(position: number | bigint): void;
  close(): void;
}

export function openDirectory(path: string): DirectoryStream {
  const stream = opendir(path);
  return {
    read() {
      const pointer = readdir(stream);
      if (!pointer) return undefined;
      const entry = koffi.decode(pointer, DIRENT) as { name: string; inode: number; type: number };
      return { name: entry.name, inode: Number(entry.inode), type: entry.type };
    },
    tell: () => telldir(stream),
    seek: (position) => void seekdir(stream, position),
    close: () => void closedir(stream),
  };
}
