import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import {
  addPin,
  type Block,
  CorruptBlockError,
  checkRefName,
  DAG_CBOR,
  diffTrees,
  exportTree,
  forgetImports,
  formatLink,
  gc,
  getRef,
  history,
  importTree,
  isIndexDamaged,
  LazytreeError,
  type Link,
  type LocalStore,
  linkTo,
  listDirectory,
  listImports,
  listPins,
  listRefs,
  openLocalStore,
  rebuildIndex,
  recordImport,
  removePin,
  removeRef,
  setRef,
  statCacheFile,
  verifyStore,
  verifyTree,
  walkTree,
} from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import {
  block,
  collect,
  type DirectorySpec,
  describeDirectory,
  directory,
  errorOf,
  file,
  importSpec,
  manyFiles,
  pseudoRandom,
  startScript,
  symlink,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from './helpers.js';

const segmentFiles = (home: string) =>
  fs
    .readdirSync(join(home, 'segments'))
    .sort()
    .map((name) => join(home, 'segments', name));

function flip(path: string, at: number): void {
  const fd = fs.openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, at);
  byte[0] ^= 0x10;
  fs.writeSync(fd, byte, 0, 1, at);
  fs.closeSync(fd);
}

async function imported(store: LocalStore, spec: DirectorySpec, options = {}) {
  const source = join(await temporaryDirectory(), 'source');
  writeTree(source, spec);
  return { source, ...(await importTree(store, source, options)) };
}

/** Every block below `root` is there and right. */
async function expectWhole(store: LocalStore, root: Link): Promise<void> {
  expect((await verifyTree(store, { link: root, name: 'root' })).bad).toEqual([]);
}

const small = () =>
  directory({
    'a.txt': file('hello hello hello hello hello hello hello hello hello'),
    dir: directory({ 'b.bin': file(pseudoRandom(80, 1)), link: symlink('a'), empty: directory() }),
    'run.sh': file('#!/bin/sh\n', true),
  });

describe('opening', () => {
  it('makes a store, or says that there is none', async () => {
    const home = join(await temporaryDirectory(), 'a', 'b');
    expect(await errorOf(openLocalStore(home, { create: false }))).toMatchObject({ code: 'NOT_FOUND' });
    expect(fs.existsSync(home)).toBe(false);
    await (await openLocalStore(home)).close();
    await (await openLocalStore(home, { create: false })).close();
    expect(fs.readFileSync(join(home, 'format'), 'utf8')).toBe('lazytree store 1\n');
    expect(fs.readdirSync(home).sort()).toEqual(['format', 'index', 'reserve', 'segments']);
  });

  it.each(['lazytree store 2\n', '', 'something else entirely', 'lazytree store 1'])(
    'refuses the format %j and changes nothing',
    async (format) => {
      const store = await temporaryStore();
      await store.put(block('x'));
      await store.close();
      fs.writeFileSync(join(store.directory, 'format'), format);
      const before = describeDirectory(store.directory);
      const error = await errorOf(openLocalStore(store.directory));
      expect(error).toMatchObject({ code: 'UNSUPPORTED' });
      expect(error.message).toContain(store.directory);
      expect(error.hint).toBeTruthy();
      expect(describeDirectory(store.directory)).toEqual(before);
    },
  );

  it('refuses a place that is a file', async () => {
    const path = join(await temporaryDirectory(), 'file');
    fs.writeFileSync(path, '');
    expect(await errorOf(openLocalStore(path))).toBeInstanceOf(LazytreeError);
  });

  it('refuses a place that cannot be written to', async ({ skip }) => {
    if (process.getuid?.() !== 0) return skip('only root can become somebody else');
    const home = await temporaryDirectory();
    fs.chmodSync(home, 0o755);
    await (await openLocalStore(join(home, 'old'))).close();
    for (const name of ['new', 'old']) {
      const script = startScript(
        `process.setgid(65534); process.setuid(65534);
         try { await core.openLocalStore(argv[0]); console.log('opened'); }
         catch (error) { console.log(error.code, error.message); }`,
        [join(home, name)],
      );
      const { stdout } = await script.ended;
      expect(stdout).toMatch(/^REFUSED /);
      expect(stdout).toContain(join(home, name));
    }
  });

  it('names the process that has the store open', async () => {
    const home = join(await temporaryDirectory(), 'home');
    const script = startScript(
      `const store = await core.openLocalStore(argv[0]);
       console.log('opened');
       setInterval(() => {}, 1000);`,
      [home],
    );
    await script.line('opened');
    const error = await errorOf(openLocalStore(home));
    expect(error).toMatchObject({ code: 'LOCKED' });
    expect(error.message).toMatch(new RegExp(`\\b${script.child.pid}\\b`));
    expect(error.message).toContain(home);

    script.child.kill('SIGKILL');
    await script.ended;
    const store = await temporaryStore({ directory: home });
    expect(await errorOf(openLocalStore(home))).toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(String(process.pid)),
    });
    await store.put(block('still works'));
    await store.close();
    await (await openLocalStore(home)).close();
  });

  it('leaves the holder alone when many want in', async () => {
    const store = await temporaryStore();
    const errors = await Promise.all(
      Array.from({ length: 5 }, () => errorOf(openLocalStore(store.directory))),
    );
    expect(errors.map(({ code }) => code)).toEqual(Array(5).fill('LOCKED'));
    await store.put(block('x'));
    await store.close();
    const again = await temporaryStore({ directory: store.directory });
    expect(await again.has(block('x').link)).toBe(true);
  });
});

