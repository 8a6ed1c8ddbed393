import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  findProvenance,
  findResolution,
  formatLink,
  gc,
  LazytreeError,
  type LocalStore,
  listDirectory,
  type OriginEntry,
  resolveTreeOrigins,
  router,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  directory,
  errorOf,
  file,
  importSpec,
  temporaryDirectory,
  temporaryStore,
} from '../../../core/test/helpers.js';
import type { OriginDriver } from '../../src/origins/driver.js';
import { createDrivers } from '../../src/origins/drivers.js';
import { mayBeOrigin, splitOrigin } from '../../src/origins/origin-spec.js';
import { createOrigins, type OriginsOptions } from '../../src/origins/origins.js';

const { signal } = new AbortController();

/** Names that stand for a file of that name; `latest` moves. */
function nameDriver() {
  const calls: string[] = [];
  let latest = 'one';
  const go = Promise.withResolvers<void>();
  const driver: OriginDriver = {
    name: 'name',
    summary: 'name:TEXT',
    parse: (text) => text.trim(),
    async pin(reference, { environment }) {
      calls.push(`pin ${reference}`);
      if (environment.NAME_TOKEN === 'wrong') throw new LazytreeError('REFUSED', 'no');
      const found = reference === 'latest' ? latest : reference;
      return { reference: found, integrity: `sum-${found}` };
    },
    async fetch({ reference, integrity }, context) {
      calls.push(`fetch ${reference}`);
      if (reference.startsWith('slow')) await Promise.race([go.promise, aborted(context.signal)]);
      if (context.environment.NAME_TOKEN === 'wrong') throw new LazytreeError('REFUSED', 'no');
      const tree = context.newTree();
      await tree.file(reference, Buffer.from(reference), { executable: false });
      context.onReceived(reference.length, 1);
      return { entry: await tree.finish(), integrity: integrity ?? '', notes: [] };
    },
  };
  const move = (to: string) => {
    latest = to;
  };
  return { driver, calls, go: go.resolve, move };
}

function aborted(of: AbortSignal): Promise<never> {
  return new Promise((_, reject) => of.addEventListener('abort', () => reject(of.reason), { once: true }));
}

async function setUp(options: Partial<OriginsOptions> = {}) {
  const home = await temporaryDirectory();
  const store = options.store ?? (await temporaryStore());
  const { driver, ...rest } = nameDriver();
  const drivers = createDrivers({ name: async () => ({ driver }) });
  const origins = createOrigins({ home, drivers, ...options, store });
  return { home, store, origins, ...rest };
}

const caller = (environment: Record<string, string> = {}) => ({ environment, directory: '/' });
const names = async (store: LocalStore, { link }: { link: Parameters<typeof listDirectory>[1] }) =>
  (await listDirectory(store, link)).map(({ name }) => name);

/** What 'name:a' stands for, as a package of a tree. */
const DEP: OriginEntry = {
  kind: 'origin',
  name: 'dep',
  of: 'directory',
  driver: 'name',
  reference: 'a',
  integrity: 'sum-a',
};

