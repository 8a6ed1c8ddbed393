import { describe, expect, it } from 'vitest';
import { type Attributes, createReplyWriter } from '../../dist/fuse/protocol/reply.js';

/**
 * Every field of every reply, at the offsets that `offsetof` gives for the structures of <linux/fuse.h>. They are
 * written out here, so that they agree with those of the implementation only when both are right.
 */
const HEADER = { len: [0, 4], error: [4, 4], unique: [8, 8] } as const;

const INIT_OUT = {
  major: [0, 4],
  minor: [4, 4],
  max_readahead: [8, 4],
  flags: [12, 4],
  max_background: [16, 2],
  congestion_threshold: [18, 2],
  max_write: [20, 4],
  time_gran: [24, 4],
  max_pages: [28, 2],
  map_alignment: [30, 2],
  flags2: [32, 4],
} as const;

const ATTR = {
  ino: [0, 8],
  size: [8, 8],
  blocks: [16, 8],
  atime: [24, 8],
  mtime: [32, 8],
  ctime: [40, 8],
  atimensec: [48, 4],
  mtimensec: [52, 4],
  ctimensec: [56, 4],
  mode: [60, 4],
  nlink: [64, 4],
  uid: [68, 4],
  gid: [72, 4],
  rdev: [76, 4],
  blksize: [80, 4],
  flags: [84, 4],
} as const;

const ENTRY_OUT = {
  nodeid: [0, 8],
  generation: [8, 8],
  entry_valid: [16, 8],
  attr_valid: [24, 8],
  entry_valid_nsec: [32, 4],
  attr_valid_nsec: [36, 4],
} as const;

const ATTR_OUT = { attr_valid: [0, 8], attr_valid_nsec: [8, 4], dummy: [12, 4] } as const;

const STATFS_OUT = {
  blocks: [0, 8],
  bfree: [8, 8],
  bavail: [16, 8],
  files: [24, 8],
  ffree: [32, 8],
  bsize: [40, 4],
  namelen: [44, 4],
  frsize: [48, 4],
} as const;

const DIRENT = { ino: [0, 8], off: [8, 8], namelen: [16, 4], type: [20, 4] } as const;
const STORE_OUT = { nodeid: [0, 8], offset: [8, 8], size: [16, 4], padding: [20, 4] } as const;

type Layout = Record<string, readonly [offset: number, size: number]>;

/** The fields of a structure at `at`; signed, as an errno is. */
function fields<L extends Layout>(bytes: Buffer, at: number, layout: L): Record<keyof L, number | bigint> {
  const read = ([offset, size]: readonly [number, number]) => {
    if (size === 8) return bytes.readBigInt64LE(at + offset);
    return size === 2 ? bytes.readUInt16LE(at + offset) : bytes.readInt32LE(at + offset);
  };
  return Object.fromEntries(Object.entries(layout).map(([name, where]) => [name, read(where)])) as Record<
    keyof L,
    number | bigint
  >;
}

/** The body of a reply, once its header has been seen to be right. */
function bodyOf(reply: Buffer, unique: bigint, error = 0): Buffer {
  expect(fields(reply, 0, HEADER)).toEqual({ len: reply.length, error, unique });
  return reply.subarray(16);
}

const UNIQUE = 0x12_3456_789a;
const unique = BigInt(UNIQUE);

const file: Attributes = {
  node: 0x1_0000_0007,
  generation: 3,
  inode: 0xa_bcde_f012_3456,
  size: 0x1_2345_6789,
  mode: 0o100755,
  links: 1,
  seconds: 499162500,
  nanoseconds: 123456789,
};

const asAttr = {
  ino: 0xa_bcde_f012_3456n,
  size: 0x1_2345_6789n,
  blocks: (0x1_2345_6789n + 511n) / 512n,
  atime: 499162500n,
  mtime: 499162500n,
  ctime: 499162500n,
  atimensec: 123456789,
  mtimensec: 123456789,
  ctimensec: 123456789,
  mode: 0o100755,
  nlink: 1,
  uid: 1000,
  gid: 100,
  rdev: 0,
  blksize: 4096,
  flags: 0,
};