describe('what a crash leaves', () => {
  async function storeWith(...blocks: Block[]): Promise<string> {
    const store = await temporaryStore({ segmentBytes: 4000 });
    for (const item of blocks) await store.put(item);
    await store.close();
    return store.directory;
  }
  const many = Array.from({ length: 12 }, (_, i) => block(pseudoRandom(900, i)));

  it.each([
    ['garbage', pseudoRandom(1000, 99)],
    ['a whole record that was never committed', undefined],
    ['zeros', Buffer.alloc(5000)],
  ])('a tail of %s is dropped', async (_, tail) => {
    const home = await storeWith(...many);
    const last = segmentFiles(home).at(-1) as string;
    const before = fs.readFileSync(last);
    fs.appendFileSync(last, tail ?? before.subarray(16));
    const store = await temporaryStore({ directory: home, segmentBytes: 4000 });
    expect(fs.readFileSync(last).equals(before)).toBe(true);
    const { bad, damage } = await verifyStore(store);
    expect([bad, damage]).toEqual([[], []]);
    for (const item of many) expect(Buffer.compare(await store.get(item.link), item.bytes)).toBe(0);
    const more = block(pseudoRandom(900, 100));
    await store.put(more);
    await store.close();
    const again = await temporaryStore({ directory: home });
    expect(Buffer.compare(await again.get(more.link), more.bytes)).toBe(0);
    expect((await verifyStore(again)).damage).toEqual([]);
  });

  it('a segment that was never committed is removed', async () => {
    const home = await storeWith(...many);
    fs.writeFileSync(join(home, 'segments', '00000777.seg'), pseudoRandom(100));
    fs.writeFileSync(join(home, 'segments', 'notes.txt'), 'not ours');
    const store = await temporaryStore({ directory: home });
    expect(fs.existsSync(join(home, 'segments', '00000777.seg'))).toBe(false);
    expect(fs.existsSync(join(home, 'segments', 'notes.txt'))).toBe(true);
    for (const item of many) expect(await store.has(item.link)).toBe(true);
  });

  it('a segment shorter than what was committed is reported, and the rest works', async () => {
    const home = await storeWith(...many);
    const last = segmentFiles(home).at(-1) as string;
    fs.truncateSync(last, fs.statSync(last).size - 10);
    const store = await temporaryStore({ directory: home, segmentBytes: 4000 });
    const { bad, damage } = await verifyStore(store);
    expect(bad.map(({ problem }) => problem)).toEqual(['corrupt']);
    expect(new Set(damage.map((item) => item.file))).toEqual(new Set([last]));
    const failures: string[] = [];
    for (const { link } of many)
      await store.get(link).catch((error: LazytreeError) => failures.push(error.code));
    expect(failures).toEqual(['CORRUPT']);
    const more = block(pseudoRandom(900, 101));
    await store.put(more);
    await store.close();
    const again = await temporaryStore({ directory: home });
    expect(Buffer.compare(await again.get(more.link), more.bytes)).toBe(0);
  });

  it('a segment that is gone is reported, and the rest works', async () => {
    const home = await storeWith(...many);
    const [first] = segmentFiles(home);
    fs.rmSync(first);
    const store = await temporaryStore({ directory: home });
    const report = await verifyStore(store);
    expect(report.damage.map((item) => item.file)).toEqual([first]);
    expect(report.bad.length).toBeGreaterThan(0);
    const answers = await Promise.allSettled(many.map(({ link }) => store.get(link)));
    const codes = answers.map((answer) => (answer.status === 'rejected' ? answer.reason.code : 'ok'));
    expect(new Set(codes)).toEqual(new Set(['ok', 'CORRUPT']));
  });

  it('a first start that was cut short is no obstacle', async () => {
    const home = join(await temporaryDirectory(), 'home');
    fs.mkdirSync(join(home, 'segments'), { recursive: true });
    fs.writeFileSync(join(home, 'format.123'), 'lazytr');
    const store = await temporaryStore({ directory: home });
    await store.put(block('x'));
    expect(await store.has(block('x').link)).toBe(true);
  });
});