describe('origins', () => {
  it('of this machine are not given to a tree that names them', async () => {
    const { driver, calls } = nameDriver();
    const drivers = createDrivers({ name: async () => ({ driver: { ...driver, local: true } }) });
    const { origins } = await setUp({ drivers });
    const entry: OriginEntry = {
      kind: 'origin',
      of: 'directory',
      name: 'x',
      driver: 'name',
      reference: 'etc',
    };
    const error = await errorOf(origins.resolveEntry(entry, { signal }));
    expect(error).toMatchObject({ code: 'REFUSED' });
    expect(error.message).toContain('name:etc');
    expect(calls).toEqual([]);
    expect(await origins.resolve({ driver: 'name', reference: 'etc' }, { signal })).toBeDefined();
  });

  it('are resolved once, for all who ask at the same time and after', async () => {
    const { origins, calls, go } = await setUp();
    const ask = () =>
      origins.resolve({ driver: 'name', reference: 'slow', integrity: 'sum-slow' }, { signal });
    const asked = [ask(), ask(), ask()];
    go();
    const [first, ...others] = await Promise.all(asked);
    for (const other of [...others, await ask()]) expect(other.entry).toEqual(first.entry);
    expect(calls).toEqual(['fetch slow']);
    expect(first.provenance).toMatchObject({ from: 'origin', bytes: 4, requests: 1 });
  });

  it('go on for those who stay, and end when nobody does', async () => {
    const { origins, calls, go } = await setUp();
    const origin = { driver: 'name', reference: 'slow', integrity: 'sum-slow' };
    const stop = [new AbortController(), new AbortController()];
    const asked = stop.map(({ signal: own }) => origins.resolve(origin, { signal: own }));
    await sleep(10);
    stop[0].abort(new Error('left'));
    await expect(asked[0]).rejects.toThrow('left');
    stop[1].abort(new Error('left, too'));
    await expect(asked[1]).rejects.toThrow('left, too');
    const again = origins.resolve(origin, { signal });
    go();
    await again;
    expect(calls).toEqual(['fetch slow', 'fetch slow']);
  });

  it('that another may not have are asked for with what one has oneself', async () => {
    const { origins, go } = await setUp();
    const origin = { driver: 'name', reference: 'slow', integrity: 'sum-slow' };
    const wrong = origins.resolve(origin, { signal, caller: caller({ NAME_TOKEN: 'wrong' }) });
    const right = origins.resolve(origin, { signal, caller: caller() });
    go();
    expect(await errorOf(wrong)).toMatchObject({ code: 'REFUSED' });
    expect((await right).entry.kind).toBe('directory');
  });

  it('that move are looked up each time, and offline are what they were', async () => {
    const { origins, store, move, calls } = await setUp();
    const latest = { driver: 'name', reference: 'latest' };
    const ask = async (environment = {}) =>
      names(store, (await origins.resolve(latest, { signal, caller: caller(environment) })).entry as never);
    expect(await ask()).toEqual(['one']);
    move('two');
    expect(await ask({ LAZYTREE_OFFLINE: '1' })).toEqual(['one']);
    expect(await ask()).toEqual(['two']);
    const before = calls.length;
    expect(await ask({ LAZYTREE_OFFLINE: '1' })).toEqual(['two']);
    const error = await errorOf(
      origins.resolve(
        { driver: 'name', reference: 'three' },
        { signal, caller: caller({ LAZYTREE_OFFLINE: 'yes' }) },
      ),
    );
    expect(error).toMatchObject({ code: 'NETWORK', message: 'offline, and name:three is not here' });
    // Also by the name of what a name stood for.
    const { origin } = await origins.resolve(
      { driver: 'name', reference: 'two' },
      { signal, caller: caller({ LAZYTREE_OFFLINE: '1' }) },
    );
    expect(origin).toMatchObject({ reference: 'two' });
    expect(calls).toHaveLength(before);
  });

  it('are what a peer says, if it has that', async () => {
    const other = await setUp();
    const { entry } = await other.origins.resolve(
      { driver: 'name', reference: 'a', integrity: 'sum-a' },
      { signal },
    );
    const asked: string[] = [];
    const store = await temporaryStore();
    const source = { ...router(store, other.store), async bringTree() {} };
    const { origins, calls } = await setUp({
      store,
      source,
      async askPeers(reference, integrity) {
        asked.push(`${reference} ${integrity}`);
        const root = other.origins.known(reference, integrity);
        return root && { root, peer: 'anna' };
      },
    });
    const found = await origins.resolve({ driver: 'name', reference: 'a', integrity: 'sum-a' }, { signal });
    expect(found.entry).toEqual(entry);
    expect(found.provenance).toMatchObject({ from: 'peer', peer: 'anna' });
    expect(calls).toEqual([]);
    await origins.resolve({ driver: 'name', reference: 'b', integrity: 'sum-b' }, { signal });
    expect(calls).toEqual(['fetch b']);
    expect(asked).toEqual(['name:a sum-a', 'name:b sum-b']);
  });

  it('in trees have laid over them what the tree says, and that is remembered', async () => {
    const { origins, store } = await setUp();
    const plus = await importSpec(store, directory({ extra: file('extra'), a: file('covers') }));
    const entry = { ...DEP, plus };
    const found = await origins.resolveEntry(entry, { signal });
    expect(found).toMatchObject({ name: 'dep', files: 2, size: 11 });
    expect(await names(store, found)).toEqual(['a', 'extra']);
    expect(await origins.resolveEntry(entry, { signal })).toEqual(found);
    const wrong = { ...entry, of: 'file' } as const;
    expect(
      await errorOf(origins.resolveEntry({ ...wrong, plus: undefined } as never, { signal })),
    ).toMatchObject({
      code: 'CORRUPT',
    });
  });

  describe('in trees that can be read before it is written down what they stand for', () => {
    /** A store that makes nothing durable before it is told to, but for what the driver has written. */
    async function setUpLate(real?: LocalStore) {
      real ??= await temporaryStore();
      const go = Promise.withResolvers<void>();
      let flushes = 0;
      const store = {
        ...real,
        async flush() {
          if (flushes++ > 0) await go.promise;
          await real.flush();
        },
      };
      const errors: Error[] = [];
      const set = await setUp({ store, onNotRecorded: (error) => errors.push(error) });
      return { ...set, go, errors };
    }

    it('are resolved once all the same, and kept from gc', async () => {
      const real = await temporaryStore();
      const plus = await importSpec(real, directory({ extra: file('extra') }));
      const { origins, store, calls, go } = await setUpLate(real);
      const [found, laid] = [
        await origins.resolveEntry(DEP, { signal }),
        await origins.resolveEntry({ ...DEP, plus }, { signal }),
      ];
      expect([found, laid]).toMatchObject([{ files: 1 }, { files: 2 }]);
      expect(findResolution(store, 'name:a', 'sum-a')).toBeUndefined();
      expect(origins.resolved(DEP)).toBe(found.link);
      expect(origins.known('name:a', 'sum-a')).toBe(found.link);
      expect(await origins.resolveEntry(DEP, { signal })).toEqual(found);
      await gc(real);
      expect([await store.has(found.link), await store.has(laid.link)]).toEqual([true, true]);
      const settled = origins.settled();
      go.resolve();
      await settled;
      expect(findResolution(store, 'name:a', 'sum-a')).toBe(found.link);
      expect(findProvenance(store, laid.link)).toMatchObject({ from: 'origin', bytes: 1, requests: 1 });
      expect(calls).toEqual(['fetch a']);
      const { origins: later } = await setUp({ store });
      expect(later.resolved({ ...DEP, plus })).toBe(laid.link);
    });

    it('are written down before who has named them is told', async () => {
      const { origins, go } = await setUpLate();
      let told = false;
      const resolved = origins.resolve({ driver: 'name', reference: 'a', integrity: 'sum-a' }, { signal });
      void resolved.then(() => {
        told = true;
      });
      await sleep(50);
      expect(told).toBe(false);
      go.resolve();
      expect((await resolved).entry).toMatchObject({ files: 1 });
    });

    it('are remembered when they cannot be written down', async () => {
      const { origins, calls, go, errors } = await setUpLate();
      await origins.resolveEntry(DEP, { signal });
      go.reject(new LazytreeError('NO_SPACE', 'the disk is full'));
      await origins.settled();
      expect(errors).toMatchObject([{ code: 'NO_SPACE' }]);
      expect((await origins.resolveEntry(DEP, { signal })).name).toBe('dep');
      // Who names it wants to count on it.
      const named = origins.resolve({ driver: 'name', reference: 'a', integrity: 'sum-a' }, { signal });
      expect(await errorOf(named)).toMatchObject({ code: 'NO_SPACE' });
      expect(calls).toEqual(['fetch a']);
    });
  });

  it('come again after a gc, unless something keeps them', async () => {
    const { origins, store, calls } = await setUp();
    const origin = { driver: 'name', reference: 'a', integrity: 'sum-a' };
    const { entry } = await origins.resolve(origin, { signal });
    await gc(store, { roots: [entry.link] });
    await origins.resolve(origin, { signal });
    expect(calls).toHaveLength(1);
    await gc(store);
    expect(origins.known('name:a', 'sum-a')).toBeUndefined();
    const again = await origins.resolve(origin, { signal });
    expect(formatLink(again.entry.link)).toBe(formatLink(entry.link));
    expect(calls).toHaveLength(2);
  });

  it('of kinds that nobody knows are not resolved', async () => {
    const { origins, store } = await setUp();
    const entry = { kind: 'origin', name: '', of: 'directory', driver: 'other', reference: 'x' } as const;
    expect(await errorOf(origins.resolveEntry(entry, { signal }))).toMatchObject({ code: 'USAGE' });
    const root = await importSpec(store, directory({ a: file('a') }));
    expect((await resolveTreeOrigins(store, store, root)).link).toBe(root);
  });
});

