import fs from 'node:fs';
import { crc32 } from 'node:zlib';
import {
  type Codec,
  DAG_CBOR,
  encodeFrameHeader,
  encodeLengths,
  FRAME_HEADER,
  LazytreeError,
  MAX_BLOCK_BYTES,
  MAX_FRAME_BYTES,
  RAW,
  readFrame,
  readFrameHeader,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pseudoRandom } from '../helpers.js';
import { makeFrame } from './make-frame.js';

const kinds = fc.constantFrom('zstd' as const, 'snappy' as const);
const codecs = fc.constantFrom(RAW, DAG_CBOR);
const blockLists = fc.array(
  fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.tuple(fc.nat(60_000), fc.nat(9)).map(([size, seed]) => pseudoRandom(size, seed)),
    fc.nat(60_000).map((size) => Buffer.alloc(size, 'lazytree ')),
  ),
  { minLength: 1, maxLength: 20 },
);

/** What reading gives, or that it is refused as it should be. */
function tryRead(bytes: Buffer, at = 0): ReturnType<typeof readFrame> | undefined {
  try {
    return readFrame(bytes, at, "'packs/x' of here");
  } catch (error) {
    expect(error).toBeInstanceOf(LazytreeError);
    expect(error).toMatchObject({ code: 'CORRUPT' });
    expect((error as Error).message).toMatch(/^'packs\/x' of here is damaged: [^\n]+$/);
    return undefined;
  }
}

/** A frame's checksum, set to what its bytes have. */
function sealed(frame: Buffer): Buffer {
  const end = Math.min(frame.length, FRAME_HEADER + frame.readUInt32LE(12));
  frame.writeUInt32LE(crc32(frame.subarray(8, end)), 4);
  return frame;
}