describe('verify', () => {
  it('finds every flipped byte of a segment, and names the paths hit', { timeout: 300_000 }, async () => {
    const store = await temporaryStore();
    const { root } = await imported(store, small());
    await setRef(store, { name: 'main', root, source: 'test' });
    expect(await verifyStore(store)).toMatchObject({ bad: [], damage: [] });
    await store.flush();
    const [segment] = segmentFiles(store.directory);
    const { size } = fs.statSync(segment);
    const unnoticed: number[] = [];
    const named = new Set<string>();
    for (let at = 0; at < size; at++) {
      flip(segment, at);
      const { bad, damage } = await verifyStore(store);
      if (bad.length === 0 && damage.length === 0) unnoticed.push(at);
      for (const { uses } of bad) for (const { path } of uses) named.add(path);
      flip(segment, at);
    }
    expect(await verifyStore(store)).toMatchObject({ bad: [], damage: [] });
    expect([...named].sort()).toEqual(['', 'a.txt', 'dir', 'dir/b.bin', 'dir/empty', 'run.sh']);
    expect(unnoticed).toEqual([]);
  });

  it('never returns the bytes of a damaged record', async () => {
    const store = await temporaryStore();
    const blocks = [block(pseudoRandom(200, 1)), block(Buffer.alloc(400, 'compressible '))];
    for (const item of blocks) await store.put(item);
    await store.flush();
    const [segment] = segmentFiles(store.directory);
    const { size } = fs.statSync(segment);
    for (let at = 16; at < size; at++) {
      flip(segment, at);
      let failed = 0;
      for (const item of blocks) {
        try {
          expect(Buffer.compare(await store.get(item.link), item.bytes)).toBe(0);
        } catch (error) {
          expect(error).toBeInstanceOf(CorruptBlockError);
          expect((error as CorruptBlockError).cid).toBe(formatLink(item.link));
          failed += 1;
        }
      }
      expect(failed, `byte ${at}`).toBe(1);
      flip(segment, at);
    }
  });

  it('names the paths in every tree that it knows, and repair makes room for a good copy', async () => {
    const store = await temporaryStore();
    const shared = pseudoRandom(5000, 5);
    const spec = directory({
      one: directory({ 'x.bin': file(shared) }),
      'y.bin': file(shared),
      z: file('fine'),
    });
    const { source, root } = await imported(store, spec);
    await setRef(store, { name: 'main', root, source: 'test' });
    const other = await imported(store, directory({ 'copy.bin': file(shared) }));
    await addPin(store, other.root);
    const location = store.locate(block(shared).link);
    flip(segmentFiles(store.directory)[0], (location?.offset ?? 0) + 1000);

    const damaged = await verifyStore(store);
    expect(damaged.bad).toHaveLength(1);
    expect(damaged.bad[0]).toMatchObject({ cid: formatLink(block(shared).link), problem: 'corrupt' });
    expect(damaged.bad[0].uses.map(({ tree, path }) => `${tree} ${path}`).sort()).toEqual(
      ['main one/x.bin', 'main y.bin', `${formatLink(other.root)} copy.bin`].sort(),
    );

    expect((await verifyStore(store, { repair: true })).dropped).toBe(1);
    expect(await store.has(block(shared).link)).toBe(false);
    const missing = await verifyStore(store);
    expect(missing.bad.map(({ problem, uses }) => [problem, uses.length])).toEqual([['missing', 3]]);

    const again = await importTree(store, source);
    expect(again.root).toBe(root);
    expect((await verifyStore(store)).bad).toEqual([]);
    await expectWhole(store, root);
  });

  it('takes nothing for damaged that is written while it reads', async () => {
    const store = await temporaryStore();
    await imported(store, manyFiles(20, { size: 500 }));
    const later = Array.from({ length: 20 }, (_, i) => block(pseudoRandom(300, 1000 + i)));
    const writtenMeanwhile = {
      ...store,
      index: {
        ...store.index,
        async *entries() {
          for (const item of later) await store.put(item);
          await store.flush();
          yield* store.index.entries();
        },
      },
    };
    const report = await verifyStore(writtenMeanwhile, { repair: true });
    expect(report).toMatchObject({ bad: [], damage: [], dropped: 0 });
    for (const { link } of later) expect(await store.has(link)).toBe(true);
  });

  it('says at once that blocks have gone from it, or may have', async () => {
    const store = await temporaryStore();
    const { root } = await imported(store, manyFiles(20, { size: 500 }));
    const states = [`${store.epoch()} ${store.collection()}`];
    const look = () => states.push(`${store.epoch()} ${store.collection()}`);
    await store.delete([root]);
    look();
    await gc(store);
    look();
    await gc(store);
    look();
    expect(new Set(states).size).toBe(4);
  });

  it('has nothing left to say after repair, an import and a collection', async () => {
    const store = await temporaryStore();
    const { source, root } = await imported(store, manyFiles(100, { size: 500 }));
    await setRef(store, { name: 'main', root, source });
    flip(segmentFiles(store.directory)[0], 5000);
    expect((await verifyStore(store, { repair: true })).dropped).toBe(1);
    await importTree(store, source);
    await gc(store);
    expect(await verifyStore(store)).toMatchObject({ bad: [], damage: [] });
    await expectWhole(store, root);
  });

  it('repair and an import with its stat cache heal as well', async () => {
    const store = await temporaryStore();
    const statCache = join(await temporaryDirectory(), 'cache');
    const source = join(await temporaryDirectory(), 'source');
    writeTree(source, small());
    await new Promise((resolve) => setTimeout(resolve, 60));
    await importTree(store, source, { statCache });
    const { root } = await importTree(store, source, { statCache });
    await setRef(store, { name: 'main', root, source });
    const { offset = 0 } = store.locate(block(pseudoRandom(80, 1)).link) ?? {};
    flip(segmentFiles(store.directory)[0], offset + 60);
    expect((await verifyStore(store, { repair: true })).dropped).toBe(1);
    expect((await importTree(store, source, { statCache })).root).toBe(root);
    expect((await verifyStore(store)).bad).toEqual([]);
    await expectWhole(store, root);
  });

  it('finds what is missing below a ref', async () => {
    const store = await temporaryStore();
    const { root } = await imported(store, small());
    await setRef(store, { name: 'main', root, source: 'test' });
    await store.delete([block('#!/bin/sh\n').link]);
    const { bad } = await verifyStore(store);
    expect(bad).toEqual([
      {
        cid: formatLink(block('#!/bin/sh\n').link),
        problem: 'missing',
        reason: expect.any(String),
        uses: [{ tree: 'main', path: 'run.sh' }],
      },
    ]);
  });

  it('of one tree reads all of it, from any store', async () => {
    const store = await temporaryStore();
    const spec = small();
    const { root } = await imported(store, spec);
    const whole = await verifyTree(store, { link: root, name: 'main' });
    expect(whole.bad).toEqual([]);
    expect(whole.blocks).toBe(3 + 3);
    const bytes = pseudoRandom(80, 1);
    const lying = {
      ...store,
      get: async (link: Link) => (link === block(bytes).link ? Buffer.from('lies') : store.get(link)),
    };
    const { bad } = await verifyTree(lying, { link: root, name: 'main' });
    expect(bad).toMatchObject([
      { cid: formatLink(block(bytes).link), problem: 'corrupt', uses: [{ tree: 'main', path: 'dir/b.bin' }] },
    ]);
  });
});