describe('drivers of third parties', () => {
  it.each([
    ['{', /is not JSON/],
    ['[]', /is not an object/],
    ['{"origins": {"other": 7}}', /neither a module nor a driver/],
    ['{"origins": {"other": "./none.js"}}', /cannot be loaded/],
    ['{"origins": {"other": "./empty.mjs"}}', /is no driver/],
    ['{"origins": {"other": "./name.mjs"}}', /is one of 'name:'/],
  ])('that are configured wrongly say so: %s', async (text, message) => {
    const place = await temporaryDirectory();
    fs.writeFileSync(join(place, 'lazytree.config.json'), text);
    fs.writeFileSync(join(place, 'empty.mjs'), '');
    fs.writeFileSync(
      join(place, 'name.mjs'),
      "export default { name: 'name', parse() {}, pin() {}, fetch() {}, summary: '' };",
    );
    const error = await errorOf(createDrivers().get('other', [place]));
    expect(error).toBeInstanceOf(LazytreeError);
    expect(error.message).toMatch(message);
  });

  it('are found in packages, by import or by require, and in modules', async () => {
    const place = await temporaryDirectory();
    const source = (name: string) =>
      `export const driver = { name: '${name}', parse() {}, pin() {}, fetch() {}, summary: '' };`;
    const manifest = { name: 'of-imports', type: 'module', exports: { '.': { import: './main.js' } } };
    fs.mkdirSync(join(place, 'node_modules/of-imports'), { recursive: true });
    fs.writeFileSync(join(place, 'node_modules/of-imports/package.json'), JSON.stringify(manifest));
    fs.writeFileSync(join(place, 'node_modules/of-imports/main.js'), source('one'));
    fs.writeFileSync(join(place, 'two.mjs'), source('two'));
    fs.writeFileSync(
      join(place, 'lazytree.config.mjs'),
      `import { driver as three } from './three.mjs';
      export default { origins: { one: 'of-imports', two: './two.mjs', three } };`,
    );
    fs.writeFileSync(join(place, 'three.mjs'), source('three'));
    const drivers = createDrivers();
    for (const name of ['one', 'two', 'three']) {
      expect((await drivers.get(name, ['/', place])).name).toBe(name);
    }
    expect(await errorOf(drivers.get('one', ['/']))).toMatchObject({ code: 'USAGE' });
  });
});