describe('a frame', () => {
  it('gives the blocks that it was made of, wherever it is', () => {
    fc.assert(
      fc.property(
        kinds,
        codecs,
        blockLists,
        fc.uint8Array({ maxLength: 50 }),
        (kind, codec, blocks, before) => {
          const frame = makeFrame(codec, blocks, kind);
          const found = readFrame(Buffer.concat([before, frame, before]), before.length, 'here');
          expect(found.codec).toBe(codec);
          expect(found.blocks.map((bytes) => Buffer.from(bytes))).toEqual(
            blocks.map((bytes) => Buffer.from(bytes)),
          );
          const { stored, raw, blocks: count } = readFrameHeader(frame, 0, 'here');
          expect([stored, count]).toEqual([frame.length - FRAME_HEADER, blocks.length]);
          expect(raw).toBe(blocks.reduce((sum, { length }) => sum + 4 + length, 0));
        },
      ),
      { numRuns: 200 },
    );
  });

  it('holds the largest block, and many empty ones', () => {
    const largest = pseudoRandom(MAX_BLOCK_BYTES);
    expect(readFrame(makeFrame(RAW, [largest]), 0, 'here').blocks[0].equals(largest)).toBe(true);
    const empty = Array.from({ length: 65_536 }, () => Buffer.alloc(0));
    expect(readFrame(makeFrame(RAW, empty), 0, 'here').blocks).toHaveLength(65_536);
  });

  it.each(['zstd', 'snappy'] as const)(
    'of %s is found to be damaged whichever byte is another one',
    (kind) => {
      const blocks = [Buffer.from('one'), Buffer.alloc(0), Buffer.alloc(400, 'some text ')];
      const frame = makeFrame(RAW, blocks, kind);
      for (let at = 0; at < frame.length; at++) {
        for (const bit of [1, 0x80, 0xff]) {
          const damaged = Buffer.from(frame);
          damaged[at] ^= bit;
          expect(tryRead(damaged), `byte ${at}`).toBeUndefined();
        }
      }
    },
  );

  it('is found to be cut short at every length', () => {
    const frame = makeFrame(DAG_CBOR, [Buffer.alloc(300, 'some text ')]);
    for (let length = 0; length < frame.length; length++)
      expect(tryRead(frame.subarray(0, length))).toBeUndefined();
    expect(tryRead(frame, 1)).toBeUndefined();
    expect(tryRead(frame, frame.length)).toBeUndefined();
  });

  it('with a checksum that holds is refused when what it says does not fit', () => {
    const payload = (lengths: number[], rest: number) =>
      Buffer.concat([encodeLengths(lengths), Buffer.alloc(rest)]);
    const frame = (
      lengths: number[],
      rest: number,
      change: Partial<Parameters<typeof encodeFrameHeader>[0]> = {},
    ) => {
      const bytes = payload(lengths, rest);
      const parts = {
        compression: 0 as const,
        codec: RAW as Codec,
        raw: bytes.length,
        blocks: lengths.length,
        payload: bytes,
      };
      return Buffer.concat([encodeFrameHeader({ ...parts, ...change }), bytes]);
    };
    expect(tryRead(frame([3, 2], 5))?.blocks.map(({ length }) => length)).toEqual([3, 2]);
    expect(tryRead(frame([3, 2], 6)), 'bytes left over').toBeUndefined();
    expect(tryRead(frame([3, 3], 5)), 'too few bytes').toBeUndefined();
    expect(tryRead(frame([0xffff_ffff, 5], 4)), 'a sum that wraps').toBeUndefined();
    expect(tryRead(frame([MAX_BLOCK_BYTES + 1], MAX_BLOCK_BYTES + 1)), 'a block too large').toBeUndefined();
    expect(tryRead(frame([], 0)), 'no blocks').toBeUndefined();
    expect(tryRead(frame([1], 1, { blocks: 2 })), 'more blocks than lengths').toBeUndefined();
    expect(tryRead(frame([1], 1, { raw: MAX_FRAME_BYTES + 1 })), 'too large').toBeUndefined();
    expect(tryRead(frame([1], 1, { codec: 0x12 as never })), 'another codec').toBeUndefined();
    expect(tryRead(frame([1], 1, { compression: 3 as never })), 'another compression').toBeUndefined();
    for (const at of [10, 11]) {
      const odd = frame([1], 1);
      odd[at] = 1;
      expect(tryRead(sealed(odd)), 'what is zero').toBeUndefined();
    }
  });

  it('that claims more than it has is refused before that much is allocated', () => {
    // 16 MiB of zeros, which are a few bytes when compressed.
    const bomb = makeFrame(
      RAW,
      Array.from({ length: 16 }, () => Buffer.alloc((1 << 20) - 4)),
    );
    expect(bomb.length).toBeLessThan(10_000);
    for (const raw of [1000, 1 << 20]) {
      const small = Buffer.from(bomb);
      small.writeUInt32LE(raw, 16);
      const before = process.memoryUsage().arrayBuffers;
      expect(tryRead(sealed(small))).toBeUndefined();
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 << 20);
    }
  });

  it('of whatever bytes is read or refused as damaged', () => {
    const frames = [
      makeFrame(RAW, [pseudoRandom(100), Buffer.alloc(900, 'text ')]),
      makeFrame(DAG_CBOR, [Buffer.alloc(900, 'text ')], 'snappy'),
      makeFrame(RAW, [pseudoRandom(50)]),
    ];
    const change = fc.record({ at: fc.nat(10_000), byte: fc.nat(255) });
    fc.assert(
      fc.property(
        fc.constantFrom(...frames),
        fc.array(change, { maxLength: 6 }),
        fc.boolean(),
        fc.nat(2000),
        (frame, changes, isSealed, cut) => {
          const bytes = Buffer.from(frame);
          for (const { at, byte } of changes) bytes[at % bytes.length] = byte;
          const changed = isSealed ? sealed(bytes) : bytes;
          const found = tryRead(cut < 1000 ? changed.subarray(0, cut) : changed);
          const size = found?.blocks.reduce((sum, { length }) => sum + length, 0) ?? 0;
          expect(size).toBeLessThanOrEqual(MAX_FRAME_BYTES);
        },
      ),
      { numRuns: 5000 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void tryRead(Buffer.from(bytes))));
  });

  it('is what it was when the format was released', () => {
    const golden = new URL('../golden/frames.json', import.meta.url);
    const blocks = [Buffer.from('one'), Buffer.alloc(0), Buffer.from('a longer one')];
    // How well a compressor does is not part of the format: what it has made is kept, and read.
    const value = {
      plain: makeFrame(RAW, blocks).toString('hex'),
      nodes: makeFrame(DAG_CBOR, [Buffer.from([0xa0])]).toString('hex'),
    };
    if (process.env.UPDATE_GOLDEN === '1') {
      const text = Buffer.alloc(300, 'some text ');
      const compressed = { zstd: makeFrame(RAW, [text]), snappy: makeFrame(RAW, [text], 'snappy') };
      const hexed = Object.fromEntries(
        Object.entries(compressed).map(([kind, bytes]) => [kind, bytes.toString('hex')]),
      );
      fs.writeFileSync(golden, `${JSON.stringify({ ...value, ...hexed }, undefined, 2)}\n`);
    }
    const { zstd, snappy, ...plain } = JSON.parse(fs.readFileSync(golden, 'utf8'));
    expect(value).toEqual(plain);
    for (const bytes of [zstd, snappy]) {
      expect(readFrame(Buffer.from(bytes, 'hex'), 0, 'here').blocks.map(String)).toEqual([
        'some text '.repeat(30),
      ]);
    }
  });
});
