/**
 * Numbers of the FUSE kernel protocol, from Linux `include/uapi/linux/fuse.h` (7.31 and later). All integers on
 * the wire have the byte order of the machine; this server speaks little-endian ones.
 */
export const FUSE_MAJOR = 7;
/** Linux 5.4: the first version with everything that this server relies on. */
export const OLDEST_MINOR = 31;
/** The newest version whose structures this server knows. */
export const NEWEST_MINOR = 38;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  TMPFILE: 51,
} as const;

/** Requests that would change the file system. */
export const MODIFYING: ReadonlySet<number> = new Set([
  Opcode.SETATTR,
  Opcode.SYMLINK,
  Opcode.MKNOD,
  Opcode.MKDIR,
  Opcode.UNLINK,
  Opcode.RMDIR,
  Opcode.RENAME,
  Opcode.LINK,
  Opcode.WRITE,
  Opcode.SETXATTR,
  Opcode.REMOVEXATTR,
  Opcode.CREATE,
  Opcode.FALLOCATE,
  Opcode.RENAME2,
  Opcode.TMPFILE,
]);

export const NotifyCode = { STORE: 4, RESEND: 7 } as const;

/** Flags of INIT, the first 32 of them. */
export const InitFlag = {
  ASYNC_READ: 1 << 0,
  DO_READDIRPLUS: 1 << 13,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25,
  /** That there are second flags. */
  INIT_EXT: 1 << 30,
} as const;

/** The second 32 flags of INIT (Linux 5.17 and later). */
export const InitFlag2 = {
  /** Requests that were read and not answered come again when they are asked for (Linux 6.9). */
  HAS_RESEND: 1 << 7,
} as const;

export const IN_HEADER = 40;
export const OUT_HEADER = 16;
const ATTR_BYTES = 88;
export const ENTRY_OUT = 40 + ATTR_BYTES;
export const ATTR_OUT = 16 + ATTR_BYTES;
export const INIT_OUT = 64;
export const STATFS_OUT = 80;
export const GETXATTR_OUT = 8;
export const DIRENT = 24;
export const NOTIFY_STORE_OUT = 24;

/** The kernel's own name of the root (FUSE_ROOT_ID). */
export const ROOT_NODE = 1;