/** A writer whose buffer holds what other replies have left. */
function usedWriter(capacity = 8192) {
  const writer = createReplyWriter(capacity, { uid: 1000, gid: 100 });
  writer.bytes(1, Buffer.alloc(capacity, 0xff));
  return writer;
}

describe('replies', () => {
  it('of an errno, or of nothing', () => {
    const writer = usedWriter();
    expect(bodyOf(writer.status(UNIQUE, 30), unique, -30)).toHaveLength(0);
    expect(bodyOf(writer.status(UNIQUE), unique)).toHaveLength(0);
  });

  it('to INIT', () => {
    const options = {
      maxReadahead: 1 << 22,
      flags: 0x2c42001,
      maxBackground: 64,
      maxWrite: 4096,
      maxPages: 256,
    };
    const body = bodyOf(usedWriter().init(UNIQUE, 38, options), unique);
    expect(body).toHaveLength(64);
    expect(fields(body, 0, INIT_OUT)).toEqual({
      major: 7,
      minor: 38,
      max_readahead: 1 << 22,
      flags: 0x2c42001,
      max_background: 64,
      congestion_threshold: 48,
      max_write: 4096,
      time_gran: 1,
      max_pages: 256,
      map_alignment: 0,
      flags2: 0,
    });
    expect(body.subarray(36).every((byte) => byte === 0)).toBe(true);
  });

  it('to LOOKUP, valid for years', () => {
    const body = bodyOf(usedWriter().entry(UNIQUE, file), unique);
    expect(body).toHaveLength(128);
    expect(fields(body, 0, ENTRY_OUT)).toEqual({
      nodeid: 0x1_0000_0007n,
      generation: 3n,
      entry_valid: 0x7fff_ffffn,
      attr_valid: 0x7fff_ffffn,
      entry_valid_nsec: 0,
      attr_valid_nsec: 0,
    });
    expect(fields(body, 40, ATTR)).toEqual(asAttr);
  });

  it('to LOOKUP of what is not there, valid for years', () => {
    const body = bodyOf(usedWriter().noEntry(UNIQUE), unique);
    expect(body).toHaveLength(128);
    expect(fields(body, 0, ENTRY_OUT)).toMatchObject({ nodeid: 0n, entry_valid: 0x7fff_ffffn });
    expect(body.subarray(24).every((byte) => byte === 0)).toBe(true);
  });

  it('to GETATTR', () => {
    const body = bodyOf(usedWriter().attributes(UNIQUE, file), unique);
    expect(body).toHaveLength(104);
    expect(fields(body, 0, ATTR_OUT)).toEqual({ attr_valid: 0x7fff_ffffn, attr_valid_nsec: 0, dummy: 0 });
    expect(fields(body, 16, ATTR)).toEqual(asAttr);
  });

  it('with times before 1970 and after 2106', () => {
    for (const seconds of [-1, -(2 ** 33), 2 ** 32 + 5, 253402300799]) {
      const body = bodyOf(usedWriter().attributes(UNIQUE, { ...file, seconds }), unique);
      expect(fields(body, 16, ATTR).mtime).toBe(BigInt(seconds));
    }
  });

  it('to STATFS', () => {
    const body = bodyOf(usedWriter().statfs(UNIQUE, { bytes: 2 ** 45 + 1, files: 2 ** 33 }), unique);
    expect(body).toHaveLength(80);
    expect(fields(body, 0, STATFS_OUT)).toEqual({
      blocks: 2n ** 33n + 1n,
      bfree: 0n,
      bavail: 0n,
      files: 2n ** 33n,
      ffree: 0n,
      bsize: 4096,
      namelen: 255,
      frsize: 4096,
    });
    expect(body.subarray(52).every((byte) => byte === 0)).toBe(true);
  });

  it('with bytes: READLINK, GETXATTR, LISTXATTR', () => {
    const writer = usedWriter();
    expect(bodyOf(writer.bytes(UNIQUE, Buffer.from('caf\xe9', 'latin1')), unique)).toEqual(
      Buffer.from('caf\xe9', 'latin1'),
    );
    expect(bodyOf(writer.bytes(UNIQUE, Buffer.alloc(0)), unique)).toHaveLength(0);
  });

  it('with the size of an extended attribute', () => {
    const body = bodyOf(usedWriter().xattrSize(UNIQUE, 59), unique);
    expect(body).toEqual(Buffer.from('3b00000000000000', 'hex'));
  });

  it('to READ: a header for a body that is written with it', () => {
    const header = usedWriter().headerOf(UNIQUE, 1 << 20);
    expect(header).toHaveLength(16);
    expect(fields(header, 0, HEADER)).toEqual({ len: 16 + (1 << 20), error: 0, unique });
  });

  it('FUSE_NOTIFY_STORE: a header of no request', () => {
    const header = usedWriter().storeHeader(0x1_0000_0007, 0x2_0000_0000, 77);
    expect(header).toHaveLength(16 + 24);
    expect(fields(header, 0, HEADER)).toEqual({ len: 16 + 24 + 77, error: 4, unique: 0n });
    expect(fields(header, 16, STORE_OUT)).toEqual({
      nodeid: 0x1_0000_0007n,
      offset: 0x2_0000_0000n,
      size: 77,
      padding: 0,
    });
  });
});

