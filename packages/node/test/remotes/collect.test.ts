import fs from 'node:fs';
import { join } from 'node:path';
import { formatLink, type Link } from '@lazytree/core';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  type DirectorySpec,
  directory,
  errorOf,
  file,
  manyFiles,
  pseudoRandom,
} from '../../../core/test/helpers.ts';
import { withLock } from '../../dist/remotes/collect/lock.js';
import { LOCK } from '../../dist/remotes/object-names.js';
import type { Storage } from '../../dist/remotes/storage/storage.js';
import {
  age,
  allLinks,
  HOUR,
  killedAt,
  type Machine,
  never,
  newMachine,
  newPlace,
  objects,
  readWhole,
  storageAt,
  visibleRoots,
  withWrites,
} from './machine.ts';

const GRACE = HOUR;
const collectAt = (machine: Machine, graceMs = GRACE) => machine.remote.collect({ graceMs, signal: never });
const some = (seed: number, count = 20) => manyFiles(count, { perDirectory: 5, size: 3000, seed });
const spec = (...parts: DirectorySpec[]) => directory(parts.flatMap(({ entries }) => [...entries]));
const named = (name: string, below: DirectorySpec) => directory({ [name]: below });

async function expectFree(storage: Storage): Promise<void> {
  const { bytes } = (await storage.get(LOCK, { signal: never })) ?? {};
  expect(JSON.parse(String(bytes))).toMatchObject({ until: 0 });
}

async function expectWhole(place: string, machine: Machine, pinned: Iterable<Link> = []): Promise<void> {
  for (const root of [...(await visibleRoots(machine)), ...pinned]) await readWhole(place, root);
}

/** Two trees that share files, the second one named, and the first one garbage. */
async function withGarbage() {
  const place = await newPlace();
  const a = await newMachine(place);
  const shared = named('shared', some(1));
  const old = await a.plant(spec(shared, named('old', some(2))));
  const now = await a.plant(spec(shared, named('new', some(3))));
  await a.push(old, 'main');
  await a.push(now, 'main', { keep: { last: 1, hourly: 0, daily: 0, weekly: 0 } });
  return { place, a, old, now };
}

