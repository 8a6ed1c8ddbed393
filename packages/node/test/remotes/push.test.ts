import { DAG_CBOR, formatLink, type Link, makeLink } from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type DirectorySpec,
  directory,
  errorOf,
  file,
  manyFiles,
  pseudoRandom,
  treeArbitrary,
} from '../../../core/test/helpers.ts';
import type { Storage } from '../../dist/remotes/storage/storage.js';
import {
  allLinks,
  killedAt,
  type Machine,
  never,
  newMachine,
  newPlace,
  objects,
  readWhole,
  visibleRoots,
} from './machine.ts';

const zipped = (spec: DirectorySpec, ...more: [string, DirectorySpec | ReturnType<typeof file>][]) =>
  directory([...spec.entries, ...more]);

/** More than one pack: content that does not compress. */
const LARGE = manyFiles(40, { perDirectory: 5, size: 600_000, seed: 7 });

async function expectSame(reader: Machine, writer: Machine, root: Link): Promise<void> {
  await reader.chain.bringTree(root, { signal: never });
  for (const link of await allLinks(writer.store, root)) {
    expect(Buffer.compare(await reader.chain.get(link), await writer.store.get(link))).toBe(0);
  }
}

describe('a push', () => {
  it('makes every block of a tree, and of what it becomes, readable elsewhere', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(treeArbitrary(), { minLength: 1, maxLength: 4 }), async (specs) => {
        const place = await newPlace();
        const writer = await newMachine(place);
        const reader = await newMachine(place);
        let spec = directory();
        for (const more of specs) {
          spec = zipped(spec, ...([...more.entries] as [string, DirectorySpec][]));
          const root = await writer.plant(spec);
          await writer.push(root, 'main');
          expect((await reader.remote.ref('main', never))?.ref.snapshots[0].root).toBe(root);
          await expectSame(reader, writer, root);
          await readWhole(place, root);
        }
        for (const { store } of [writer, reader]) await store.close();
      }),
      { numRuns: 15 },
    );
  });

  it('of a tree of several packs is readable', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const root = await writer.plant(LARGE);
    const pushed = await writer.push(root, 'main');
    expect(pushed.packs).toBeGreaterThan(1);
    expect((await objects(place, 'packs/')).size).toBe(pushed.packs);
    await expectSame(await newMachine(place), writer, root);
  });

  it('sends what is not there, and nothing else', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const spec = manyFiles(400, { perDirectory: 20, size: 3000 });
    const root = await writer.plant(spec);
    const first = await writer.push(root, 'main');
    expect(first.blocks).toBe((await allLinks(writer.store, root)).size);
    const before = writer.storage.traffic();
    expect(await writer.push(root, 'main')).toEqual({ root, blocks: 0, bytes: 0, packs: 0, changed: false });
    expect(writer.storage.traffic().sent - before.sent).toBe(0);

    const edited = await writer.plant(zipped(spec, ['new', file(pseudoRandom(5000, 99))]));
    const { sent } = writer.storage.traffic();
    const second = await writer.push(edited, 'main');
    expect(second.blocks).toBe(2);
    // The file, the root's node, and what says where they are.
    expect(writer.storage.traffic().sent - sent).toBeLessThan(5000 + 4000);
    // Somebody else, who does not know what was pushed from here, sends nothing either.
    const other = await newMachine(place, { like: writer });
    expect(await other.push(edited, 'theirs')).toMatchObject({ blocks: 0, packs: 0, changed: true });
    expect(other.storage.traffic().sent).toBeLessThan(2000);
  });

  it('sends blocks that the store does not have, and its source has', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const lazy = await newMachine(await newPlace());
    const root = await writer.plant(manyFiles(30, { perDirectory: 10, size: 2000 }));
    lazy.chain.add(writer.store);
    await lazy.push(root, 'main');
    await readWhole(lazy.storage.describe().replace(/^.*file:\/\//, ''), root);
  });

  it('ends when it is told to, and holds on to nothing', async () => {
    const place = await newPlace();
    const stop = new AbortController();
    const writer = await newMachine(place);
    const root = await writer.plant(LARGE);
    const failed = await errorOf(
      writer.push(root, 'main', {
        signal: stop.signal,
        onProgress: ({ blocks }) => void (blocks === 100 && stop.abort(new Error('enough'))),
      }),
    );
    expect(failed.message).toBe('enough');
    expect(writer.store.beginCollection()).toEqual([]);
    writer.store.endCollection();
    expect((await objects(place, 'roots/')).size + (await objects(place, 'refs/')).size).toBe(0);
    await writer.push(root, 'main');
    await readWhole(place, root);
  });

  it.each([
    ['has not happened', false],
    ['has happened, but was not answered', true],
  ])('that is killed at a write that %s shows nothing that is not whole', async (_, late) => {
    const source = await newMachine(await newPlace());
    const small = await source.plant(manyFiles(30, { perDirectory: 10, size: 500 }));
    const large = await source.plant(LARGE);
    for (let write = 1; ; write++) {
      const place = await newPlace();
      await (await newMachine(place, { like: source })).push(small, 'main');
      const packs = [...(await objects(place, 'packs/')).keys()];
      let storage = undefined as unknown as ReturnType<typeof killedAt>;
      const wrap = (inner: Storage) => {
        storage = killedAt(inner, write, late);
        return storage;
      };
      const doomed = await newMachine(place, { like: source, wrap });
      const failure = await doomed.push(large, 'main').then(
        () => undefined,
        (error: Error) => error,
      );
      const looker = await newMachine(place, { like: source });
      for (const root of await visibleRoots(looker)) {
        await readWhole(place, root);
      }
      for (const name of (await objects(place, 'roots/')).keys()) {
        const root = [small, large].find((link) => name === `roots/${formatLink(link)}`);
        await readWhole(place, root as Link);
      }
      const again = await newMachine(place, { like: source });
      const writes: string[] = [];
      const put = again.storage.put;
      again.storage.put = (name, ...rest) => {
        writes.push(name);
        return put(name, ...rest);
      };
      const left = new Set((await objects(place, 'packs/')).keys());
      await again.push(large, 'main');
      expect((await again.remote.ref('main', never))?.ref.snapshots[0].root).toBe(large);
      await readWhole(place, large);
      // Large ones are not sent again, and none is there under two names.
      const sizes = await objects(place, 'packs/');
      for (const name of writes) if (left.has(name)) expect(sizes.get(name)).toBeLessThan(1 << 20);
      const clean = await newPlace();
      const direct = await newMachine(clean, { like: source });
      await direct.push(small, 'main');
      await direct.push(large, 'main');
      expect([...sizes.keys()]).toEqual([...(await objects(clean, 'packs/')).keys()]);
      expect(sizes.size).toBeGreaterThan(packs.length + 1);
      if (!failure) {
        expect(storage.writes).toBe(write - 1);
        break;
      }
    }
  });

  it.each([
    ['the same name', 'main', 'main'],
    ['different names', 'main', 'theirs'],
  ])('at the same time as another one, of %s, leaves both whole', async (_, mine, theirs) => {
    for (let seed = 0; seed < 5; seed++) {
      const place = await newPlace();
      const common = [...manyFiles(200, { perDirectory: 20, size: 4000, seed }).entries] as [
        string,
        DirectorySpec,
      ][];
      const [a, b] = [await newMachine(place), await newMachine(place)];
      const roots = [
        await a.plant(directory([...common, ['a', file('a')]])),
        await b.plant(directory([...common, ['b', file('b')]])),
      ];
      await Promise.all([
        a.push(roots[0], mine, { known: roots }),
        b.push(roots[1], theirs, { known: roots }),
      ]);
      for (const root of roots) await readWhole(place, root);
      const now = await visibleRoots(a);
      expect([...now].sort()).toEqual([...roots].sort());
    }
  });
});