describe('a broken index', () => {
  async function filledStore() {
    const store = await temporaryStore({ segmentBytes: 20_000 });
    const { root, source } = await imported(store, manyFiles(300));
    await setRef(store, { name: 'main', root, source: 'test' });
    const links = (await collect(store.links())).sort();
    await store.close();
    return { home: store.directory, root, source, links };
  }

  async function expectRebuilt({ home, root, source, links }: Awaited<ReturnType<typeof filledStore>>) {
    const { recovered } = await rebuildIndex(home);
    const store = await temporaryStore({ directory: home });
    expect((await collect(store.links())).sort()).toEqual(links);
    await expectWhole(store, root);
    expect((await importTree(store, source)).added.blocks).toBe(0);
    await setRef(store, { name: 'again', root, source: 'test' });
    expect((await verifyStore(store)).bad).toEqual([]);
    await store.close();
    return recovered;
  }

  it('that is gone is reported, and rebuilt from the segments', async () => {
    const filled = await filledStore();
    fs.rmSync(join(filled.home, 'index'), { recursive: true });
    const before = describeDirectory(join(filled.home, 'segments'));
    const error = await errorOf(openLocalStore(filled.home));
    expect(error).toMatchObject({ code: 'CORRUPT', hint: expect.stringContaining('verify --repair') });
    expect(describeDirectory(join(filled.home, 'segments'))).toEqual(before);
    expect(await expectRebuilt(filled)).toBe(filled.links.length);
  });

  it.each(['CURRENT', 'MANIFEST', 'everything'])('without its %s never costs a segment', async (what) => {
    const filled = await filledStore();
    const index = join(filled.home, 'index');
    for (const name of fs.readdirSync(index)) {
      if (what === 'everything' || name.startsWith(what)) fs.rmSync(join(index, name));
    }
    const before = describeDirectory(join(filled.home, 'segments'));
    const error = await (async () => {
      const store = await openLocalStore(filled.home);
      await store.close();
      return 'opened as if nothing had happened';
    })().catch((problem: unknown) => problem);
    expect(describeDirectory(join(filled.home, 'segments')), 'the segments are all that there is').toEqual(
      before,
    );
    expect(error).toMatchObject({ code: 'CORRUPT', hint: expect.stringContaining('verify --repair') });
    await expectRebuilt(filled);
  });

  it.each(['CURRENT', 'MANIFEST', '.ldb', '.log'])(
    'with garbage in its %s never costs a segment',
    async (what) => {
      const filled = await filledStore();
      const index = join(filled.home, 'index');
      const names = fs.readdirSync(index).filter((name) => name.startsWith(what) || name.endsWith(what));
      for (const name of names) {
        const { size } = fs.statSync(join(index, name));
        fs.writeFileSync(join(index, name), pseudoRandom(size, 3));
      }
      const before = describeDirectory(join(filled.home, 'segments'));
      const problem = await (async () => {
        const store = await openLocalStore(filled.home);
        await store.close();
        return undefined;
      })().catch((error: unknown) => error);
      expect(describeDirectory(join(filled.home, 'segments')), 'the segments are all that there is').toEqual(
        before,
      );
      if (problem)
        expect(problem).toMatchObject({ code: 'CORRUPT', hint: expect.stringContaining('verify --repair') });
      await expectRebuilt(filled);
    },
  );

  it('is not rebuilt under the feet of a process that has it open', async () => {
    const filled = await filledStore();
    const store = await temporaryStore({ directory: filled.home });
    expect(await errorOf(rebuildIndex(filled.home))).toMatchObject({ code: 'LOCKED' });
    const more = block('put after the attempt');
    await store.put(more);
    await store.close();
    const again = await temporaryStore({ directory: filled.home });
    expect(await again.has(more.link)).toBe(true);
    expect(getRef(again, 'main')?.root).toBe(filled.root);
    await expectWhole(again, filled.root);
  });

  it('keeps the refs that it can when it is rebuilt', async () => {
    const filled = await filledStore();
    await rebuildIndex(filled.home);
    const store = await temporaryStore({ directory: filled.home });
    expect(getRef(store, 'main')?.root).toBe(filled.root);
    expect((await collect(store.links())).sort()).toEqual(filled.links);
  });

  it('is not made where there is no store', async () => {
    const nowhere = join(await temporaryDirectory(), 'nowhere');
    expect(await errorOf(rebuildIndex(nowhere))).toMatchObject({ code: 'NOT_FOUND' });
    expect(fs.existsSync(nowhere)).toBe(false);
  });

  const indexFiles = (home: string, suffix: string) =>
    fs
      .readdirSync(join(home, 'index'))
      .filter((name) => name.endsWith(suffix))
      .map((name) => join(home, 'index', name))
      .filter((path) => fs.statSync(path).size > 0);

  it('with any flipped bit in its log is reported, and refs are not lost without a word', async () => {
    const filled = await filledStore();
    const [log] = indexFiles(filled.home, '.log');
    const { size } = fs.statSync(log);
    expect(size).toBeGreaterThan(1000);
    for (let at = 0; at < size; at += Math.ceil(size / 50)) {
      flip(log, at);
      const error = await errorOf(openLocalStore(filled.home));
      expect(error, `byte ${at} of ${size}`).toMatchObject({
        code: 'CORRUPT',
        hint: expect.stringContaining('verify --repair'),
      });
      flip(log, at);
    }
    flip(log, 100);
    await rebuildIndex(filled.home);
    const store = await temporaryStore({ directory: filled.home });
    // LevelDB's repair takes the damaged part as well, and with it a place that is wrong.
    await verifyStore(store, { repair: true });
    expect(await verifyStore(store)).toMatchObject({ bad: [], damage: [] });
    expect([...new Set(await collect(store.links()))].sort()).toEqual(filled.links);
    await expectWhole(store, filled.root);
  });

  it.each(['cut off', 'zeros'])('whose log ends in what a crash leaves opens: %s', async (what) => {
    const filled = await filledStore();
    const [log] = indexFiles(filled.home, '.log');
    const { size } = fs.statSync(log);
    for (let cut = 1; cut < 400; cut += 7) {
      const home = join(await temporaryDirectory(), 'cut');
      fs.cpSync(filled.home, home, { recursive: true });
      const file = log.replace(filled.home, home);
      fs.truncateSync(file, size - cut);
      if (what === 'zeros') fs.truncateSync(file, size + 100);
      const store = await openLocalStore(home);
      await expectWhole(store, filled.root);
      await store.close();
    }
  });

  /** Has LevelDB write its tables: it does when it is opened with a log. */
  async function withTables() {
    const filled = await filledStore();
    await (await openLocalStore(filled.home)).close();
    return { ...filled, tables: indexFiles(filled.home, '.ldb') };
  }

  it('with any flipped bit in its tables is reported by a verification', async () => {
    const { home, tables } = await withTables();
    const [table] = tables;
    const { size } = fs.statSync(table);
    for (const at of [10, size - 3, size - 20, size - 46, Math.floor(size / 2)]) {
      flip(table, at);
      expect(await isIndexDamaged(home), `byte ${at} of ${size}`).toBe(true);
      flip(table, at);
    }
    expect(await isIndexDamaged(home)).toBe(false);
    flip(table, size - 20);
    const store = await temporaryStore({ directory: home });
    expect((await verifyStore(store)).damage).toEqual([expect.objectContaining({ file: table })]);
  });

  it('whose tables are damaged is made again', async () => {
    const filled = await withTables();
    const [table] = filled.tables;
    flip(table, Math.floor(fs.statSync(table).size / 2));
    await rebuildIndex(filled.home);
    expect(await isIndexDamaged(filled.home)).toBe(false);
    const store = await temporaryStore({ directory: filled.home });
    await verifyStore(store, { repair: true });
    expect(await verifyStore(store)).toMatchObject({ bad: [], damage: [] });
    await expectWhole(store, filled.root);
  });

  it('that does not lead to a block which is there is mended, and costs nothing that lies behind it', async () => {
    const { home, root, links } = await filledStore();
    const store = await temporaryStore({ directory: home });
    const [first] = [...(await collect(store.index.entries()))].sort(
      ([, a], [, b]) => a.segment - b.segment || a.offset - b.offset,
    );
    await store.index.write({ forget: [first[0]], durable: true });
    expect((await verifyStore(store)).bad).toMatchObject([{ problem: 'missing' }]);
    expect(await verifyStore(store, { repair: true })).toMatchObject({ recovered: 1, dropped: 0 });
    expect(await verifyStore(store)).toMatchObject({ bad: [], damage: [], recovered: 0 });
    await store.index.write({ forget: [first[0]], durable: true });
    await store.close();
    expect((await rebuildIndex(home)).recovered).toBe(1);
    const again = await temporaryStore({ directory: home });
    expect((await collect(again.links())).sort()).toEqual(links);
    await expectWhole(again, root);
  });

  it('lacks a block that is nowhere: the next import brings it', async () => {
    const { home, root, source } = await filledStore();
    const store = await temporaryStore({ directory: home });
    const cache = { statCache: statCacheFile(home, 'import', source) };
    await importTree(store, source, cache);
    const [[digest, { segment, offset }]] = await collect(store.index.entries());
    flip(store.segments.path(segment), offset + 60);
    await store.index.write({ forget: [digest], durable: true });
    expect((await verifyStore(store, { repair: true })).bad).toMatchObject([{ problem: 'missing' }]);
    await importTree(store, source, cache);
    await expectWhole(store, root);
  });

  it('with entries that cannot be read says so, and does without them when it is mended', async () => {
    const { home, root } = await filledStore();
    const store = await temporaryStore({ directory: home });
    await store.index.write({
      texts: [
        ['ref', 'broken', '{"root":"bafy'],
        ['imported', 'nonsense', '{}'],
      ],
    });
    await expect(errorOf(() => getRef(store, 'broken'))).resolves.toMatchObject({ code: 'CORRUPT' });
    expect(await errorOf(verifyStore(store))).toMatchObject({
      code: 'CORRUPT',
      hint: expect.stringContaining('verify --repair'),
    });
    expect((await verifyStore(store, { repair: true })).lost).toEqual([
      expect.stringContaining("'broken'"),
      expect.stringContaining("'nonsense'"),
    ]);
    expect(await verifyStore(store)).toMatchObject({ bad: [], lost: [] });
    expect(getRef(store, 'main')?.root).toBe(root);
  });

  it('is rebuilt around damaged records', async () => {
    const filled = await filledStore();
    const [first] = segmentFiles(filled.home);
    flip(first, 16 + 100);
    fs.rmSync(join(filled.home, 'index'), { recursive: true });
    const { recovered } = await rebuildIndex(filled.home);
    expect(recovered).toBe(filled.links.length - 1);
    const store = await temporaryStore({ directory: filled.home });
    await importTree(store, filled.source);
    await expectWhole(store, filled.root);
  });
});