describe('a collection', () => {
  it('removes nothing that a name, its history or a pin needs', async () => {
    const place = await newPlace();
    const a = await newMachine(place);
    const roots = await Promise.all([1, 2, 3].map((seed) => a.plant(some(seed))));
    await a.push(roots[0], 'main');
    await a.push(roots[1], 'main');
    await a.push(roots[2]);
    for (let i = 0; i < 3; i++) {
      age(place, 2 * GRACE);
      expect(await collectAt(a)).toMatchObject({ roots: 3, removedRoots: 0, condemned: 0 });
      await expectWhole(place, a, [roots[2]]);
    }
  });

  it('removes garbage the second time, a grace period later', async () => {
    const { place, a, old, now } = await withGarbage();
    const all = await allLinks(a.store, old);
    const needed = await allLinks(a.store, now);
    const garbage = [...all].filter((link) => !needed.has(link)).length;
    age(place, 2 * GRACE);
    expect(await collectAt(a)).toMatchObject({ removedRoots: 1, condemned: garbage, removed: 0 });
    await readWhole(place, now);
    expect(await collectAt(a)).toMatchObject({ condemned: 0, removed: 0 });
    age(place, 2 * GRACE);
    const before = [...(await objects(place, 'packs/')).values()].reduce((sum, size) => sum + size, 0);
    const { removed, bytes } = await collectAt(a);
    expect(removed).toBeGreaterThan(0);
    const after = [...(await objects(place, 'packs/')).values()].reduce((sum, size) => sum + size, 0);
    expect(before - after).toBe(bytes);
    // What is left is what is needed, and little more.
    const alone = await newPlace();
    await (await newMachine(alone, { like: a })).push(now, 'main');
    const least = [...(await objects(alone, 'packs/')).values()].reduce((sum, size) => sum + size, 0);
    expect(after).toBeLessThan(least * 2);
    expect((await objects(place, 'condemned/')).size).toBe(0);
    expect([...(await objects(place, 'roots/')).keys()]).toEqual([`roots/${formatLink(now)}`]);
    await readWhole(place, now);
    await errorOf(readWhole(place, old));
  });

  it('restores what a push that had looked before relies on', async () => {
    const { place, a, old } = await withGarbage();
    age(place, 2 * GRACE);
    // Between its last look and the root's object, all that it relies on is condemned.
    const late = await newMachine(place, {
      like: a,
      wrap: (storage) => ({
        ...storage,
        async put(name, bytes, options) {
          if (name.startsWith('roots/')) await collectAt(a);
          return storage.put(name, bytes, options);
        },
      }),
    });
    await late.push(old, 'late');
    await readWhole(place, old);
    const { restored } = await collectAt(a);
    expect(restored).toBeGreaterThan(0);
    for (let i = 0; i < 3; i++) {
      await readWhole(place, old);
      age(place, 2 * GRACE);
      await collectAt(a);
    }
    await readWhole(place, old);
    const broken = (await a.remote.validate({ deep: true, signal: never })).filter(({ ok }) => !ok);
    expect(broken).toEqual([]);
  });

  it.each(['index/', 'roots/'])('that comes before a push writes to %s leaves it whole', async (prefix) => {
    const { place, a, old } = await withGarbage();
    age(place, 2 * GRACE);
    const more = await a.plant(spec(named('old', some(2)), named('more', some(9))));
    const late = await newMachine(place, {
      like: a,
      wrap: (storage) =>
        withWrites(storage, async (name) => {
          if (name.startsWith(prefix)) await collectAt(a);
        }),
    });
    await late.push(old, 'late');
    await late.push(more, 'more');
    for (let i = 0; i < 3; i++) {
      await expectWhole(place, a);
      age(place, 2 * GRACE);
      await collectAt(a);
    }
    const broken = (await a.remote.validate({ deep: true, signal: never })).filter(({ ok }) => !ok);
    expect(broken).toEqual([]);
  });

  it('leaves a root that has come to be needed since it looked', async () => {
    const { place, a, old } = await withGarbage();
    age(place, 2 * GRACE);
    let pushed = false;
    const collector = await newMachine(place, {
      like: a,
      wrap: (storage) =>
        withWrites(storage, async (name) => {
          if (pushed || name !== `roots/${formatLink(old)}`) return;
          pushed = true;
          await a.push(old, 'late');
        }),
    });
    expect((await collectAt(collector)).removedRoots).toBe(0);
    expect(pushed).toBe(true);
    for (let i = 0; i < 3; i++) {
      await readWhole(place, old);
      age(place, 2 * GRACE);
      await collectAt(a);
    }
    expect((await objects(place, 'roots/')).has(`roots/${formatLink(old)}`)).toBe(true);
  });

  it('that reads roots while one comes takes it for whole', async () => {
    const { place, a } = await withGarbage();
    const b = await newMachine(place);
    const other = await b.plant(some(50));
    const collector = await newMachine(place, {
      like: a,
      wrap: (storage) => ({
        ...storage,
        async *list(prefix, options) {
          // Its tables have been listed by now.
          if (prefix === 'roots/') {
            await b.push(other, 'other');
            // Where its nodes are is to be found in its table alone.
            const path = join(place, `roots/${formatLink(other)}`);
            fs.writeFileSync(
              path,
              JSON.stringify({ ...JSON.parse(fs.readFileSync(path, 'utf8')), nodes: [] }),
            );
          }
          yield* storage.list(prefix, options);
        },
      }),
    });
    await collectAt(collector);
    await expectWhole(place, a);
  });

  it('that removes what a push relies on while that is still at work makes it send that, too', async () => {
    const { place, a, old } = await withGarbage();
    age(place, 2 * GRACE);
    const more = await a.plant(spec(named('old', some(2)), named('more', some(9))));
    let removed = 0;
    const slow = await newMachine(place, {
      like: a,
      wrap: (storage) =>
        withWrites(storage, async (name) => {
          if (removed > 0 || !name.startsWith('packs/')) return;
          for (let i = 0; i < 3; i++) {
            removed += (await collectAt(a)).removed;
            age(place, 2 * GRACE);
          }
        }),
    });
    await slow.push(more, 'more');
    expect(removed).toBeGreaterThan(0);
    await readWhole(place, more);
    await errorOf(readWhole(place, old));
  });

  it('keeps a root whose name is not there yet, for the grace period', async () => {
    const place = await newPlace();
    const a = await newMachine(place);
    // A pack, a table and the root come before.
    const doomed = await newMachine(place, { like: a, wrap: (storage) => killedAt(storage, 4) });
    await errorOf(doomed.push(await a.plant(some(1)), 'main'));
    expect((await objects(place, 'roots/')).size).toBe(1);
    expect(await collectAt(a)).toMatchObject({ roots: 1, removedRoots: 0, condemned: 0 });
    age(place, 2 * GRACE);
    expect(await collectAt(a)).toMatchObject({ roots: 0, removedRoots: 1 });
  });

  it('with a short grace period leaves packs that a push takes over', async () => {
    const place = await newPlace();
    const a = await newMachine(place);
    const large = await a.plant(manyFiles(4, { perDirectory: 2, size: 600_000 }));
    const doomed = await newMachine(place, { like: a, wrap: (storage) => killedAt(storage, 2) });
    await errorOf(doomed.push(large, 'main'));
    age(place, 2 * GRACE);
    const again = await newMachine(place, {
      like: a,
      wrap: (storage) =>
        withWrites(storage, async (name) => {
          if (name.startsWith('index/')) await collectAt(a);
        }),
    });
    await again.push(large, 'main');
    await readWhole(place, large);
  });

  it('that removes packs before they are in a table makes the push send them again', async () => {
    const place = await newPlace();
    const a = await newMachine(place);
    const large = await a.plant(manyFiles(4, { perDirectory: 2, size: 600_000 }));
    let removed = 0;
    const slow = await newMachine(place, {
      like: a,
      wrap: (storage) =>
        withWrites(storage, async (name) => {
          if (removed > 0 || !name.startsWith('index/') || name === LOCK) return;
          age(place, 2 * GRACE);
          removed += (await collectAt(a)).removed;
        }),
    });
    await slow.push(large, 'main');
    expect(removed).toBeGreaterThan(0);
    await readWhole(place, large);
    expect(await a.remote.validate({ deep: true, signal: never })).not.toContainEqual(
      expect.objectContaining({ ok: false }),
    );
  });

  it('that has found packs unneeded leaves them when a push has come to need them', async () => {
    const place = await newPlace();
    const a = await newMachine(place);
    const large = await a.plant(manyFiles(4, { perDirectory: 2, size: 600_000 }));
    const pushed = Promise.withResolvers<void>();
    const doomed = Promise.withResolvers<void>();
    const collector = await newMachine(place, {
      like: a,
      wrap: (storage) => ({
        ...storage,
        async delete(name, options) {
          if (name.startsWith('packs/')) {
            doomed.resolve();
            await pushed.promise;
          }
          return storage.delete(name, options);
        },
      }),
    });
    let collecting: ReturnType<typeof collectAt> | undefined;
    const slow = await newMachine(place, {
      like: a,
      wrap: (storage) =>
        withWrites(storage, async (name) => {
          if (collecting || !name.startsWith('index/') || name === LOCK) return;
          age(place, 2 * GRACE);
          collecting = collectAt(collector);
          await doomed.promise;
        }),
    });
    await slow.push(large, 'main');
    pushed.resolve();
    expect(await collecting).toMatchObject({ removed: 0 });
    await readWhole(place, large);
  });

  it('with less than a second of grace is refused', async () => {
    const a = await newMachine(await newPlace());
    expect(await errorOf(collectAt(a, 999))).toMatchObject({ code: 'USAGE' });
  });

  it('removes packs that no push has finished', async () => {
    const place = await newPlace();
    const a = await newMachine(place);
    const small = await a.plant(some(1));
    await a.push(small, 'main');
    const doomed = await newMachine(place, { like: a, wrap: (storage) => killedAt(storage, 2) });
    await errorOf(doomed.push(await a.plant(some(2)), 'other'));
    expect((await objects(place, 'packs/')).size).toBe(2);
    expect((await collectAt(a)).removed).toBe(0);
    age(place, 2 * GRACE);
    expect((await collectAt(a)).removed).toBe(1);
    await readWhole(place, small);
  });

  it('can be killed at any write, and done again', async () => {
    for (let write = 1; ; write++) {
      const { place, a, now } = await withGarbage();
      age(place, 2 * GRACE);
      let failed = false;
      for (const round of [1, 2]) {
        const doomed = await newMachine(place, { like: a, wrap: (storage) => killedAt(storage, write) });
        failed = await collectAt(doomed).then(
          () => false,
          () => true,
        );
        await expectWhole(place, a);
        fs.rmSync(join(place, LOCK), { force: true });
        age(place, round * 2 * GRACE);
      }
      await collectAt(await newMachine(place, { like: a }));
      age(place, 2 * GRACE);
      await collectAt(await newMachine(place, { like: a }));
      await expectWhole(place, a);
      expect([...(await objects(place, 'roots/')).keys()]).toEqual([`roots/${formatLink(now)}`]);
      if (!failed) break;
    }
  });

  it('keeps all that is named whatever pushes, removals and other collections do', async () => {
    const operation = fc.oneof(
      { weight: 4, arbitrary: fc.tuple(fc.constant('push' as const), fc.nat(2), fc.nat(5), fc.nat(2)) },
      { weight: 1, arbitrary: fc.tuple(fc.constant('pin' as const), fc.nat(2), fc.nat(5), fc.nat(2)) },
      { weight: 2, arbitrary: fc.tuple(fc.constant('collect' as const), fc.nat(2), fc.nat(5), fc.nat(2)) },
      { weight: 1, arbitrary: fc.tuple(fc.constant('remove' as const), fc.nat(2), fc.nat(5), fc.nat(2)) },
    );
    const steps = fc.array(
      fc.record({
        together: fc.array(operation, { minLength: 1, maxLength: 4 }),
        hours: fc.constantFrom(0, 0.6, 1.1),
      }),
      { minLength: 2, maxLength: 8 },
    );
    const source = await newMachine(await newPlace());
    // Any two of them share something.
    const roots: Link[] = [];
    for (let tree = 0; tree < 6; tree++) {
      const parts = [0, 1, 2].filter((part) => (tree + 1) & (1 << part));
      roots.push(
        await source.plant(
          spec(...parts.map((part) => named(`p${part}`, some(part, 6))), named('own', some(10 + tree, 2))),
        ),
      );
    }
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const place = await newPlace();
        const machines = await Promise.all([0, 1, 2].map(() => newMachine(place, { like: source })));
        const pinned = new Set<Link>();
        const keep = { last: 2, hourly: 0, daily: 0, weekly: 0 };
        for (const { together, hours } of all) {
          const busy = new Set<string>();
          await Promise.all(
            together.map(async ([kind, who, tree, name]) => {
              const machine = machines[who];
              if (kind === 'push') await machine.push(roots[tree], `n${name}`, { keep });
              else if (kind === 'pin') {
                await machine.push(roots[tree]);
                pinned.add(roots[tree]);
              } else if (kind === 'remove') {
                await machine.storage.delete(`refs/n${name}`, { signal: never });
              } else {
                await collectAt(machine).catch((error: { code?: string }) => {
                  if (error.code !== 'REFUSED') throw error;
                  busy.add(LOCK);
                });
              }
            }),
          );
          await expectWhole(place, machines[0], pinned);
          age(place, hours * GRACE);
        }
        await expectWhole(place, await newMachine(place, { like: source }), pinned);
        const broken = (await machines[1].remote.validate({ deep: true, signal: never })).filter(
          ({ ok }) => !ok,
        );
        expect(broken).toEqual([]);
      }),
      { numRuns: 25, endOnFailure: true, interruptAfterTimeLimit: 90_000 },
    );
  });
});