describe('what names an origin', () => {
  it('may have a path after //, and no other // is one', () => {
    const digest = `sha512-${'A//B'.repeat(21)}AA==`;
    for (const [text, origin, path] of [
      ['npm:react@18', 'npm:react@18', ''],
      ['npm:react@18//lib/index.js', 'npm:react@18', 'lib/index.js'],
      ['git:https://example.org/x.git#main', 'git:https://example.org/x.git#main', ''],
      ['git:https://example.org/x.git#main//src/', 'git:https://example.org/x.git#main', 'src'],
      [`tar:http://x/a.tgz#${digest}`, `tar:http://x/a.tgz#${digest}`, ''],
      [`tar:http://x/a.tgz#${digest}//a/b`, `tar:http://x/a.tgz#${digest}`, 'a/b'],
      ['dir:/a/b//c', 'dir:/a/b', 'c'],
    ]) {
      expect(splitOrigin(text)).toEqual({ origin, path });
    }
    for (const text of ['app', 'app/a:b', 'image:x.lzt', 'app@peer', './a:b', 'A:b'])
      expect(mayBeOrigin(text)).toBe(false);
    for (const text of ['npm:x', 'git:ssh://x', 'x+y:z']) expect(mayBeOrigin(text)).toBe(true);
  });

  it('is in two parts for any text', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const { origin, path } = splitOrigin(`tar:${text}`);
        expect(`tar:${text}`.startsWith(origin)).toBe(true);
        expect(path.startsWith('/')).toBe(false);
      }),
    );
  });
});