describe('gc', () => {
  const diskUse = (home: string) =>
    Number(
      execFileSync('du', ['-s', '--block-size=1', join(home, 'segments')], { encoding: 'utf8' }).split(
        '\t',
      )[0],
    );

  it('keeps what pins and refs need, removes the rest, and gives the space back', async () => {
    const store = await temporaryStore({ segmentBytes: 1 << 20 });
    const kept = await imported(store, manyFiles(100, { size: 3000, seed: 1 }));
    await setRef(store, { name: 'main', root: kept.root, source: 'test' });
    const pinned = await imported(store, manyFiles(100, { size: 3000, seed: 2 }));
    await addPin(store, pinned.root);
    const dead = await imported(store, manyFiles(1000, { size: 3000, seed: 3 }));
    await recordImport(store, dead.root, dead.source);
    await recordImport(store, kept.root, kept.source);
    await store.flush();
    const before = diskUse(store.directory);

    const planned = await gc(store, { dryRun: true });
    expect(planned.removed).toBe(dead.added.blocks);
    await expectWhole(store, dead.root);

    const report = await gc(store);
    expect(report).toMatchObject({ removed: dead.added.blocks, missing: 0 });
    expect(report.kept).toBe(kept.added.blocks + pinned.added.blocks + 1);
    expect(await store.has(dead.root)).toBe(false);
    await expectWhole(store, kept.root);
    await expectWhole(store, pinned.root);
    const after = diskUse(store.directory);
    expect(before - after).toBeGreaterThan(2_800_000);
    expect(report.reclaimed).toBeGreaterThan(2_800_000);
    expect((await listImports(store)).map(({ root }) => root)).toEqual([kept.root]);
    expect(await verifyStore(store)).toMatchObject({ bad: [], damage: [] });

    expect(await gc(store)).toMatchObject({ removed: 0, reclaimed: 0 });
    await store.close();
    const again = await temporaryStore({ directory: store.directory });
    await expectWhole(again, kept.root);
    expect((await importTree(again, dead.source)).root).toBe(dead.root);
    await expectWhole(again, dead.root);
  });

  it('keeps the history of a ref, or as much of it as is wanted', async () => {
    const store = await temporaryStore();
    const roots: Link[] = [];
    for (let i = 0; i < 4; i++) {
      const { root } = await imported(
        store,
        directory({ same: file('same'), [`only-${i}`]: file(`only ${i}`) }),
      );
      await setRef(store, { name: 'main', root, source: 'test', message: `number ${i}` });
      roots.push(root);
    }
    expect((await gc(store)).removed).toBe(0);
    for (const root of roots) await expectWhole(store, root);

    expect((await gc(store, { keep: 2 })).removed).toBeGreaterThan(0);
    expect(await store.has(roots[0])).toBe(false);
    expect(await store.has(roots[1])).toBe(false);
    await expectWhole(store, roots[2]);
    await expectWhole(store, roots[3]);
    const ref = getRef(store, 'main');
    const log = await collect(history(store, ref as NonNullable<typeof ref>));
    expect(log.map(({ snapshot }) => snapshot.message)).toEqual(['number 3', 'number 2']);
  });

  it('keeps extra roots, sharded directories, large files and what origins are laid over with', async () => {
    const store = await temporaryStore();
    const large = directory({ big: file(pseudoRandom(3 << 20)) });
    for (let i = 0; i < 2500; i++) large.entries.set(`e${i}`, file(String(i % 10)));
    const { root } = await imported(store, large);
    await imported(store, small());
    await gc(store, { roots: [root] });
    await expectWhole(store, root);
    expect(await store.has(block('#!/bin/sh\n').link)).toBe(false);
  });

  it('keeps what is below a pin that is a file', async () => {
    const store = await temporaryStore();
    const { root } = await imported(
      store,
      directory({ big: file(pseudoRandom(1 << 20)), small: file('small') }),
    );
    const [big, little] = await listDirectory(store, root);
    if (!('link' in big && 'link' in little)) throw new Error('two files');
    await addPin(store, big.link);
    await addPin(store, little.link);
    await gc(store);
    expect(await store.has(root)).toBe(false);
    expect((await verifyTree(store, { link: big.link, name: 'big' })).bad).toEqual([]);
    expect(await store.has(little.link)).toBe(true);
  });

  it('removes nothing when a node that it needs cannot be read', async () => {
    const store = await temporaryStore();
    const { root } = await imported(store, small());
    await setRef(store, { name: 'main', root, source: 'test' });
    await imported(store, directory({ other: file('other') }));
    const count = (await collect(store.links())).length;
    flip(segmentFiles(store.directory)[0], (store.locate(root)?.offset ?? 0) + 60);
    expect(await errorOf(gc(store))).toMatchObject({ code: 'CORRUPT' });
    expect((await collect(store.links())).length).toBe(count);
  });

  it('runs once at a time, and again after one that failed', async () => {
    const store = await temporaryStore();
    await imported(store, small());
    const first = gc(store);
    expect(await errorOf(gc(store))).toBeInstanceOf(LazytreeError);
    await first;
    await imported(store, small());
    expect(await errorOf(gc(store, { signal: AbortSignal.abort(new Error('enough')) }))).toMatchObject({
      message: 'enough',
    });
    await gc(store);
  });

  it('never takes what is below a lease, nor what was put or found under one', async () => {
    const store = await temporaryStore();
    const { root } = await imported(store, small());
    await store.put(block('found'));
    await store.put(block('stranger'));
    const lease = store.lease([root]);
    expect(await store.has(block('found').link)).toBe(true);
    await store.put(block('put'));
    await gc(store);
    await expectWhole(store, root);
    expect(await store.has(block('found').link)).toBe(true);
    expect(await store.has(block('put').link)).toBe(true);
    expect(await store.has(block('stranger').link)).toBe(false);
    lease.release();
    await gc(store);
    expect(await store.has(root)).toBe(false);
    expect(await store.has(block('put').link)).toBe(false);
  });

  it('never takes what is below a directory whose node is the content of a file as well', async () => {
    const store = await temporaryStore();
    const inner = await imported(store, directory({ below: file('only reachable through the directory') }));
    const node = Buffer.from(await store.get(inner.root)).toString('latin1');
    const source = join(await temporaryDirectory(), 'source');
    fs.mkdirSync(join(source, 'directory'), { recursive: true });
    fs.writeFileSync(join(source, 'directory', 'below'), 'only reachable through the directory');
    for (const name of ['a file before', 'file after']) fs.writeFileSync(join(source, name), node, 'latin1');
    const { root } = await importTree(store, source);
    await addPin(store, root);
    await gc(store);
    await expectWhole(store, root);
  });

  it('never takes what was imported and named while it ran', async () => {
    const store = await temporaryStore();
    const old = await imported(store, manyFiles(50, { seed: 1 }));
    await setRef(store, { name: 'old', root: old.root, source: old.source });
    const source = join(await temporaryDirectory(), 'source');
    writeTree(source, manyFiles(20, { seed: 2 }));
    let young: Link | undefined;
    // The refs have been listed when gc reads the first block: all of this happens before the sweep.
    const slow: LocalStore = {
      ...store,
      async get(link, options) {
        if (!young) {
          young = (await importTree(store, source)).root;
          await setRef(store, { name: 'young', root: young, source });
        }
        return store.get(link, options);
      },
    };
    await gc(slow);
    expect(getRef(store, 'young')?.root).toBe(young);
    await expectWhole(store, young as Link);
    await gc(store);
    await expectWhole(store, young as Link);
  });

  it('drops a segment once, when the last lease is gone, however often it runs', async () => {
    const store = await temporaryStore();
    await imported(store, small());
    const [segment] = segmentFiles(store.directory);
    const lease = store.lease();
    await gc(store);
    await gc(store);
    expect(fs.existsSync(segment)).toBe(true);
    expect((await verifyStore(store)).bad).toEqual([]);
    lease.release();
    await store.flush();
    await gc(store);
    await store.flush();
    expect(fs.existsSync(segment)).toBe(false);
    await store.close();
  });

  it('runs over and over while imports do, and every root is whole', { timeout: 240_000 }, async () => {
    const store = await temporaryStore({ segmentBytes: 256 << 10 });
    const base = await temporaryDirectory();
    const statCache = join(base, 'cache');
    const source = join(base, 'source');
    writeTree(source, manyFiles(400, { size: 1000 }));
    let running = true;
    let collections = 0;
    const collector = (async () => {
      while (running) {
        await gc(store, { deadRatio: 0.01 });
        collections += 1;
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    collector.catch(() => undefined);
    for (let round = 0; round < 25; round++) {
      fs.rmSync(join(source, `d${round % 4}`), { recursive: true, force: true });
      fs.writeFileSync(join(source, `new-${round}`), pseudoRandom(2000, 5000 + round));
      if (round % 2 === 0)
        writeTree(join(source, `d${round % 4}`), manyFiles(50, { size: 1000, seed: 10 + round }));
      const lease = store.lease();
      try {
        const { root } = await importTree(store, source, round % 3 ? { statCache } : {});
        await setRef(store, { name: 'main', root, source });
        if (round % 5 === 4) await setRef(store, { name: `kept-${round}`, root, source });
        await expectWhole(store, root);
      } finally {
        lease.release();
      }
    }
    running = false;
    await collector;
    expect(collections).toBeGreaterThan(3);
    for (const { root } of await listRefs(store)) await expectWhole(store, root);
    expect((await verifyStore(store)).bad).toEqual([]);
    await gc(store);
    const target = join(base, 'target');
    const main = getRef(store, 'main') as { root: Link };
    await exportTree(store, main.root, target);
    expect(describeDirectory(target)).toEqual(describeDirectory(source));
  });
});

describe('refs, pins and imports', () => {
  const root = (text: string) => linkTo(DAG_CBOR, Buffer.from(text));

  it('a ref counts its changes and keeps its history', async () => {
    const store = await temporaryStore();
    const { root: first } = await imported(store, directory({ a: file('1') }));
    const { root: second } = await imported(store, directory({ a: file('2') }));
    expect(getRef(store, 'main')).toBe(undefined);
    const one = await setRef(store, { name: 'main', root: first, source: '/src', message: 'first' });
    const two = await setRef(store, { name: 'main', root: second, source: '/src' });
    expect([one.sequence, two.sequence]).toEqual([1, 2]);
    expect(getRef(store, 'main')).toEqual(two);
    const log = await collect(history(store, two));
    expect(log.map(({ snapshot }) => [snapshot.root, snapshot.message, snapshot.source])).toEqual([
      [second, '', '/src'],
      [first, 'first', '/src'],
    ]);
    expect(log.map(({ link }) => link)).toEqual([two.snapshot, one.snapshot]);

    await setRef(store, { name: 'a.other', root: first, source: '' });
    expect((await listRefs(store)).map(({ name }) => name)).toEqual(['a.other', 'main']);
    await removeRef(store, 'a.other');
    expect((await listRefs(store)).map(({ name }) => name)).toEqual(['main']);
    expect(await errorOf(removeRef(store, 'a.other'))).toMatchObject({ code: 'NOT_FOUND' });

    await store.close();
    const again = await temporaryStore({ directory: store.directory });
    expect(getRef(again, 'main')).toEqual(two);
  });

  it('changes of one ref that come at once all count', async () => {
    const store = await temporaryStore();
    const { root: tree } = await imported(store, directory());
    await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        setRef(store, { name: 'main', root: tree, source: '', message: String(i) }),
      ),
    );
    const ref = getRef(store, 'main') as NonNullable<ReturnType<typeof getRef>>;
    expect(ref.sequence).toBe(10);
    expect((await collect(history(store, ref))).length).toBe(10);
  });

  it('a message or source that is too long for a snapshot is refused, and nothing changes', async () => {
    const store = await temporaryStore();
    const { root: tree } = await imported(store, directory());
    const long = 'x'.repeat(100_000);
    expect(
      await errorOf(setRef(store, { name: 'main', root: tree, source: '', message: long })),
    ).toBeInstanceOf(LazytreeError);
    expect(await errorOf(setRef(store, { name: 'main', root: tree, source: long }))).toBeInstanceOf(
      LazytreeError,
    );
    expect(getRef(store, 'main')).toBe(undefined);
    await gc(store);
  });

  it.each(['', '.', '..', '-x', 'a/b', 'a b', 'a\nb', 'ä', 'x'.repeat(201), '../x', 'a:b', '.hidden', '@'])(
    'a ref cannot be named %j',
    async (name) => {
      const store = await temporaryStore();
      expect(() => checkRefName(name)).toThrow(LazytreeError);
      expect(await errorOf(setRef(store, { name, root: root('x'), source: '' }))).toMatchObject({
        code: 'USAGE',
      });
      await store.close();
    },
  );

  it.each(['main', 'a', '_', '0', 'v1.2.3-rc.1+build', 'x'.repeat(200), 'me@host'])(
    'a ref can be named %j',
    (name) => {
      checkRefName(name);
    },
  );

  it('pins come and go', async () => {
    const store = await temporaryStore();
    await addPin(store, root('a'));
    await addPin(store, root('b'));
    await addPin(store, root('a'));
    expect((await listPins(store)).map((pin) => pin.root).sort()).toEqual([root('a'), root('b')].sort());
    await removePin(store, root('a'));
    expect((await listPins(store)).map((pin) => pin.root)).toEqual([root('b')]);
    expect(await errorOf(removePin(store, root('a')))).toMatchObject({ code: 'NOT_FOUND' });
  });

  it('imports are remembered until they are forgotten', async () => {
    const store = await temporaryStore();
    await recordImport(store, root('a'), '/a');
    await recordImport(store, root('b'), '/b');
    expect((await listImports(store)).map(({ source }) => source).sort()).toEqual(['/a', '/b']);
    await forgetImports(store, [root('a')]);
    expect((await listImports(store)).map((item) => item.root)).toEqual([root('b')]);
  });
});

describe('segments', () => {
  it('are followed by new ones when they are full', async () => {
    const store = await temporaryStore({ segmentBytes: 10_000 });
    for (let i = 0; i < 38; i++) await store.put(block(pseudoRandom(1000, i)));
    await store.close();
    const files = segmentFiles(store.directory);
    expect(files.length).toBeGreaterThanOrEqual(4);
    for (const path of files) expect(fs.statSync(path).size).toBeLessThan(12_000);
    const again = await temporaryStore({ directory: store.directory, segmentBytes: 10_000 });
    for (let i = 0; i < 38; i++)
      expect(Buffer.compare(await again.get(block(pseudoRandom(1000, i)).link), pseudoRandom(1000, i))).toBe(
        0,
      );
    await again.put(block('more'));
    await again.close();
    expect(segmentFiles(store.directory).length).toBe(files.length);
  });

  it('hold what compresses in less space', async () => {
    const store = await temporaryStore();
    await store.put(block(Buffer.alloc(500_000, 'text ')));
    await store.close();
    expect(fs.statSync(segmentFiles(store.directory)[0]).size).toBeLessThan(50_000);
  });

  it('refuse a block beyond 1 MiB', async () => {
    const store = await temporaryStore();
    expect(await errorOf(store.put(block(Buffer.alloc((1 << 20) + 1))))).toMatchObject({
      code: 'UNSUPPORTED',
    });
  });
});

describe('what goes through a tree that is here', () => {
  it.each<[string, (store: LocalStore, root: Link, signal: AbortSignal) => Promise<unknown>]>([
    ['a walk', (store, root, signal) => collect(walkTree(store, root, { signal }))],
    ['a verification', (store, link, signal) => verifyTree(store, { link, name: 'here' }, { signal })],
    ['a comparison', comparison],
  ])('%s lets others have their turn, and stops when one of them says so', async (_, go) => {
    const store = await temporaryStore();
    const root = await importSpec(store, manyFiles(10_000, { perDirectory: 10, size: 20 }));
    const interrupt = new AbortController();
    const turn = setImmediate(() => setImmediate(() => interrupt.abort()));
    expect(await errorOf(go(store, root, interrupt.signal))).toMatchObject({ name: 'AbortError' });
    clearImmediate(turn);
  });

  async function comparison(store: LocalStore, root: Link, signal: AbortSignal): Promise<unknown> {
    const empty = await importSpec(store, directory({}));
    return collect(diffTrees(store, empty, root, { signal }));
  }
});
