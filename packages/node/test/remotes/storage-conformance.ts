import { createCipheriv } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ObjectInfo, Storage } from '../../src/remotes/storage/storage.js';

/** One storage under test: each `open` gives another view of the same objects, as another machine has it. */
export interface StorageUnderTest {
  open(): Promise<Storage>;
  close(): Promise<void>;
}

export interface ConformanceOptions {
  name: string;
  /** A new and empty one. */
  make(): Promise<StorageUnderTest>;
  /** How far its clock may be from this machine's, in ms. */
  clockSlackMs: number;
}

const signal = new AbortController().signal;
const bytes = (text: string) => [Buffer.from(text)];

/** Bytes that do not compress, the same on every run. */
export function noise(size: number, seed = 0): Buffer {
  const key = Buffer.alloc(16, seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

async function all(objects: AsyncIterable<ObjectInfo>): Promise<ObjectInfo[]> {
  const found: ObjectInfo[] = [];
  for await (const object of objects) found.push(object);
  return found;
}

/** What every storage does. */
export function describeStorage({ name, make, clockSlackMs }: ConformanceOptions): void {
  describe(`${name} is a storage`, () => {
    let storage: Storage;
    let other: Storage;

    beforeAll(async () => {
      const under = await make();
      storage = await under.open();
      other = await under.open();
      return async () => {
        await storage.close();
        await other.close();
        await under.close();
      };
    });

    test('what was put is there, whole and in ranges', async () => {
      const put = await storage.put(
        'some/object',
        [Buffer.from('0123'), Buffer.alloc(0), Buffer.from('456789')],
        {
          signal,
        },
      );
      const whole = await other.get('some/object', { signal });
      expect(whole).toMatchObject({ name: 'some/object', size: 10, version: put?.version });
      expect(whole?.bytes.toString()).toBe('0123456789');
      const ranges: [offset: number, length: number, text: string][] = [
        [0, 1, '0'],
        [3, 4, '3456'],
        [9, 1, '9'],
        [8, 100, '89'],
        [0, 10, '0123456789'],
        [10, 5, ''],
        [1000, 5, ''],
        [4, 0, ''],
      ];
      for (const [offset, length, text] of ranges) {
        const part = await other.get('some/object', { signal, range: { offset, length } });
        expect({ offset, length, text: part?.bytes.toString() }).toEqual({ offset, length, text });
        expect(part).toMatchObject({ size: 10, version: put?.version });
      }
    });

    test('an object can be empty', async () => {
      expect(await storage.put('empty', [], { signal })).toBeDefined();
      expect(await other.get('empty', { signal })).toMatchObject({ size: 0, bytes: Buffer.alloc(0) });
      const part = await other.get('empty', { signal, range: { offset: 0, length: 5 } });
      expect(part).toMatchObject({ size: 0, bytes: Buffer.alloc(0) });
    });

    test('a part of a larger memory is put as that part alone', async () => {
      const memory = Buffer.from('....inside....');
      await storage.put('view', [new Uint8Array(memory.buffer, memory.byteOffset + 4, 6)], { signal });
      expect((await storage.get('view', { signal }))?.bytes.toString()).toBe('inside');
    });

    test('what is not there is undefined, and no error', async () => {
      expect(await storage.get('missing', { signal })).toBeUndefined();
      expect(await storage.get('missing/below', { signal })).toBeUndefined();
      expect(await storage.get('missing', { signal, range: { offset: 0, length: 0 } })).toBeUndefined();
      expect(await storage.get('missing', { signal, range: { offset: 5, length: 5 } })).toBeUndefined();
      expect(await storage.delete('missing', { signal })).toBe(true);
      expect(await storage.delete('missing', { signal, version: 'any' })).toBe(true);
    });

    test('a put replaces what is there, with another version each time', async () => {
      const versions = new Set<string | undefined>();
      for (let round = 0; round < 40; round++)
        versions.add((await storage.put('again', bytes('same'), { signal }))?.version);
      expect(versions.size).toBe(40);
      expect(versions).not.toContain(undefined);
      await storage.put('again', bytes('longer than before'), { signal });
      await storage.put('again', bytes('short'), { signal });
      expect((await other.get('again', { signal }))?.bytes.toString()).toBe('short');
    });

    test('a touch gives another version and time, and leaves the bytes', async () => {
      expect(await storage.touch('untouched', { signal })).toBe(false);
      expect(await storage.get('untouched', { signal })).toBeUndefined();
      const put = await storage.put('touched', bytes('as it was'), { signal });
      const first = await other.get('touched', { signal });
      await new Promise((resolve) => setTimeout(resolve, 1100));
      expect(await other.touch('touched', { signal })).toBe(true);
      const second = await storage.get('touched', { signal });
      expect(second?.bytes.toString()).toBe('as it was');
      expect(second?.version).not.toBe(put?.version);
      expect(second?.modified).toBeGreaterThan(first?.modified ?? Number.POSITIVE_INFINITY);
      expect(await storage.delete('touched', { signal, version: put?.version ?? '' })).toBe(false);
      expect(
        await storage.put('touched', bytes('x'), { signal, expected: { version: put?.version ?? '' } }),
      ).toBe(undefined);
      expect((await storage.get('touched', { signal }))?.version).toBe(second?.version);
    });

    test('a put that expects nothing writes where nothing is', async () => {
      const first = await storage.put('new', bytes('first'), { signal, expected: 'nothing' });
      expect(first).toBeDefined();
      expect(await other.put('new', bytes('second'), { signal, expected: 'nothing' })).toBeUndefined();
      expect(await other.get('new', { signal })).toMatchObject({
        version: first?.version,
        bytes: Buffer.from('first'),
      });
      await storage.delete('new', { signal });
      expect(await other.put('new', bytes('third'), { signal, expected: 'nothing' })).toBeDefined();
    });

    test('a put that expects a version replaces that one alone', async () => {
      const first = (await storage.put('versioned', bytes('first'), { signal }))!;
      const second = (await other.put('versioned', bytes('second'), { signal, expected: first }))!;
      expect(await storage.put('versioned', bytes('third'), { signal, expected: first })).toBeUndefined();
      expect((await storage.get('versioned', { signal }))?.bytes.toString()).toBe('second');
      await storage.delete('versioned', { signal });
      expect(await storage.put('versioned', bytes('fourth'), { signal, expected: second })).toBeUndefined();
      expect(await storage.get('versioned', { signal })).toBeUndefined();
    });

    test('a version that was listed or read is the one to expect', async () => {
      await storage.put('listed/one', bytes('1'), { signal });
      const [info] = await all(other.list('listed/', { signal }));
      expect(await other.put('listed/one', bytes('2'), { signal, expected: info })).toBeDefined();
      const read = (await storage.get('listed/one', { signal }))!;
      expect(read.version).not.toBe(info.version);
      expect(await storage.put('listed/one', bytes('3'), { signal, expected: read })).toBeDefined();
    });

    test('a delete of a version leaves another one', async () => {
      const first = (await storage.put('deleted', bytes('first'), { signal }))!;
      const second = (await storage.put('deleted', bytes('second'), { signal }))!;
      expect(await other.delete('deleted', { signal, version: first.version })).toBe(false);
      expect(await storage.get('deleted', { signal })).toBeDefined();
      expect(await other.delete('deleted', { signal, version: second.version })).toBe(true);
      expect(await storage.get('deleted', { signal })).toBeUndefined();
    });

    test('of those who write what is new at the same time, one wins', async () => {
      for (let round = 0; round < 5; round++) {
        const put = (text: string, at: number) =>
          (at % 2 ? storage : other).put(`race/new-${round}`, bytes(text), { signal, expected: 'nothing' });
        const texts = Array.from({ length: 12 }, (_, at) => `writer ${at}`);
        const won = await Promise.all(texts.map(put));
        const winners = texts.filter((_, at) => won[at]);
        expect(winners).toHaveLength(1);
        expect((await other.get(`race/new-${round}`, { signal }))?.bytes.toString()).toBe(winners[0]);
      }
    });

    test('of those who replace a version at the same time, one wins, and no update is lost', async () => {
      await storage.put('race/counter', bytes('0'), { signal });
      const increment = async (view: Storage) => {
        for (;;) {
          const { bytes: text, version } = (await view.get('race/counter', { signal }))!;
          const next = bytes(String(Number(text) + 1));
          if (await view.put('race/counter', next, { signal, expected: { version } })) return;
        }
      };
      await Promise.all(Array.from({ length: 12 }, (_, at) => increment(at % 2 ? storage : other)));
      expect((await storage.get('race/counter', { signal }))?.bytes.toString()).toBe('12');
    });

    test('who reads while another writes gets what was or what is', async () => {
      const contents = [noise(3 << 20, 1), noise(3 << 20, 2)];
      await storage.put('torn', [contents[0]], { signal });
      let writing = true;
      const writer = (async () => {
        for (let round = 0; round < 6; round++) await storage.put('torn', [contents[round % 2]], { signal });
        writing = false;
      })();
      let reads = 0;
      while (writing) {
        const { bytes: got } = (await other.get('torn', { signal }))!;
        expect(contents.some((content) => content.equals(got))).toBe(true);
        reads++;
      }
      await writer;
      expect(reads).toBeGreaterThan(0);
    });

    test('large objects, in one part and in many', async () => {
      const large = noise(40 << 20, 3);
      const parts: Buffer[] = [];
      for (let at = 0; at < large.length; at += 300_001) parts.push(large.subarray(at, at + 300_001));
      const version = (await storage.put('large/many', parts, { signal }))?.version;
      await storage.put('large/one', [large], { signal });
      for (const which of ['large/many', 'large/one']) {
        const got = await other.get(which, { signal });
        expect(got?.size).toBe(large.length);
        expect(got?.bytes.equals(large)).toBe(true);
      }
      const range = { offset: 33_000_001, length: 5_000_000 };
      const part = await other.get('large/many', { signal, range });
      expect(part?.bytes.equals(large.subarray(range.offset, range.offset + range.length))).toBe(true);
      expect(part).toMatchObject({ size: large.length, version });
      expect(await other.put('large/one', [large], { signal, expected: 'nothing' })).toBeUndefined();
      expect(
        await other.put('large/many', [large], { signal, expected: { version: version! } }),
      ).toBeDefined();
      expect(
        await other.put('large/many', [large], { signal, expected: { version: version! } }),
      ).toBeUndefined();
    });

    test('a list is of all names that begin so, in order, over many pages', async () => {
      const names = Array.from({ length: 23 }, (_, at) => `many/${String((at * 7) % 23).padStart(2, '0')}`);
      names.push(
        'many/07-x',
        'many/07.x',
        'many/sub/a',
        'many/sub-b/a',
        'many/sub.c',
        'many0',
        'man',
        'many-x/y',
        'Many/z',
      );
      await Promise.all(names.map((one) => storage.put(one, bytes(one), { signal })));
      const listed = async (prefix: string) =>
        (await all(other.list(prefix, { signal }))).map((info) => info.name);
      for (const prefix of [
        'many',
        'many/',
        'many/0',
        'many/07',
        'many/sub',
        'many/sub/',
        'man',
        'Many/',
        'none',
        'many/sub.c/',
      ])
        expect([prefix, await listed(prefix)]).toEqual([
          prefix,
          names.filter((one) => one.startsWith(prefix)).sort(),
        ]);
      const everything = await listed('');
      expect(everything).toEqual([...everything].sort());
      expect(everything).toEqual(expect.arrayContaining(names));
      for (const info of await all(other.list('many/', { signal }))) {
        const got = await other.get(info.name, { signal });
        expect({ ...info, bytes: got?.bytes }).toEqual(got);
        expect(info.size).toBe(info.name.length);
      }
    });

    test('names that lead elsewhere are refused', async () => {
      const names = [
        '',
        '/',
        '/a',
        'a/',
        'a//b',
        '.',
        '..',
        '../a',
        'a/../b',
        'a/..',
        '.hidden',
        'a/.b',
        'a\\b',
        'a\0b',
        'ä',
        'a b',
        'a?b',
        'a#b',
        'a.',
        'a/b./c',
        'x'.repeat(801),
      ];
      for (const bad of names) {
        const failure = expect.objectContaining({ name: 'LazytreeError', code: 'FAILED' });
        await expect(async () => storage.get(bad, { signal }), bad).rejects.toEqual(failure);
        await expect(async () => storage.put(bad, bytes('x'), { signal }), bad).rejects.toEqual(failure);
        await expect(async () => storage.delete(bad, { signal }), bad).rejects.toEqual(failure);
      }
    });

    test('its clock is that by which objects are stamped', async () => {
      const before = await storage.now({ signal });
      await storage.put('stamped', bytes('x'), { signal });
      const { modified } = (await storage.get('stamped', { signal }))!;
      const after = await storage.now({ signal });
      // Seconds are as fine as it gets over HTTP.
      expect(modified).toBeGreaterThanOrEqual(before - 1000);
      expect(modified).toBeLessThanOrEqual(after + 1000);
      expect(Math.abs(after - Date.now())).toBeLessThan(clockSlackMs);
    });

    test('what was given up ends at once, and nothing of it is left', async () => {
      const given = new AbortController();
      given.abort(new Error('given up'));
      const options = { signal: given.signal };
      await expect(storage.get('some/object', options)).rejects.toThrow('given up');
      await expect(storage.put('given-up', bytes('x'), options)).rejects.toThrow('given up');
      await expect(storage.delete('some/object', options)).rejects.toThrow('given up');
      await expect(all(storage.list('', options))).rejects.toThrow('given up');
      await expect(storage.now(options)).rejects.toThrow('given up');
      const later = new AbortController();
      const large = noise(40 << 20, 4);
      const putting = storage.put('given-up', [large], { signal: later.signal });
      setTimeout(() => later.abort(new Error('given up')), 5);
      await expect(putting).rejects.toThrow('given up');
      expect(await other.get('given-up', { signal })).toBeUndefined();
      expect(await other.get('some/object', { signal })).toBeDefined();
    });

    test('traffic counts', async () => {
      const before = storage.traffic();
      await storage.put('traffic', [noise(100_000)], { signal });
      await storage.get('traffic', { signal, range: { offset: 0, length: 40_000 } });
      const after = storage.traffic();
      expect(after.requests - before.requests).toBe(2);
      expect(after.sent - before.sent).toBe(100_000);
      expect(after.received - before.received).toBe(40_000);
    });

    test('it says what it is', () => {
      expect(storage.describe()).toMatch(/^(?:azure|file):\/\//);
    });
  });
}
