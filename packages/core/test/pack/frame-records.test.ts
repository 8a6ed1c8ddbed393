import {
  createFrameUnpacker,
  DAG_CBOR,
  encodeRecord,
  type FrameUnpacker,
  type Link,
  linkDigest,
  RAW,
  unpackFrames,
} from '@lazytree/core';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { block, errorOf, pseudoRandom } from '../helpers.js';
import { makeFrame } from './make-frame.js';

const contents = fc.array(
  fc.oneof(
    fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
    fc.tuple(fc.nat(20_000), fc.nat(5)).map(([size, seed]) => pseudoRandom(size, seed)),
    fc.nat(20_000).map((size) => Buffer.alloc(size, 'some text ')),
  ),
  { minLength: 1, maxLength: 10 },
);

const digestsOf = (links: readonly Link[]) => links.map(linkDigest);
const recordsOf = (blocks: readonly ReturnType<typeof block>[]) =>
  Buffer.concat(blocks.map(({ link, bytes }) => encodeRecord(link, bytes)));

describe('frames', () => {
  it('become the records that a store would have, those that were wanted and the others apart', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(RAW, DAG_CBOR), contents), { minLength: 1, maxLength: 3 }),
        fc.func(fc.boolean()),
        (list, isWanted) => {
          const blocks = list.flatMap(([codec, bytes]) => bytes.map((one) => block(one, codec)));
          const frames = Buffer.concat(list.map(([codec, bytes]) => makeFrame(codec, bytes)));
          const absent = linkDigest(block('absent').link);
          const wanted = new Set(
            digestsOf(blocks.map(({ link }) => link)).filter((digest) => isWanted(digest)),
          );
          const { records, found, extra } = unpackFrames({
            frames,
            wanted: [...wanted, absent].join(''),
            where: 'here',
          });
          // A block that comes again was not asked for again.
          const first = blocks.filter(
            ({ link }, i) =>
              wanted.has(linkDigest(link)) &&
              blocks.findIndex((other) => linkDigest(other.link) === linkDigest(link)) === i,
          );
          expect(found).toEqual(digestsOf(first.map(({ link }) => link)));
          expect(records.equals(recordsOf(first))).toBe(true);
          expect(extra.equals(recordsOf(blocks.filter((one) => !first.includes(one))))).toBe(true);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('of other content than a table says give it as something else', () => {
    const [asked, there] = [block('asked for'), block('what is there')];
    const frames = makeFrame(RAW, [there.bytes]);
    const { records, found, extra } = unpackFrames({ frames, wanted: linkDigest(asked.link), where: 'here' });
    expect([records.length, found]).toEqual([0, []]);
    expect(extra.equals(encodeRecord(there.link, there.bytes))).toBe(true);
  });

  it('that are damaged are refused, in this thread and in others', async () => {
    const good = makeFrame(RAW, [pseudoRandom(3 << 19)]);
    const unpacker = unpackerOf();
    const cut = good.subarray(0, good.length - 1);
    const flipped = Buffer.from(good);
    flipped[100] ^= 1;
    for (const frames of [cut, flipped, Buffer.concat([good, Buffer.from('more')])]) {
      for (const _ of [1, 2]) {
        const failed = await errorOf(unpacker.unpack({ frames, wanted: '', where: "'packs/x' of here" }));
        expect(failed).toMatchObject({ code: 'CORRUPT' });
        expect(failed.message).toMatch(/^'packs\/x' of here is damaged: /);
      }
    }
  });

  it('are unpacked alike in this thread and in others', async () => {
    const unpacker = unpackerOf();
    const blocks = Array.from({ length: 20 }, (_, i) => block(pseudoRandom(40_000, i)));
    const job = {
      frames: makeFrame(
        RAW,
        blocks.map(({ bytes }) => bytes),
      ),
      wanted: linkDigest(blocks[3].link),
      where: 'here',
    };
    const expected = unpackFrames(job);
    for (let i = 0; i < 5; i++) {
      const found = await unpacker.unpack(job);
      expect(found.found).toEqual(expected.found);
      expect(Buffer.isBuffer(found.records)).toBe(true);
      expect(found.records.equals(expected.records) && found.extra.equals(expected.extra)).toBe(true);
    }
  });

  const open: FrameUnpacker[] = [];
  function unpackerOf(): FrameUnpacker {
    const unpacker = createFrameUnpacker();
    open.push(unpacker);
    return unpacker;
  }
  afterAll(() => Promise.all(open.map((unpacker) => unpacker.close())));
});
