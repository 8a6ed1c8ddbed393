import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InitFlag, InitFlag2, Opcode } from '../../dist/fuse/protocol/kernel.js';
import {
  decodeForget,
  decodeGetxattr,
  decodeHeader,
  decodeInit,
  decodeInterrupt,
  decodeListxattr,
  decodeName,
  decodeRead,
  ProtocolError,
} from '../../dist/fuse/protocol/request.js';
import { CAPTURED, type CapturedRequest, captured, oldInit } from './captured-requests.ts';

const header = (name: CapturedRequest) => decodeHeader(captured(name));

describe('the header of what a kernel has sent', () => {
  // Opcodes written out: a number that is wrong in the implementation is not to be right here.
  it.each([
    ['init', 26, 2, 0],
    ['lookup', 1, 6, 1],
    ['lookupLatin1', 1, 12, 1],
    ['forget', 2, 10, 2],
    ['batchForget', 42, 0x6a, 0],
    ['getattr', 3, 4, 1],
    ['readlink', 5, 26, 4],
    ['open', 14, 18, 2],
    ['read', 15, 20, 2],
    ['statfs', 17, 0x68, 1],
    ['getxattr', 22, 0x60, 2],
    ['getxattrAcl', 22, 0x22, 1],
    ['listxattr', 23, 0x64, 2],
    ['flush', 25, 0x16, 2],
    ['opendir', 27, 0x2e, 1],
    ['interrupt', 36, 9, 0],
    ['readdirplus', 44, 0x30, 1],
    ['statx', 52, 8, 2],
  ] as const)('%s', (name, opcode, unique, node) => {
    expect(header(name)).toMatchObject({ length: captured(name).length, opcode, unique, node });
  });

  it('the thread that asks', () => {
    expect([header('getattr').thread, header('read').thread, header('interrupt').thread]).toEqual([
      0x65d8, 0x6b53, 0,
    ]);
  });

  it('names opcodes as <linux/fuse.h> numbers them', () => {
    expect(Opcode).toEqual({
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
    });
  });

  it('is refused when the bytes are not one whole request', () => {
    const whole = captured('lookup');
    for (const bytes of [
      Buffer.alloc(0),
      whole.subarray(0, 39),
      whole.subarray(0, 40),
      Buffer.concat([whole, Buffer.of(0)]),
    ]) {
      expect(() => decodeHeader(bytes)).toThrow(ProtocolError);
    }
  });
});

describe('the body of what a kernel has sent', () => {
  it('INIT', () => {
    const now = decodeInit(captured('init'));
    expect(now).toEqual({ major: 7, minor: 45, maxReadahead: 131072, flags: 0x73fffffb, flags2: 0x5fd });
    const old = decodeInit(oldInit());
    expect(old).toEqual({ major: 7, minor: 31, maxReadahead: 131072, flags: 0x03fffffb, flags2: 0 });
    const { INIT_EXT, ...first } = InitFlag;
    for (const { flags } of [now, old]) {
      for (const flag of Object.values(first)) expect(flags & flag).toBe(flag);
    }
    expect(now.flags & INIT_EXT).toBe(INIT_EXT);
    expect(now.flags2 & InitFlag2.HAS_RESEND).toBe(InitFlag2.HAS_RESEND);
  });

  it('LOOKUP, whatever the encoding of the name', () => {
    expect(decodeName(captured('lookup'))).toEqual(Buffer.from('file'));
    expect(decodeName(captured('lookupLatin1'))).toEqual(Buffer.from('caf\xe9', 'latin1'));
  });

  it('FORGET and BATCH_FORGET', () => {
    expect(decodeForget(header('forget'), captured('forget'))).toEqual([{ node: 2, lookups: 1 }]);
    expect(decodeForget(header('batchForget'), captured('batchForget'))).toEqual(
      [
        [3, 2],
        [2, 2],
        [4, 2],
        [5, 2],
        [7, 1],
        [8, 1],
        [9, 1],
        [10, 1],
        [11, 1],
        [6, 2],
      ].map(([node, lookups]) => ({ node, lookups })),
    );
  });

  it('READ and READDIRPLUS', () => {
    expect(decodeRead(captured('read'))).toEqual({ offset: 0, size: 4096 });
    expect(decodeRead(captured('readdirplus'))).toEqual({ offset: 0, size: 32768 });
    const far = captured('read');
    far.writeBigUInt64LE(0x1_2345_6789n, 48);
    expect(decodeRead(far).offset).toBe(0x1_2345_6789);
  });

  it.each([2n ** 53n, 2n ** 62n, 2n ** 63n - 1n, 2n ** 64n - 1n])(
    'READDIRPLUS from %i on, to where anyone can seek',
    (offset) => {
      const bytes = captured('readdirplus');
      bytes.writeBigUInt64LE(offset, 48);
      const decoded = decodeRead(bytes);
      expect(decoded.size).toBe(32768);
      expect(decoded.offset).toBe(Number.MAX_SAFE_INTEGER);
    },
  );

  it('GETXATTR and LISTXATTR', () => {
    expect(decodeGetxattr(captured('getxattr'))).toEqual({ size: 0, name: 'user.lazytree.cid' });
    expect(decodeGetxattr(captured('getxattrAcl'))).toEqual({ size: 4096, name: 'system.posix_acl_access' });
    expect(decodeListxattr(captured('listxattr'))).toEqual({ size: 0 });
  });

  it('INTERRUPT', () => {
    expect(decodeInterrupt(captured('interrupt'))).toEqual({ unique: 8 });
  });
});

describe('whatever bytes there are', () => {
  const decoders = {
    decodeHeader,
    decodeName,
    decodeInit,
    decodeForget: (bytes: Buffer) => decodeForget(decodeHeader(bytes), bytes),
    decodeRead,
    decodeGetxattr,
    decodeListxattr,
    decodeInterrupt,
  };

  const hostile: fc.Arbitrary<Buffer> = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    // What a kernel has sent, changed: a few bytes, and the length, with the header told of it or not.
    fc
      .record({
        name: fc.constantFrom(...(Object.keys(CAPTURED) as CapturedRequest[])),
        changes: fc.array(fc.tuple(fc.nat(250), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)), { maxLength: 6 }),
        length: fc.option(fc.nat(250)),
        told: fc.boolean(),
      })
      .map(({ name, changes, length, told }) => {
        const original = captured(name);
        const bytes = Buffer.alloc(length ?? original.length);
        original.copy(bytes);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        if (told && bytes.length >= 4) bytes.writeUInt32LE(bytes.length, 0);
        return bytes;
      }),
  );

  it.each(Object.entries(decoders))('%s gives a value or a ProtocolError', (_, decode) => {
    fc.assert(
      fc.property(hostile, (bytes) => {
        const before = Buffer.from(bytes);
        try {
          expect(decode(bytes)).toBeTypeOf('object');
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
        expect(bytes).toEqual(before);
      }),
      { numRuns: 2000 },
    );
  });

  it('a batch says how many it forgets, and that is not believed', () => {
    const bytes = captured('batchForget');
    bytes.writeUInt32LE(0xffff_ffff, 40);
    expect(() => decodeForget(decodeHeader(bytes), bytes)).toThrow(ProtocolError);
  });
});
