import { createHash } from 'node:crypto';
import fs from 'node:fs';
import {
  bucketOf,
  checkBucket,
  DAG_CBOR,
  decodeTable,
  decodeTableHeader,
  encodeTable,
  fanoutRange,
  findInBucket,
  frameRange,
  LazytreeError,
  type Link,
  linkCodec,
  linkDigest,
  makeLink,
  mayHave,
  RAW,
  readFanout,
  readFramePlace,
  TABLE_HEADER,
  type TableContent,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const digestFor = (text: string) => createHash('sha256').update(text).digest().toString('latin1');

interface Place {
  pack: string;
  offset: number;
  length: number;
  slot: number;
}

type Model = Map<Link, Place>;

function encode(model: Model): Buffer {
  const frames: TableContent['frames'][number][] = [];
  const numbers = new Map<string, number>();
  const links = [...model.keys()];
  const frameOf = links.map((link) => {
    const { pack, offset, length } = model.get(link) as Place;
    const key = `${pack}${offset}`;
    if (!numbers.has(key)) numbers.set(key, frames.push({ pack, offset, length }) - 1);
    return numbers.get(key) as number;
  });
  const slotOf = links.map((link) => (model.get(link) as Place).slot);
  return encodeTable({ frames, links, frameOf, slotOf });
}

function decode(table: Buffer): Model {
  const { frames, links, frameOf, slotOf } = decodeTable(table, 'here');
  return new Map(links.map((link, i) => [link, { ...frames[frameOf[i]], slot: slotOf[i] }]));
}

/** Looks a block up as who has only parts of the table does. */
function lookUp(table: Buffer, link: Link): Place | undefined {
  const part = ({ offset, length }: { offset: number; length: number }) =>
    table.subarray(offset, offset + length);
  const shape = decodeTableHeader(table.subarray(0, TABLE_HEADER), table.length, 'here');
  if (!mayHave(table.subarray(shape.filterAt), linkDigest(link))) return undefined;
  const number = bucketOf(linkDigest(link), shape.fanoutBits);
  const place = readFanout(part(fanoutRange(number)), number, shape, 'here');
  checkBucket(part(place), place, 'here');
  const entry = findInBucket(part(place), link);
  if (!entry) return undefined;
  return { ...readFramePlace(part(frameRange(entry.frame, shape, 'here'))), slot: entry.slot };
}

const packId = fc.nat(3).map((seed) => digestFor(`pack ${seed}`));
// Some share their first bytes, so that buckets are long, and neighbours differ in the last byte alone.
const digest = fc.oneof(
  { weight: 4, arbitrary: fc.nat(1e9).map((seed) => digestFor(String(seed))) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.nat(3), fc.nat(255)).map(([prefix, last]) => {
      return digestFor(`prefix ${prefix}`).slice(0, 31) + String.fromCharCode(last);
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom('\0'.repeat(32), '\xff'.repeat(32)) },
);
const link = fc.tuple(fc.constantFrom(RAW, DAG_CBOR), digest).map(([codec, of]) => makeLink(codec, of));
const place = fc.record({
  pack: packId,
  offset: fc.constantFrom(16, 1000, 2 ** 31, 2 ** 47),
  length: fc.constant(500),
  slot: fc.nat(65_535),
});
const models: fc.Arbitrary<Model> = fc
  .array(fc.tuple(link, place), { maxLength: 300 })
  .map((entries) => new Map(entries));

/** Most are content; some nodes have the bytes of another block. */
function linkFor(i: number): Link {
  return i % 5 === 1
    ? makeLink(DAG_CBOR, digestFor(`block ${i - (i % 2)}`))
    : makeLink(RAW, digestFor(`block ${i}`));
}

function manyBlocks(count: number): Model {
  return new Map(
    Array.from({ length: count }, (_, i) => [
      linkFor(i),
      { pack: digestFor(`pack ${i % 7}`), offset: 16 + (i % 50) * 1000, length: 1000, slot: i % 65_536 },
    ]),
  );
}

const COUNTS = [0, 1, 2, 255, 256, 257, 512, 513, 5000, 40_000];

function problemOf(task: () => unknown): string | undefined {
  try {
    task();
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(LazytreeError);
    expect(error).toMatchObject({ code: 'CORRUPT' });
    return (error as Error).message;
  }
}

describe('a table', () => {
  it('says of blocks what it was told, read whole and in parts', () => {
    fc.assert(
      fc.property(models, fc.array(link, { maxLength: 20 }), (model, others) => {
        const table = encode(model);
        expect(decode(table)).toEqual(model);
        const digests = [...decode(table).keys()].map(linkDigest);
        expect(digests).toEqual([...digests].sort());
        for (const one of [...model.keys(), ...others]) expect(lookUp(table, one)).toEqual(model.get(one));
      }),
      { numRuns: 150 },
    );
  });

  it.each(COUNTS)('of %i blocks is the same read whole and in parts', (count) => {
    const model = manyBlocks(count);
    const table = encode(model);
    expect(decode(table)).toEqual(model);
    for (const [one, where] of model) expect(lookUp(table, one)).toEqual(where);
    for (let i = 0; i < 1000; i++)
      expect(lookUp(table, makeLink(RAW, digestFor(`other ${i}`)))).toBeUndefined();
  });

  it.each([
    ['that differ early', (digest: string) => digest],
    ['that begin alike', (digest: string) => `same${digest.slice(4)}`],
  ])('of digests %s is the same in whatever order it was told', (_, change) => {
    const model = new Map(
      [...manyBlocks(300)].map(([link, place]) => [
        makeLink(linkCodec(link), change(linkDigest(link))),
        place,
      ]),
    );
    const { frames, links, frameOf, slotOf } = decodeTable(encode(model), 'here');
    const order = links.map((_, i) => links.length - 1 - i);
    const again = encodeTable({
      frames,
      links: order.map((i) => links[i]),
      frameOf: order.map((i) => frameOf[i]),
      slotOf: order.map((i) => slotOf[i]),
    });
    expect(again.equals(encodeTable({ frames, links, frameOf, slotOf }))).toBe(true);
    expect(links.map(linkDigest)).toEqual(links.map(linkDigest).sort());
  });

  it('has buckets that are short enough to be read for one block', () => {
    for (const count of COUNTS.filter((some) => some >= 256)) {
      const table = encode(manyBlocks(count));
      const shape = decodeTableHeader(table, table.length, 'here');
      const buckets = 2 ** shape.fanoutBits;
      expect(count / buckets).toBeLessThanOrEqual(256);
      expect(count / buckets).toBeGreaterThan(100);
    }
  });

  it('has a filter that knows all it has, and mistakes few others for one', () => {
    for (const count of [1, 100, 40_000]) {
      const model = manyBlocks(count);
      const table = encode(model);
      const filter = table.subarray(decodeTableHeader(table, table.length, 'here').filterAt);
      for (const one of model.keys()) expect(mayHave(filter, linkDigest(one))).toBe(true);
      if (count < 1000) continue;
      let mistaken = 0;
      for (let i = 0; i < 50_000; i++) if (mayHave(filter, digestFor(`other ${i}`))) mistaken++;
      expect(mistaken / 50_000).toBeGreaterThan(0.004);
      expect(mistaken / 50_000).toBeLessThan(0.013);
    }
    const none = encode(new Map());
    expect(
      mayHave(none.subarray(decodeTableHeader(none, none.length, 'here').filterAt), digestFor('x')),
    ).toBe(false);
  });

  it('is found to be damaged whichever byte of header, fan-out and entries is another one', () => {
    const table = encode(manyBlocks(600));
    const { framesAt, entriesAt, filterAt } = decodeTableHeader(table, table.length, 'here');
    for (let at = 0; at < filterAt; at++) {
      // Places of frames have no checksum: frames have, and who reads a whole table knows its hash.
      if (at >= framesAt && at < entriesAt) continue;
      const damaged = Buffer.from(table);
      damaged[at] ^= 1 << (at & 7);
      expect(
        problemOf(() => decodeTable(damaged, "'index/x'")),
        `byte ${at}`,
      ).toMatch(/^'index\/x' is damaged: /);
    }
  });

  it('that is cut short or too long is found', () => {
    const table = encode(manyBlocks(20));
    for (let length = 0; length < table.length; length++) {
      expect(problemOf(() => decodeTable(table.subarray(0, length), 'x'))).toBeDefined();
    }
    expect(problemOf(() => decodeTable(Buffer.concat([table, Buffer.alloc(1)]), 'x'))).toBeDefined();
  });

  it('of whatever bytes is read or refused, and costs no more than it is long', () => {
    const tables = [0, 1, 40, 600].map((count) => encode(manyBlocks(count)));
    const change = fc.record({ at: fc.nat(40_000), byte: fc.nat(255) });
    fc.assert(
      fc.property(fc.constantFrom(...tables), fc.array(change, { maxLength: 5 }), (table, changes) => {
        const bytes = Buffer.from(table);
        for (const { at, byte } of changes) bytes[at % bytes.length] = byte;
        problemOf(() => decodeTable(bytes, 'x'));
        problemOf(() => lookUp(bytes, linkFor(3)));
      }),
      { numRuns: 2000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(2 ** 31), (bytes, size) => {
        expect(problemOf(() => decodeTableHeader(Buffer.from(bytes), size, 'x'))).toBeDefined();
      }),
    );
  });

  it('is what it was when the format was released', () => {
    const golden = new URL('../golden/tables.json', import.meta.url);
    const value = Object.fromEntries(
      [0, 1, 3, 600].map((count) => {
        const table = encode(manyBlocks(count));
        const sha256 = createHash('sha256').update(table).digest('hex');
        return [count, count < 100 ? table.toString('hex') : { bytes: table.length, sha256 }];
      }),
    );
    if (process.env.UPDATE_GOLDEN === '1')
      fs.writeFileSync(golden, `${JSON.stringify(value, undefined, 2)}\n`);
    expect(value).toEqual(JSON.parse(fs.readFileSync(golden, 'utf8')));
  });
});