describe('replies to READDIR and READDIRPLUS', () => {
  // Of every length modulo 8.
  const names = ['a', 'bb', 'ccc', 'dddd', 'eeeee', 'ffffff', 'ggggggg', 'hhhhhhhh', 'x'.repeat(255)];

  it.each([false, true])('are entries that begin at multiples of 8 (plus: %s)', (plus) => {
    const writer = usedWriter();
    writer.beginDirectory();
    names.forEach((name, i) => {
      const told = writer.addDirent(
        Buffer.from(name),
        { ...file, node: i, inode: 1000 + i },
        {
          next: i + 1,
          room: 8192,
          plus,
        },
      );
      expect(told).toBe(true);
    });
    const body = bodyOf(writer.directory(UNIQUE), unique);
    let at = 0;
    for (const [i, name] of names.entries()) {
      if (plus) {
        if (i === 0) expect(body.subarray(at, at + 128)).toEqual(Buffer.alloc(128));
        else {
          expect(fields(body, at, ENTRY_OUT)).toMatchObject({ nodeid: BigInt(i), generation: 3n });
          expect(fields(body, at + 40, ATTR)).toEqual({ ...asAttr, ino: BigInt(1000 + i) });
        }
        at += 128;
      }
      expect(fields(body, at, DIRENT)).toEqual({
        ino: BigInt(1000 + i),
        off: BigInt(i + 1),
        namelen: name.length,
        // DT_REG
        type: 8,
      });
      expect(body.subarray(at + 24, at + 24 + name.length).toString()).toBe(name);
      const end = at + 24 + name.length;
      at = Math.ceil(end / 8) * 8;
      expect(body.subarray(end, at).every((byte) => byte === 0)).toBe(true);
    }
    expect(at).toBe(body.length);
  });

  it.each([
    [0o040755, 4],
    [0o120777, 10],
    [0o100644, 8],
  ])('say the type of mode %o', (mode, type) => {
    const writer = usedWriter();
    writer.beginDirectory();
    writer.addDirent(Buffer.from('x'), { ...file, mode }, { next: 1, room: 4096, plus: false });
    expect(fields(bodyOf(writer.directory(UNIQUE), unique), 0, DIRENT).type).toBe(type);
  });

  it('take an entry that just fits, and no byte more', () => {
    for (const plus of [false, true]) {
      const size = (plus ? 128 : 0) + 32;
      for (const [room, count] of [
        [size - 1, 0],
        [size, 1],
        [2 * size - 1, 1],
        [2 * size, 2],
      ]) {
        const writer = usedWriter();
        writer.beginDirectory();
        let told = 0;
        while (told < 3 && writer.addDirent(Buffer.from('12345678'), file, { next: told + 1, room, plus }))
          told++;
        expect(told).toBe(count);
        expect(bodyOf(writer.directory(UNIQUE), unique)).toHaveLength(count * size);
      }
    }
  });
});
