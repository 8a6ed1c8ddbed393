import {
  ATTR_OUT,
  DIRENT,
  ENTRY_OUT,
  GETXATTR_OUT,
  INIT_OUT,
  NOTIFY_STORE_OUT,
  NotifyCode,
  OUT_HEADER,
  STATFS_OUT,
} from './kernel.js';

/** What a file is to `stat`. */
export interface Attributes {
  node: number;
  generation: number;
  inode: number;
  size: number;
  /** Type and permission bits. */
  mode: number;
  links: number;
  /** Modification time, which is also the time of change and of access. */
  seconds: number;
  nanoseconds: number;
}

export interface Owner {
  uid: number;
  gid: number;
}

/** Seconds for which the kernel may believe a name or attributes: content that is named by its hash never changes. */
const FOREVER = 0x7fff_ffff;
const BLOCK_SIZE = 4096;

/**
 * Puts replies and notifications together in one buffer, from its beginning, each replacing the one before. Every
 * function returns the bytes that the kernel gets.
 */
export function createReplyWriter(capacity: number, { uid, gid }: Owner) {
  const buffer = Buffer.alloc(OUT_HEADER + capacity);
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
  /** End of what has been written. */
  let end = OUT_HEADER;

  function uint32(at: number, value: number): void {
    view.setUint32(at, value, true);
  }

  function uint64(at: number, value: number): void {
    view.setUint32(at, value >>> 0, true);
    view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000) >>> 0, true);
  }

  function header(length: number, unique: number, error: number): Buffer {
    uint32(0, length);
    view.setInt32(4, error, true);
    uint64(8, Math.abs(unique));
    // As in the request: see readUnique.
    if (unique < 0) buffer[15] |= 0x80;
    return buffer.subarray(0, Math.min(length, end));
  }

  /** `struct fuse_attr` */
  function attributes(at: number, of: Attributes): void {
    uint64(at, of.inode);
    uint64(at + 8, of.size);
    uint64(at + 16, Math.ceil(of.size / 512));
    for (let time = 0; time < 3; time++) {
      uint64(at + 24 + time * 8, of.seconds);
      uint32(at + 48 + time * 4, of.nanoseconds);
    }
    uint32(at + 60, of.mode);
    uint32(at + 64, of.links);
    uint32(at + 68, uid);
    uint32(at + 72, gid);
    uint32(at + 76, 0);
    uint32(at + 80, BLOCK_SIZE);
    uint32(at + 84, 0);
  }

  /** `struct fuse_entry_out` */
  function entry(at: number, of: Attributes): void {
    uint64(at, of.node);
    uint64(at + 8, of.generation);
    uint64(at + 16, FOREVER);
    uint64(at + 24, FOREVER);
    uint64(at + 32, 0);
    attributes(at + 40, of);
  }

  /** `struct fuse_dirent`; returns where the next one begins. */
  function dirent(at: number, name: Uint8Array, { inode, mode }: Attributes, next: number): number {
    uint64(at, inode);
    uint64(at + 8, next);
    uint32(at + 16, name.length);
    uint32(at + 20, mode >>> 12);
    buffer.set(name, at + DIRENT);
    const stop = at + DIRENT + name.length;
    const padded = (stop + 7) & ~7;
    buffer.fill(0, stop, padded);
    return padded;
  }

  return {
    /** A reply of nothing but an errno, or of success without a body. */
    status(unique: number, errno = 0): Buffer {
      end = OUT_HEADER;
      return header(OUT_HEADER, unique, -errno);
    },

    /** @param minor the version of the protocol that both sides know */
    init(unique: number, minor: number, options: InitOut): Buffer {
      end = OUT_HEADER + INIT_OUT;
      buffer.fill(0, OUT_HEADER, end);
      uint32(16, 7);
      uint32(20, minor);
      uint32(24, options.maxReadahead);
      uint32(28, options.flags);
      view.setUint16(32, options.maxBackground, true);
      view.setUint16(34, Math.ceil((options.maxBackground * 3) / 4), true);
      uint32(36, options.maxWrite);
      uint32(40, 1);
      view.setUint16(44, options.maxPages, true);
      return header(end, unique, 0);
    },

    /** A name that is there, for ever. */
    entry(unique: number, of: Attributes): Buffer {
      end = OUT_HEADER + ENTRY_OUT;
      entry(OUT_HEADER, of);
      return header(end, unique, 0);
    },

    /** A name that is not there and never will be. */
    noEntry(unique: number): Buffer {
      end = OUT_HEADER + ENTRY_OUT;
      buffer.fill(0, OUT_HEADER, end);
      uint64(OUT_HEADER + 16, FOREVER);
      return header(end, unique, 0);
    },

    attributes(unique: number, of: Attributes): Buffer {
      end = OUT_HEADER + ATTR_OUT;
      uint64(16, FOREVER);
      uint64(24, 0);
      attributes(32, of);
      return header(end, unique, 0);
    },

    bytes(unique: number, bytes: Uint8Array): Buffer {
      end = OUT_HEADER + bytes.length;
      buffer.set(bytes, OUT_HEADER);
      return header(end, unique, 0);
    },

    /** The header of a reply whose body of `length` bytes is written with it. */
    headerOf(unique: number, length: number): Buffer {
      end = OUT_HEADER;
      return header(OUT_HEADER + length, unique, 0);
    },

    /** Bytes that an extended attribute takes, for a caller that asked only that. */
    xattrSize(unique: number, size: number): Buffer {
      end = OUT_HEADER + GETXATTR_OUT;
      uint32(16, size);
      uint32(20, 0);
      return header(end, unique, 0);
    },

    statfs(unique: number, { bytes, files }: { bytes: number; files: number }): Buffer {
      end = OUT_HEADER + STATFS_OUT;
      buffer.fill(0, OUT_HEADER, end);
      uint64(16, Math.ceil(bytes / BLOCK_SIZE));
      uint64(40, files);
      uint32(56, BLOCK_SIZE);
      uint32(60, 255);
      uint32(64, BLOCK_SIZE);
      return header(end, unique, 0);
    },

    beginDirectory(): void {
      end = OUT_HEADER;
    },

    /**
     * Adds an entry to a directory's listing, `plus` the attributes that make looking it up needless; those of
     * node 0, which are `.` and `..`, the kernel looks up by itself.
     *
     * @returns false when it does not fit
     */
    addDirent(name: Uint8Array, of: Attributes, { next, room, plus }: DirentOptions): boolean {
      const size = (plus ? ENTRY_OUT : 0) + ((DIRENT + name.length + 7) & ~7);
      if (end - OUT_HEADER + size > room) return false;
      if (plus) {
        if (of.node === 0) buffer.fill(0, end, end + ENTRY_OUT);
        else entry(end, of);
        end += ENTRY_OUT;
      }
      end = dirent(end, name, of, next);
      return true;
    },

    directory(unique: number): Buffer {
      return header(end, unique, 0);
    },

    /** A notification that asks for all requests again that have been read and not answered. */
    resend(): Buffer {
      end = OUT_HEADER;
      return header(OUT_HEADER, 0, NotifyCode.RESEND);
    },

    /** The beginning of a notification that puts `size` bytes into the page cache. */
    storeHeader(node: number, offset: number, size: number): Buffer {
      end = OUT_HEADER + NOTIFY_STORE_OUT;
      uint64(16, node);
      uint64(24, offset);
      uint32(32, size);
      uint32(36, 0);
      return header(end + size, 0, NotifyCode.STORE);
    },
  };
}

export type ReplyWriter = ReturnType<typeof createReplyWriter>;

export interface InitOut {
  /** Bytes that the kernel may read ahead. */
  maxReadahead: number;
  flags: number;
  /** Requests that the kernel sends without waiting for an answer, such as read-ahead. */
  maxBackground: number;
  maxWrite: number;
  /** Pages of the largest request. */
  maxPages: number;
}

export interface DirentOptions {
  /** Where a listing goes on after this entry. */
  next: number;
  /** Bytes of the whole listing. */
  room: number;
  plus: boolean;
}