describe('the lock', () => {
  afterEach(() => void vi.useRealTimers());

  const gate = () => Promise.withResolvers<void>();

  it('is held by one at a time, and says by whom', async () => {
    const storage = storageAt(await newPlace());
    const held = gate();
    const inside = gate();
    const first = withLock(storage, never, async () => {
      inside.resolve();
      await held.promise;
      return 1;
    });
    await inside.promise;
    const error = await errorOf(withLock(storage, never, async () => 2));
    expect(error).toMatchObject({ code: 'REFUSED' });
    expect(error.message).toMatch(/is being collected by .+@.+/);
    held.resolve();
    expect(await first).toBe(1);
    expect(await withLock(storage, never, async () => 3)).toBe(3);
    await expectFree(storage);
  });

  it('is given back when the task fails or is cancelled', async () => {
    const storage = storageAt(await newPlace());
    const stop = new AbortController();
    await errorOf(
      withLock(storage, stop.signal, async () => {
        stop.abort();
        throw new Error('no');
      }),
    );
    await expectFree(storage);
  });

  it('of somebody who died ends by itself, and what is no lock is none', async () => {
    const storage = storageAt(await newPlace());
    for (const text of [JSON.stringify({ by: 'x@y', id: 'z', until: Date.now() - 1 }), '{"half":', '']) {
      await storage.put(LOCK, [Buffer.from(text)], { signal: never });
      expect(await withLock(storage, never, async () => 1)).toBe(1);
    }
  });

  it('that is lost ends the task, and is left to who has it', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const storage = storageAt(await newPlace());
    const theirs = Buffer.from(JSON.stringify({ by: 'x@y', id: 'z', until: Date.now() + 60_000 }));
    const error = await errorOf(
      withLock(storage, never, async (signal) => {
        await storage.put(LOCK, [theirs], { signal: never });
        vi.advanceTimersByTime(30_000);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        signal.throwIfAborted();
      }),
    );
    expect(error.message).toContain('was lost');
    expect((await storage.get(LOCK, { signal: never }))?.bytes).toEqual(theirs);
  });

  it('is renewed for as long as the task takes', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const storage = storageAt(await newPlace());
    await withLock(storage, never, async () => {
      const before = await storage.get(LOCK, { signal: never });
      vi.advanceTimersByTime(30_000);
      await vi.waitFor(async () => {
        expect((await storage.get(LOCK, { signal: never }))?.version).not.toBe(before?.version);
      });
    });
    await expectFree(storage);
  });

  it('that cannot be given back does not undo what was done', async () => {
    const storage = storageAt(await newPlace());
    let broken = false;
    const stubborn = withWrites(storage, async () => {
      if (broken) throw new Error('no network');
    });
    const task = async () => {
      broken = true;
      return 1;
    };
    expect(await withLock(stubborn, never, task)).toBe(1);
  });
});