describe('a name', () => {
  const setUp = async () => {
    const place = await newPlace();
    const [a, b] = [await newMachine(place), await newMachine(place)];
    const first = await a.plant(directory({ x: file('1') }));
    const second = await b.plant(directory({ x: file('2') }));
    return { place, a, b, first, second };
  };

  it('that somebody else has moved is not taken, and it is said who has it', async () => {
    const { a, b, first, second } = await setUp();
    await a.push(first, 'main');
    const error = await errorOf(b.push(second, 'main', { known: [] }));
    expect(error.code).toBe('REFUSED');
    expect(error.message).toContain("'main' of");
    expect(error.message).toContain((await a.remote.ref('main', never))?.ref.snapshots[0].by as string);
    expect(error.message).toContain(formatLink(first));
    expect(error.hint).toContain('--force');
    await b.push(second, 'main', { force: true });
    expect((await a.remote.ref('main', never))?.ref).toMatchObject({
      sequence: 2,
      snapshots: [{ root: second }, { root: first }],
    });
  });

  it('that is moved on during a push is not taken back', async () => {
    const { place, a, b, first, second } = await setUp();
    await a.push(first, 'main');
    const late = await newMachine(place, {
      like: b,
      wrap: (storage) => ({
        ...storage,
        async put(name, bytes, options) {
          if (name === 'refs/main') {
            const third = await a.plant(directory({ x: file('3') }));
            await a.push(third, 'main');
          }
          return storage.put(name, bytes, options);
        },
      }),
    });
    const error = await errorOf(late.push(second, 'main', { known: [first] }));
    expect(error).toMatchObject({ code: 'REFUSED' });
    expect((await a.remote.ref('main', never))?.ref.sequence).toBe(2);
  });

  it('is moved on from what is known here', async () => {
    const { a, b, first, second } = await setUp();
    await a.push(first, 'main', { message: 'one' });
    await b.push(second, 'main', { known: [first], message: 'two' });
    const ref = (await a.remote.ref('main', never))?.ref;
    expect(ref?.snapshots.map(({ root, message }) => [root, message])).toEqual([
      [second, 'two'],
      [first, 'one'],
    ]);
  });

  it('keeps of its history what the policy says', async () => {
    const place = await newPlace();
    const a = await newMachine(place);
    const roots: Link[] = [];
    const keep = { last: 3, hourly: 0, daily: 0, weekly: 0 };
    for (let i = 0; i < 6; i++) {
      roots.unshift(await a.plant(directory({ x: file(String(i)) })));
      await a.push(roots[0], 'main', { keep });
    }
    const ref = (await a.remote.ref('main', never))?.ref;
    expect(ref?.sequence).toBe(6);
    expect(ref?.snapshots.map(({ root }) => root)).toEqual(roots.slice(0, 3));
  });

  it('with a message that could not be read again is refused', async () => {
    const { a, first } = await setUp();
    const error = await errorOf(a.push(first, 'main', { message: 'm'.repeat(65_537) }));
    expect(error.code).toBe('USAGE');
    expect(await a.remote.ref('main', never)).toBeUndefined();
    await a.push(first, 'main', { message: 'm'.repeat(65_536) });
    expect((await a.remote.ref('main', never))?.ref.snapshots[0].message).toHaveLength(65_536);
  });
});

describe('requests', () => {
  it('are few', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const spec = manyFiles(4000, { perDirectory: 25, size: 1500 });
    const root = await writer.plant(spec);
    await writer.push(root, 'main');
    expect(writer.storage.traffic().requests).toBeLessThanOrEqual(20);
    const edited = await writer.plant(zipped(spec, ['new', file('new')]));
    const { requests } = writer.storage.traffic();
    await writer.push(edited, 'main');
    expect(writer.storage.traffic().requests - requests).toBeLessThanOrEqual(6);

    const reader = await newMachine(place);
    const found = await reader.remote.ref('main', never);
    await reader.chain.bringTree(found?.ref.snapshots[0].root as Link, { signal: never });
    expect(reader.storage.traffic().requests).toBeLessThanOrEqual(4);
  });

  it('of who has a tree before bring what is new of the next one', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const reader = await newMachine(place);
    let spec = manyFiles(20_000, { perDirectory: 20, size: 10 });
    let root = await writer.plant(spec);
    await writer.push(root, 'main');
    await reader.chain.bringTree(root, { signal: never });
    const all = reader.storage.traffic().received;
    for (let i = 0; i < 6; i++) {
      const before = root;
      spec = zipped(spec, [`new${i}`, file(`new${i}`)]);
      root = await writer.plant(spec);
      await writer.push(root, 'main');
      const { received } = reader.storage.traffic();
      await reader.chain.bringTree(root, { signal: never, have: [before] });
      expect(reader.storage.traffic().received - received).toBeLessThan(all / 5);
    }
  });
});

describe('a reader', () => {
  it('that has just looked finds what was pushed since', async () => {
    const place = await newPlace();
    const [writer, reader] = [await newMachine(place), await newMachine(place)];
    const first = await writer.plant(directory({ x: file('1') }));
    await writer.push(first, 'main');
    const absent = makeLink(DAG_CBOR, 'x'.repeat(32));
    for (let i = 0; i < 3; i++) {
      await errorOf(reader.chain.get(absent));
      const next = await writer.plant(directory({ x: file(`next${i}`), d: directory({ y: file(`y${i}`) }) }));
      await writer.push(next, 'main');
      await expectSame(reader, writer, next);
    }
  });

  it('of which a part has come before brings the rest', async () => {
    const place = await newPlace();
    const [writer, reader] = [await newMachine(place), await newMachine(place)];
    const root = await writer.plant(manyFiles(100, { perDirectory: 5, size: 50 }));
    await writer.push(root, 'main');
    // As after a tree's request that was cut: the root's node is here, those below are not.
    await reader.chain.get(root);
    await expectSame(reader, writer, root);
  });
});