describe('many small pushes', () => {
  const pushMany = async (a: Machine, count: number) => {
    let tree = some(1, 40);
    let root: Link | undefined;
    for (let i = 0; i < count; i++) {
      tree = spec(tree, directory({ [`more${i}`]: file(pseudoRandom(500, i)) }));
      root = await a.plant(tree);
      await a.push(root, 'main', { keep: { last: 100, hourly: 0, daily: 0, weekly: 0 } });
    }
    return root as Link;
  };

  it('leave few tables, and readers that know the old ones still read', async () => {
    const place = await newPlace();
    const a = await newMachine(place);
    const first = await pushMany(a, 3);
    const reader = await newMachine(place);
    await reader.chain.bringTree(first, { signal: never });
    const last = await pushMany(a, 30);
    expect((await objects(place, 'index/')).size).toBeLessThan(10);
    for (const link of await allLinks(a.store, first)) await reader.chain.get(link);
    await readWhole(place, last);
    await readWhole(place, first);
    age(place, 2 * GRACE);
    await collectAt(a);
    age(place, 2 * GRACE);
    await collectAt(a);
    expect((await objects(place, 'packs/')).size).toBeLessThan(5);
    // Manifests say where nodes were, in packs that have gone.
    await readWhole(place, last);
    await readWhole(place, first);
  });

  it('do not fail because tables cannot be put together', async () => {
    const place = await newPlace();
    const a = await newMachine(place, {
      wrap: (storage) =>
        withWrites(storage, (name) => {
          if (name === LOCK) throw new Error('no locks here');
        }),
    });
    const root = await pushMany(a, 14);
    expect(a.warnings).not.toEqual([]);
    await readWhole(place, root);
  });
});
