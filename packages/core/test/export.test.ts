import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import * as dagCbor from '@ipld/dag-cbor';
import {
  type BlockStore,
  createMemoryStore,
  DAG_CBOR,
  type DirectoryEntry,
  type Entry,
  encodeDirectory,
  exportTree,
  faultInjecting,
  formatLink,
  importTree,
  LazytreeError,
  type Link,
  type LocalStore,
  linkCodec,
  linkDigest,
  linkTo,
  linkToCid,
  listDirectory,
  nameFromBytes,
  RAW,
  resolvePath,
  toFsPath,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  afterwards,
  block,
  type DirectorySpec,
  describeDirectory,
  describeSpec,
  directory,
  errorOf,
  file,
  manyFiles,
  pseudoRandom,
  startScript,
  symlink,
  type TreeNode,
  temporaryDirectory,
  temporaryStore,
  treeArbitrary,
  writeTree,
} from './helpers.js';

/** A root with these entries, in `store`. */
async function putDirectory(store: BlockStore, entries: Entry[]): Promise<Link> {
  const { nodes, link } = encodeDirectory(entries);
  for (const node of nodes) await store.put(node);
  return link;
}

/** A tree in `store`, without a detour over a file system. */
async function putSpec(store: BlockStore, spec: DirectorySpec): Promise<Link> {
  const base = join(await temporaryDirectory(), 'spec');
  writeTree(base, spec);
  return (await importTree(store, base)).root;
}

const sample = () =>
  directory({
    'README.md': file('# sample\n'),
    bin: directory({ run: file('#!/bin/sh\n', true), link: symlink('run') }),
    empty: directory(),
    deep: directory({ er: directory({ est: directory({ f: file('bottom') }) }) }),
    large: file(pseudoRandom(2_000_000, 1)),
    '\udcff': file('odd'),
    dangling: symlink('/nowhere'),
    zero: file(''),
  });

/** Everything that tells whether something was touched. */
function stamps(root: string, prefix = '', found = new Map<string, string>()): Map<string, string> {
  for (const bytes of fs.readdirSync(toFsPath(root), { encoding: 'buffer' })) {
    const name = nameFromBytes(bytes);
    const stat = fs.lstatSync(toFsPath(`${root}/${name}`), { bigint: true });
    found.set(prefix + name, `${stat.ino} ${stat.mtimeNs} ${stat.ctimeNs} ${stat.mode}`);
    if (stat.isDirectory()) stamps(`${root}/${name}`, `${prefix}${name}/`, found);
  }
  return found;
}

/** What hidden files of ours are left in `directory` and beside it. */
function litter(target: string): string[] {
  const beside = fs.readdirSync(join(target, '..')).filter((name) => name.includes('lazytree-'));
  const below = fs.existsSync(target) ? (fs.readdirSync(target, { recursive: true }) as string[]) : [];
  return [
    ...beside.filter((name) => name.includes('.lazytree')),
    ...below.filter((name) => name.includes('.lazytree-')),
  ];
}

const stores: [string, () => Promise<BlockStore>][] = [
  ['memory', async () => createMemoryStore()],
  ['local', () => temporaryStore({ segmentBytes: 1 << 20 })],
];

describe.each(stores)('from a store that is %s', (_, open) => {
  it('a tree is what was imported', async () => {
    const store = await open();
    const root = await putSpec(store, sample());
    const base = await temporaryDirectory();
    const seen: number[] = [];
    const result = await exportTree(store, root, join(base, 'target'), {
      onProgress: ({ files }) => seen.push(files),
    });
    expect(describeDirectory(join(base, 'target'))).toEqual(describeSpec(sample()));
    expect(result).toMatchObject({ root, files: 6, removed: 0, origins: [] });
    expect(seen.at(-1)).toBe(6);
    expect(litter(join(base, 'target'))).toEqual([]);

    fs.mkdirSync(join(base, 'there-already'));
    const { ino } = fs.statSync(join(base, 'there-already'));
    await exportTree(store, root, join(base, 'there-already'));
    expect(describeDirectory(join(base, 'there-already'))).toEqual(describeSpec(sample()));
    expect(fs.statSync(join(base, 'there-already')).ino).toBe(ino);
    expect(litter(join(base, 'there-already'))).toEqual([]);
  });

  it('random trees are what was imported', async () => {
    const store = await open();
    const base = await temporaryDirectory();
    let count = 0;
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), fc.integer({ min: 1, max: 2 }), async (spec, threads) => {
        const source = join(base, `source-${count}`);
        const target = join(base, `target-${count++}`);
        writeTree(source, spec);
        const { root } = await importTree(store, source);
        await exportTree(store, root, target, { threads });
        expect(describeDirectory(target)).toEqual(describeDirectory(source));
      }),
      { numRuns: 20 },
    );
  });

  it('an update of anything makes it what was imported', async () => {
    const store = await open();
    const base = await temporaryDirectory();
    const statCache = join(base, 'cache');
    let count = 0;
    await fc.assert(
      fc.asyncProperty(treeArbitrary(2), treeArbitrary(2), fc.boolean(), async (before, after, cached) => {
        const target = join(base, `target-${count}`);
        writeTree(target, before);
        const source = join(base, `source-${count++}`);
        writeTree(source, after);
        const { root } = await importTree(store, source);
        const options = { existing: 'update', ...(cached ? { statCache } : {}) } as const;
        await exportTree(store, root, target, options);
        expect(describeDirectory(target)).toEqual(describeDirectory(source));
        const untouched = stamps(target);
        await exportTree(store, root, target, options);
        expect(stamps(target)).toEqual(untouched);
      }),
      { numRuns: 25 },
    );
  });

  it('a block that is missing is named, with the path that needs it, and leaves no target', async () => {
    const store = await open();
    const root = await putSpec(store, sample());
    if (!('delete' in store)) throw new Error('both can');
    await (store as LocalStore).delete([block('bottom').link]);
    const base = await temporaryDirectory();
    const error = await errorOf(exportTree(store, root, join(base, 'target')));
    expect(error).toMatchObject({ code: 'BLOCK_MISSING' });
    expect(fs.readdirSync(base)).toEqual([]);
    expect(error.message).toContain(formatLink(block('bottom').link));
    expect(error.message).toContain('deep/er/est/f');
  });

  it('a node that is missing is named, and leaves no target', async () => {
    const store = await open();
    const root = await putSpec(store, sample());
    const bin = await resolvePath(store, root, 'bin');
    if (bin.kind !== 'directory') throw new Error('a directory');
    await (store as LocalStore).delete([bin.link]);
    const target = join(await temporaryDirectory(), 'target');
    fs.mkdirSync(target);
    const error = await errorOf(exportTree(store, root, target));
    expect(error).toMatchObject({ code: 'BLOCK_MISSING' });
    expect(error.message).toContain(formatLink(bin.link));
    expect(fs.readdirSync(target)).toEqual([]);
    expect(error.message).toContain('bin');
  });

  it('a root that is not there, or no directory, is an error and leaves no target', async () => {
    const store = await open();
    const base = await temporaryDirectory();
    const { link } = block('nothing', DAG_CBOR);
    expect(await errorOf(exportTree(store, link, join(base, 'target')))).toMatchObject({
      code: 'BLOCK_MISSING',
    });
    await store.put(block('just a file'));
    expect(await errorOf(exportTree(store, block('just a file').link, join(base, 'target')))).toMatchObject({
      code: 'USAGE',
    });
    expect(fs.readdirSync(base)).toEqual([]);
  });

  it('can be called off, and leaves no target', async () => {
    const store = await open();
    const root = await putSpec(store, manyFiles(400));
    const base = await temporaryDirectory();
    const reason = new Error('enough');
    for (const after of [0, 100]) {
      const controller = new AbortController();
      if (after === 0) controller.abort(reason);
      const task = exportTree(store, root, join(base, 'target'), {
        signal: controller.signal,
        onProgress: ({ files }) => files >= after && controller.abort(reason),
      });
      expect(await errorOf(task)).toBe(reason);
      expect(fs.readdirSync(base)).toEqual([]);
    }
    await exportTree(store, root, join(base, 'target'));
    expect(fs.readdirSync(base)).toEqual(['target']);
  });

  it('progress is told on the way', async () => {
    const store = await open();
    const root = await putSpec(store, manyFiles(400));
    const seen: number[] = [];
    await exportTree(store, root, join(await temporaryDirectory(), 'target'), {
      onProgress({ files, totalFiles }) {
        expect(totalFiles).toBe(400);
        seen.push(files);
      },
    });
    expect(seen.at(-1)).toBe(400);
    expect(seen.some((files) => files > 0 && files < 400)).toBe(true);
  });

  it('origin entries are reported, not written', async () => {
    const store = await open();
    const inner = await putDirectory(store, [
      { kind: 'origin', name: 'o', of: 'file', driver: 'tar', reference: 'x' },
    ]);
    const root = await putDirectory(store, [
      { kind: 'directory', name: 'd', link: inner, size: 0, files: 0 },
      { kind: 'origin', name: 'react', of: 'directory', driver: 'npm', reference: 'react@19' },
    ]);
    const target = join(await temporaryDirectory(), 'target');
    const result = await exportTree(store, root, target);
    expect(result.origins.sort()).toEqual(['d/o', 'react']);
    expect(describeDirectory(target)).toEqual(['d/']);
  });

  it('what an origin stands for is written while others are on their way', async () => {
    const store = await open();
    const link = await putSpec(store, manyFiles(200));
    const origin = (name: string): Entry => ({
      kind: 'origin',
      name,
      of: 'directory',
      driver: 'npm',
      reference: name,
    });
    const scope = await putDirectory(store, [origin('later')]);
    const root = await putDirectory(store, [
      { kind: 'directory', name: '@scope', link: scope, size: 0, files: 0 },
      origin('first'),
    ]);
    const written = Promise.withResolvers<void>();
    const asked: string[] = [];
    const source = {
      ...store,
      // In turn: `later` comes when something of `first` has been written, and never if that waits for it.
      async resolveOrigin({ name }: Entry): Promise<DirectoryEntry> {
        asked.push(name);
        if (name === 'later') await written.promise;
        return { kind: 'directory', name, link, size: 40_000, files: 200 };
      },
    };
    const result = await exportTree(source, root, join(await temporaryDirectory(), 'target'), {
      onProgress: ({ files }) => files > 0 && written.resolve(),
    });
    expect(asked).toEqual(['first', 'later']);
    expect(result).toMatchObject({ files: 400, origins: [] });
  });
});

describe('a block that is corrupt', () => {
  it('in a local store is named, with the path that needs it, and leaves no target', async () => {
    const store = await temporaryStore();
    const root = await putSpec(store, sample());
    await store.flush();
    const location = store.locate(block('bottom').link);
    const path = join(store.directory, 'segments', '00000001.seg');
    const fd = fs.openSync(path, 'r+');
    fs.writeSync(fd, 'B', (location?.offset ?? 0) + 52);
    fs.closeSync(fd);
    const base = await temporaryDirectory();
    const error = await errorOf(exportTree(store, root, join(base, 'target')));
    expect(error).toMatchObject({ code: 'CORRUPT' });
    expect(error.message).toContain(formatLink(block('bottom').link));
    expect(error.message).toContain('deep/er/est/f');
    expect(error.hint).toBeTruthy();
    expect(fs.readdirSync(base)).toEqual([]);
  });

  it('of another length than the tree says leaves no target', async () => {
    const store = createMemoryStore();
    await store.put(block('12345'));
    const root = await putDirectory(store, [{ kind: 'file', name: 'f', link: block('12345').link, size: 4 }]);
    const base = await temporaryDirectory();
    expect(await errorOf(exportTree(store, root, join(base, 'target')))).toMatchObject({ code: 'CORRUPT' });
    expect(fs.readdirSync(base)).toEqual([]);
  });

  it('of another length than the tree says leaves no target, from a local store', async () => {
    const store = await temporaryStore();
    await store.put(block('12345'));
    const root = await putDirectory(store, [{ kind: 'file', name: 'f', link: block('12345').link, size: 4 }]);
    const base = await temporaryDirectory();
    expect(await errorOf(exportTree(store, root, join(base, 'target')))).toBeInstanceOf(LazytreeError);
    expect(fs.readdirSync(base)).toEqual([]);
  });

  it('is found by a store that verifies, wherever it is exported from', async () => {
    const store = await temporaryStore();
    const root = await putSpec(store, sample());
    const lying = faultInjecting(store, {
      tamper: (link, bytes) => (link === block('bottom').link ? Buffer.from('tampered') : bytes),
    });
    const base = await temporaryDirectory();
    const outcome = await exportTree(lying, root, join(base, 'target')).catch((error: unknown) => error);
    // Either it asks the wrapper and fails, or it reads the good bytes below: a wrapper is not half in use.
    if (!(outcome instanceof Error))
      expect(describeDirectory(join(base, 'target'))).toEqual(describeSpec(sample()));
    else expect(outcome).toMatchObject({ code: 'CORRUPT' });
  });
});

describe('a target', () => {
  async function prepared(spec: DirectorySpec = sample()) {
    const store = await temporaryStore();
    const root = await putSpec(store, spec);
    const base = await temporaryDirectory();
    return { store, root, base, target: join(base, 'target') };
  }

  it('that is not empty is refused and stays as it is', async () => {
    const { store, root, target } = await prepared();
    fs.mkdirSync(target);
    fs.writeFileSync(join(target, 'mine'), 'mine');
    const error = await errorOf(exportTree(store, root, target));
    expect(error).toMatchObject({ code: 'NOT_EMPTY' });
    expect(error.message).toContain(target);
    expect(describeDirectory(target)).toHaveLength(1);
  });

  it('that is a file, below a file, or without a parent is refused', async () => {
    const { store, root, base } = await prepared();
    fs.writeFileSync(join(base, 'file'), 'x');
    for (const existing of ['refuse', 'force', 'update'] as const) {
      expect(await errorOf(exportTree(store, root, join(base, 'file'), { existing }))).toMatchObject({
        code: 'USAGE',
      });
      expect(await errorOf(exportTree(store, root, join(base, 'file/x'), { existing }))).toBeInstanceOf(
        LazytreeError,
      );
      expect(await errorOf(exportTree(store, root, join(base, 'no/x'), { existing }))).toMatchObject({
        code: 'NOT_FOUND',
      });
    }
    fs.symlinkSync('nowhere', join(base, 'dangling'));
    expect(await errorOf(exportTree(store, root, join(base, 'dangling')))).toBeInstanceOf(LazytreeError);
    expect(fs.readdirSync(base).sort()).toEqual(['dangling', 'file']);
  });

  it('that the user names by a symlink is where that leads', async () => {
    const { store, root, base } = await prepared();
    fs.mkdirSync(join(base, 'real'));
    fs.symlinkSync('real', join(base, 'link'));
    await exportTree(store, root, join(base, 'link'));
    expect(describeDirectory(join(base, 'real'))).toEqual(describeSpec(sample()));
    expect(fs.lstatSync(join(base, 'link')).isSymbolicLink()).toBe(true);
  });

  it.each(['.', 'sub', '..'])('that holds the store, or lies in it (%s), is refused', async (where) => {
    const { store, root } = await prepared();
    const home = store.directory;
    const target = join(home, where);
    fs.mkdirSync(target, { recursive: true });
    for (const existing of ['update', 'force', 'refuse'] as const) {
      expect(await errorOf(exportTree(store, root, target, { existing }))).toMatchObject({ code: 'REFUSED' });
    }
    expect(fs.existsSync(join(home, 'format'))).toBe(true);
  });

  it('that holds the store by another path is refused', async () => {
    const base = await temporaryDirectory();
    fs.mkdirSync(join(base, 'real'));
    fs.symlinkSync('real', join(base, 'link'));
    const store = await temporaryStore({ directory: join(base, 'link', 'home') });
    const root = await putSpec(store, sample());
    expect(await errorOf(exportTree(store, root, join(base, 'real'), { existing: 'update' }))).toMatchObject({
      code: 'REFUSED',
    });
    expect(fs.existsSync(join(base, 'real/home/format'))).toBe(true);
  });

  it('that holds the store, which was opened by a relative path, is refused', async () => {
    const base = await temporaryDirectory();
    const script = startScript(
      `const store = await core.openLocalStore('home');
       const { link, nodes } = core.encodeDirectory([]);
       for (const node of nodes) await store.put(node);
       await store.flush();
       const outcome = await core.exportTree(store, link, argv[0], { existing: 'update' }).then(() => 'exported', (error) => error.code);
       console.log(outcome);
       await store.close();`,
      [base],
      { cwd: base },
    );
    expect((await script.ended).stdout).toBe('REFUSED\n');
    expect(fs.existsSync(join(base, 'home/format'))).toBe(true);
  });

  it('gets the permissions that the umask leaves', async () => {
    const { store, root, target, base } = await prepared();
    const old = process.umask(0o027);
    try {
      await exportTree(store, root, target);
      fs.mkdirSync(join(base, 'empty'), { mode: 0o700 });
      await exportTree(store, root, join(base, 'empty'));
    } finally {
      process.umask(old);
    }
    const mode = (path: string) => (fs.lstatSync(join(base, path)).mode & 0o7777).toString(8);
    expect([
      mode('target'),
      mode('target/bin'),
      mode('target/bin/run'),
      mode('target/README.md'),
      mode('empty'),
    ]).toEqual(['750', '750', '750', '640', '700']);
  });
});

describe('an export over what is there', () => {
  async function updatable(spec: DirectorySpec = sample()) {
    const store = await temporaryStore();
    const root = await putSpec(store, spec);
    const base = await temporaryDirectory();
    const target = join(base, 'target');
    await exportTree(store, root, target);
    return {
      store,
      root,
      base,
      target,
      update: (more = {}) => exportTree(store, root, target, { existing: 'update', ...more }),
    };
  }

  it('with force writes the tree and leaves the rest', async () => {
    const { store, root, target } = await updatable();
    fs.writeFileSync(join(target, 'mine'), 'mine');
    fs.writeFileSync(join(target, 'README.md'), 'changed');
    fs.mkdirSync(join(target, 'bin/mine'));
    fs.rmSync(join(target, 'large'));
    fs.mkdirSync(join(target, 'large'));
    fs.writeFileSync(join(target, 'large/x'), 'in the way');
    const result = await exportTree(store, root, target, { existing: 'force' });
    const expected = sample();
    expected.entries.set('mine', file('mine'));
    (expected.entries.get('bin') as DirectorySpec).entries.set('mine', directory());
    expect(describeDirectory(target)).toEqual(describeSpec(expected));
    expect(result.removed).toBe(0);
  });

  it('touches nothing when nothing differs', async () => {
    const { target, update, base } = await updatable();
    const before = stamps(target);
    expect(await update()).toMatchObject({ files: 0, bytes: 0, removed: 0 });
    expect(stamps(target)).toEqual(before);
    const statCache = join(base, 'cache');
    for (let i = 0; i < 3; i++)
      expect(await update({ statCache })).toMatchObject({ files: 0, bytes: 0, removed: 0 });
    expect(stamps(target)).toEqual(before);
  });

  it('touches only what differs', async () => {
    const { target, update } = await updatable();
    const before = stamps(target);
    fs.writeFileSync(join(target, 'bin/run'), 'changed');
    fs.mkdirSync(join(target, 'extra/more'), { recursive: true });
    fs.writeFileSync(join(target, 'extra/more/x'), 'x');
    fs.rmSync(join(target, 'zero'));
    const result = await update();
    expect(describeDirectory(target)).toEqual(describeSpec(sample()));
    expect(result).toMatchObject({ files: 2, removed: 3 });
    const after = stamps(target);
    const touched = [...after.keys()].filter((name) => after.get(name) !== before.get(name));
    expect(touched.sort()).toEqual(['bin', 'bin/run', 'zero'].sort());
  });

  it('mends modes without writing the file', async () => {
    const { target, update } = await updatable();
    const { ino } = fs.statSync(join(target, 'bin/run'));
    fs.chmodSync(join(target, 'bin/run'), 0o644);
    fs.chmodSync(join(target, 'README.md'), 0o755);
    await update();
    expect(describeDirectory(target)).toEqual(describeSpec(sample()));
    expect(fs.statSync(join(target, 'bin/run')).ino).toBe(ino);
  });

  const nodes: [string, TreeNode][] = [
    ['file', file('x')],
    ['executable', file('x', true)],
    ['other file', file('y')],
    ['large file', file(pseudoRandom(600_000))],
    ['symlink', symlink('a')],
    ['other symlink', symlink('/tmp')],
    ['symlink to a directory', symlink('..')],
    ['empty directory', directory()],
    ['directory', directory({ x: file('x'), d: directory({ y: file('y') }) })],
    ['other directory', directory({ x: symlink('x'), d: file('y') })],
  ];
  it('changes every kind of entry into every other', async () => {
    const store = await temporaryStore();
    const base = await temporaryDirectory();
    // All pairs at once: each is an entry of its own.
    const pairs = nodes.flatMap(([from, a]) => nodes.map(([to, b]) => ({ name: `${from} to ${to}`, a, b })));
    const after = directory(pairs.map(({ name, b }) => [name, b]));
    const root = await putSpec(store, after);
    for (const existing of ['update', 'force'] as const) {
      const target = join(base, existing);
      writeTree(target, directory(pairs.map(({ name, a }) => [name, a])));
      await exportTree(store, root, target, { existing });
      const merged = describeDirectory(target);
      if (existing === 'update') expect(merged).toEqual(describeSpec(after));
      else expect(merged).toEqual(expect.arrayContaining(describeSpec(after)));
    }
  });

  it('removes what is special, and what is in the way', async () => {
    const { target, update } = await updatable();
    fs.rmSync(join(target, 'README.md'));
    execFileSync('mkfifo', [join(target, 'README.md'), join(target, 'bin/fifo'), join(target, 'fifo')]);
    await update();
    expect(describeDirectory(target)).toEqual(describeSpec(sample()));
  });

  it('names the path of a block or node that is missing', async () => {
    for (const store of [createMemoryStore(), await temporaryStore()]) {
      const root = await putSpec(store, sample());
      const base = await temporaryDirectory();
      const deep = await resolvePath(store, root, 'deep/er');
      if (deep.kind !== 'directory') throw new Error('a directory');
      for (const [link, path] of [
        [block('bottom').link, 'deep/er/est/f'],
        [deep.link, 'deep/er'],
      ] as const) {
        await store.delete([link]);
        for (const options of [{}, { statCache: join(base, 'cache') }]) {
          const target = join(base, path.replaceAll('/', '-'));
          fs.mkdirSync(target, { recursive: true });
          fs.writeFileSync(join(target, 'other'), '');
          const error = await errorOf(exportTree(store, root, target, { existing: 'update', ...options }));
          expect(error).toMatchObject({ code: 'BLOCK_MISSING' });
          expect(error.message).toContain(`'${path}': `);
          expect(error.message).toContain(formatLink(link));
        }
      }
    }
  });

  it('brings back metadata, of directories too', async () => {
    const base = await temporaryDirectory();
    const source = join(base, 'source');
    writeTree(source, sample());
    for (const [path, time] of [
      ['bin/run', '2001-02-03 04:05:06.123456789Z'],
      ['bin/link', '2002-02-03 04:05:06.5Z'],
      ['README.md', '1960-01-01 00:00:00.25Z'],
      ['empty', '2003-01-01 00:00:00Z'],
      ['bin', '2004-01-01 00:00:00.000000001Z'],
    ]) {
      execFileSync('touch', ['-h', '-d', time, join(source, path)]);
    }
    fs.chmodSync(join(source, 'README.md'), 0o640);
    fs.chmodSync(join(source, 'empty'), 0o1500);
    fs.chmodSync(join(source, 'bin'), 0o511);
    for (const store of [createMemoryStore(), await temporaryStore()]) {
      const target = await temporaryDirectory();
      const { root } = await importTree(store, source, { preserve: true });
      await exportTree(store, root, join(target, 't'));
      const expected = describeDirectory(source, { metadata: true });
      expect(describeDirectory(join(target, 't'), { metadata: true })).toEqual(expected);

      // In place, so that no directory's own time shows it; then what does show.
      fs.writeFileSync(join(target, 't/bin/run'), 'changed');
      await exportTree(store, root, join(target, 't'), { existing: 'update' });
      expect(describeDirectory(join(target, 't'), { metadata: true })).toEqual(expected);
      fs.rmSync(join(target, 't/bin/link'));
      fs.chmodSync(join(target, 't/empty'), 0o755);
      fs.writeFileSync(join(target, 't/empty/x'), 'x');
      fs.utimesSync(join(target, 't/README.md'), 5, 5);
      await exportTree(store, root, join(target, 't'), { existing: 'update' });
      expect(describeDirectory(join(target, 't'), { metadata: true })).toEqual(expected);
      const again = stamps(join(target, 't'));
      await exportTree(store, root, join(target, 't'), { existing: 'update' });
      expect(stamps(join(target, 't'))).toEqual(again);
    }
  });

  it('between two trees that differ in one file of a large directory', async () => {
    const store = await temporaryStore();
    const before = manyFiles(2100, { perDirectory: 2100, size: 10 });
    const base = await temporaryDirectory();
    const target = join(base, 'target');
    const statCache = join(base, 'cache');
    await exportTree(store, await putSpec(store, before), target, { statCache });
    const after = manyFiles(2100, { perDirectory: 2100, size: 10 });
    (after.entries.get('d0') as DirectorySpec).entries.set('f1500', file('changed'));
    const root = await putSpec(store, after);
    for (const cache of [{ statCache }, {}]) {
      const result = await exportTree(store, root, target, { existing: 'update', ...cache });
      expect(result.files).toBeLessThanOrEqual(1);
    }
    expect(describeDirectory(target)).toEqual(describeSpec(after));
  });
});

describe('an interrupted export', () => {
  const exporter = `
    const [home, root, target, existing] = argv;
    const store = await core.openLocalStore(home);
    console.log('begun');
    await core.exportTree(store, core.parseLink(root), target, { existing });
    console.log('done');
    await store.close();`;

  async function killed(
    home: string,
    root: Link,
    target: string,
    existing: string,
    delay: number,
  ): Promise<boolean> {
    const script = startScript(exporter, [home, formatLink(root), target, existing]);
    await script.line('begun');
    await new Promise((resolve) => setTimeout(resolve, delay));
    script.child.kill('SIGKILL');
    const { stdout } = await script.ended;
    return !stdout.includes('done');
  }

  it.each([
    ['to a new directory', 'refuse', 'absent'],
    ['to an empty directory', 'refuse', 'empty'],
    ['in place', 'update', 'filled'],
  ])('%s, repeated, ends right', { timeout: 300_000 }, async (_, existing, state) => {
    const base = await temporaryDirectory();
    const home = join(base, 'home');
    const spec = manyFiles(1500, { size: 500 });
    spec.entries.set('big', file(pseudoRandom(8_000_000, 9)));
    const filling = await temporaryStore({ directory: home });
    const root = await putSpec(filling, spec);
    await filling.close();
    const expected = describeSpec(spec);
    let interrupted = 0;
    for (let round = 0; round < 6; round++) {
      const target = join(base, `target-${round}`);
      if (state === 'empty') fs.mkdirSync(target);
      if (state === 'filled') {
        const other = manyFiles(500, { size: 500, seed: 1 });
        other.entries.set('mine', directory({ x: file('x') }));
        other.entries.set('d3', file('in the way'));
        writeTree(target, other);
      }
      if (await killed(home, root, target, existing, round * 25)) interrupted += 1;
      if (state === 'absent' && fs.existsSync(target)) expect(describeDirectory(target)).toEqual(expected);
      const store = await temporaryStore({ directory: home });
      // One that was done already would be refused.
      const finished =
        state !== 'filled' && fs.existsSync(join(target, 'big')) && litter(target).length === 0;
      if (!finished) await exportTree(store, root, target, { existing: existing as 'refuse' | 'update' });
      await store.close();
      expect(describeDirectory(target)).toEqual(expected);
      expect(litter(target)).toEqual([]);
    }
    expect(interrupted).toBeGreaterThan(2);
  });
});

describe('what an interrupted export left in an empty directory', () => {
  async function interrupted(...entries: [string, TreeNode][]) {
    const store = await temporaryStore();
    const root = await putSpec(store, sample());
    const target = join(await temporaryDirectory(), 'target');
    writeTree(target, directory([['staging', directory({ z: file('partly') })], ...entries]));
    const inode = fs.statSync(join(target, 'staging')).ino;
    const name = (text: string) => fs.renameSync(join(target, 'staging'), join(target, text));
    return { store, root, target, inode, name };
  }

  it('is cleared away', async () => {
    const { store, root, target, inode, name } = await interrupted();
    name(`.lazytree-partial-${inode}`);
    fs.mkdirSync(join(target, '.lazytree-partial-new-0123456789abcdef'));
    await exportTree(store, root, target);
    expect(describeDirectory(target)).toEqual(describeSpec(sample()));
  });

  it('is taken up where it was moving what it wrote to its place', async () => {
    const { store, root, target, inode, name } = await interrupted(['README.md', file('# sam')]);
    name(`.lazytree-moving-${formatLink(root)}-${inode}`);
    await exportTree(store, root, target);
    expect(describeDirectory(target)).toEqual(describeSpec(sample()));
  });

  it('does not make room for an export over what the user has put there since', async () => {
    const { store, root, target, inode, name } = await interrupted(['README.md', file('mine')]);
    for (const text of [`.lazytree-partial-${inode}`, `.lazytree-moving-${'b'.repeat(59)}-${inode}`]) {
      name(text);
      const before = stamps(target);
      expect(await errorOf(exportTree(store, root, target))).toMatchObject({ code: 'NOT_EMPTY' });
      expect(stamps(target)).toEqual(before);
      fs.renameSync(join(target, text), join(target, 'staging'));
    }
  });
});

describe('a hostile tree', () => {
  const cid = (link: Link) => linkToCid(link);
  const evil = block('evil');

  async function raw(...entries: unknown[][]) {
    const store = createMemoryStore();
    await store.put(evil);
    const bytes = dagCbor.encode({ dir: entries, size: 4 * entries.length, files: entries.length });
    const root = linkTo(DAG_CBOR, bytes);
    await store.put({ link: root, bytes });
    return { store, root };
  }

  it.each(['..', '.', '../evil', '/tmp/lazytree-evil', 'a/b', 'a\0b', ''])(
    'with the name %j is no tree',
    async (name) => {
      const { store, root } = await raw([name, 0, cid(evil.link), 4]);
      const base = await temporaryDirectory();
      expect(await errorOf(exportTree(store, root, join(base, 'deep/er/target')))).toBeInstanceOf(
        LazytreeError,
      );
      fs.mkdirSync(join(base, 'deep'));
      expect(await errorOf(exportTree(store, root, join(base, 'deep/target')))).toMatchObject({
        code: 'INVALID_NODE',
      });
      expect(describeDirectory(base)).toEqual(['deep/']);
      expect(fs.existsSync('/tmp/lazytree-evil')).toBe(false);
    },
  );

  it('with one name twice is no tree', async () => {
    const { store, root } = await raw(['x', 2, '/tmp'], ['x', 0, cid(evil.link), 4]);
    expect(await errorOf(exportTree(store, root, join(await temporaryDirectory(), 't')))).toMatchObject({
      code: 'INVALID_NODE',
    });
  });

  it('with a symlink, then one with files below a directory of that name, never writes where it leads', async () => {
    for (const store of [createMemoryStore(), await temporaryStore()]) {
      const base = await temporaryDirectory();
      const outside = join(base, 'outside');
      fs.mkdirSync(outside);
      fs.writeFileSync(join(outside, 'precious'), 'precious');
      const before = describeDirectory(outside);
      await store.put(evil);
      const inner = await putDirectory(store, [
        {
          kind: 'directory',
          name: 'deep',
          link: await putDirectory(store, [{ kind: 'file', name: 'f', link: evil.link, size: 4 }]),
          size: 4,
          files: 1,
        },
        { kind: 'file', name: 'precious', link: evil.link, size: 4 },
      ]);
      const links = await putDirectory(store, [{ kind: 'symlink', name: 'x', target: outside }]);
      const files = await putDirectory(store, [
        { kind: 'directory', name: 'x', link: inner, size: 8, files: 2 },
      ]);
      for (const existing of ['update', 'force'] as const) {
        for (const statCache of [undefined, join(base, 'cache')]) {
          const target = join(base, `${existing}-${statCache ? 'cached' : 'plain'}`);
          const options = { existing, ...(statCache ? { statCache } : {}) };
          await exportTree(store, links, target, options);
          expect(fs.readlinkSync(join(target, 'x'))).toBe(outside);
          await exportTree(store, files, target, options);
          expect(fs.lstatSync(join(target, 'x')).isDirectory()).toBe(true);
          expect(fs.readFileSync(join(target, 'x/precious'), 'utf8')).toBe('evil');
          expect(describeDirectory(outside)).toEqual(before);
          await exportTree(store, links, target, options);
          expect(describeDirectory(outside)).toEqual(before);
        }
      }
    }
  });

  it('never writes through symlinks that stand in the target, in place of files or directories', async () => {
    const store = await temporaryStore();
    const root = await putSpec(store, sample());
    for (const existing of ['update', 'force'] as const) {
      const base = await temporaryDirectory();
      const outside = join(base, 'outside');
      writeTree(
        outside,
        directory({
          run: file('precious'),
          er: directory({ est: directory({ f: file('precious') }) }),
          'README.md': file('precious'),
        }),
      );
      const before = describeDirectory(outside, { metadata: true });
      const target = join(base, 'target');
      writeTree(
        target,
        directory({
          bin: symlink(outside),
          deep: symlink('../outside'),
          'README.md': symlink('../outside/README.md'),
          empty: symlink('../outside/new'),
          large: symlink('../new-file'),
        }),
      );
      await exportTree(store, root, target, { existing });
      expect(describeDirectory(target)).toEqual(describeSpec(sample()));
      expect(describeDirectory(outside, { metadata: true })).toEqual(before);
      expect(fs.readdirSync(base).sort()).toEqual(['outside', 'target']);
    }
  });

  it('whose staging names are taken by symlinks does not write where they lead', async () => {
    const store = await temporaryStore();
    const root = await putSpec(store, sample());
    const base = await temporaryDirectory();
    const outside = join(base, 'outside');
    writeTree(outside, directory({ precious: file('precious') }));
    const before = describeDirectory(outside);
    fs.mkdirSync(join(base, 'target'));
    fs.symlinkSync(outside, join(base, `target/.lazytree-partial-${formatLink(root)}`));
    fs.symlinkSync(outside, join(base, '.other.lazytree-partial-staging'));
    await exportTree(store, root, join(base, 'target')).catch(() => undefined);
    await exportTree(store, root, join(base, 'other'));
    expect(describeDirectory(outside)).toEqual(before);
    expect(describeDirectory(join(base, 'other'))).toEqual(describeSpec(sample()));
  });

  it('names of ours in a tree are names like others', async () => {
    const store = await temporaryStore();
    const spec = directory({
      '.lazytree-partial-x': file('a'),
      '.lazytree-0123456789abcdef': directory({ f: file('b') }),
      z: file('z'),
    });
    const root = await putSpec(store, spec);
    const target = join(await temporaryDirectory(), 'target');
    await exportTree(store, root, target);
    expect(describeDirectory(target)).toEqual(describeSpec(spec));
    const before = stamps(target);
    await exportTree(store, root, target, { existing: 'update' });
    expect(describeDirectory(target)).toEqual(describeSpec(spec));
    expect(stamps(target)).toEqual(before);
  });

  it('a directory with a name of ours, in a target that is otherwise empty, is not taken for ours', async () => {
    const store = await temporaryStore();
    const root = await putSpec(store, directory({ a: file('a') }));
    const base = await temporaryDirectory();
    for (const name of [
      `.lazytree-partial-${formatLink(root)}`,
      '.lazytree-partial-12345',
      `.lazytree-moving-${formatLink(root)}-12345`,
      '.lazytree-partial-new-0123456789abcdef',
    ]) {
      const target = join(base, name.slice(0, 30));
      writeTree(target, directory({ [name]: directory({ mine: file('mine') }) }));
      const before = stamps(target);
      expect(await errorOf(exportTree(store, root, target))).toMatchObject({ code: 'NOT_EMPTY' });
      expect(stamps(target)).toEqual(before);
      await exportTree(store, root, target, { existing: 'force' });
      expect(fs.readFileSync(join(target, name, 'mine'), 'utf8')).toBe('mine');
      fs.rmSync(target, { recursive: true });
    }
  });

  it('names that differ in case only do not overwrite one another where case does not matter', async ({
    skip,
  }) => {
    const image = join(await temporaryDirectory(), 'image');
    const mount = await temporaryDirectory();
    const make = [
      ['mkfs.vfat', '-C', image, '16384'],
      ['mkfs.ext4', '-q', '-O', 'casefold', image, '16m'],
    ];
    const made = make.find(([program, ...args]) => {
      fs.rmSync(image, { force: true });
      return (
        spawnSync(program, args).status === 0 && spawnSync('mount', ['-o', 'loop', image, mount]).status === 0
      );
    });
    if (!made)
      return skip(
        'NOT TESTED: this machine can mount neither vfat nor ext4 with casefold (see dmesg, needs root)',
      );
    afterwards(() => spawnSync('umount', [mount]));
    if (made[0] === 'mkfs.ext4') {
      fs.mkdirSync(join(mount, 'fold'));
      if (spawnSync('chattr', ['+F', join(mount, 'fold')]).status !== 0)
        return skip('NOT TESTED: no casefold directory');
    } else fs.mkdirSync(join(mount, 'fold'));
    const store = await temporaryStore();
    const root = await putSpec(
      store,
      directory({ A: directory({ x: file('upper') }), a: symlink('/tmp'), B: file('B'), b: file('b') }),
    );
    for (const existing of ['refuse', 'update', 'force'] as const) {
      const target = join(mount, 'fold', existing);
      fs.mkdirSync(target);
      if (existing !== 'refuse') fs.writeFileSync(join(target, 'z'), 'z');
      expect(await errorOf(exportTree(store, root, target, { existing }))).toMatchObject({ code: 'FAILED' });
    }
    expect(fs.existsSync('/tmp/x')).toBe(false);
  });
});

it('a sharded directory, and a file of several levels', async () => {
  const store = await temporaryStore();
  const spec = manyFiles(2500, { perDirectory: 2500, size: 5 });
  const target = join(await temporaryDirectory(), 'target');
  const root = await putSpec(store, spec);
  await exportTree(store, root, target);
  expect(describeDirectory(target)).toEqual(describeSpec(spec));
  expect((await listDirectory(store, root)).length).toBe(1);
});

it('a target whose name is as long as a name can be', async () => {
  const store = await temporaryStore();
  const root = await putSpec(store, directory({ a: file('a') }));
  const base = await temporaryDirectory();
  for (const name of ['x'.repeat(255), '日'.repeat(85), '😀'.repeat(63)]) {
    await exportTree(store, root, join(base, name));
    expect(fs.readFileSync(join(base, name, 'a'), 'utf8')).toBe('a');
  }
});

it('blocks that come meanwhile are waited for, and read by nobody but who writes them', async () => {
  const store = await temporaryStore();
  const elsewhere = createMemoryStore();
  const files = Array.from({ length: 200 }, (_, i) => block(`content ${i}`));
  const root = await putDirectory(
    store,
    files.map(({ link, bytes }, i) => ({
      kind: 'file',
      name: `${i}`.padStart(3, '0'),
      link,
      size: bytes.length,
    })),
  );
  for (const { link, bytes } of files) await elsewhere.put({ link, bytes });
  await store.flush();
  const read: Link[] = [];
  const arriving: LocalStore = {
    ...store,
    async has(link) {
      if (!store.holds(linkDigest(link))) await store.put({ link, bytes: await elsewhere.get(link) });
      return true;
    },
    async get(link, options) {
      read.push(link);
      return store.get(link, options);
    },
  };
  const target = join(await temporaryDirectory(), 'out');
  const { files: written } = await exportTree(arriving, root, target);
  expect(written).toBe(200);
  expect(fs.readFileSync(join(target, '123'), 'utf8')).toBe('content 123');
  expect(read.filter((link) => linkCodec(link) === RAW)).toEqual([]);
});

it('what has been appended and cannot be committed, the disk being full', async () => {
  const store = await temporaryStore();
  const spec = manyFiles(300);
  const root = await putSpec(store, spec);
  const full: LocalStore = {
    ...store,
    flush: () => Promise.reject(new LazytreeError('NO_SPACE', 'the index: no space left on the device')),
  };
  const target = join(await temporaryDirectory(), 'out');
  await exportTree(full, root, target);
  expect(describeDirectory(target)).toEqual(describeSpec(spec));
});

it('two exports at once to places beside one another', async () => {
  const store = await temporaryStore();
  const spec = manyFiles(300);
  const root = await putSpec(store, spec);
  const base = await temporaryDirectory();
  const targets = ['a', 'b', `${'x'.repeat(120)}1`, `${'x'.repeat(120)}2`].map((name) => join(base, name));
  await Promise.all(targets.map((target) => exportTree(store, root, target)));
  for (const target of targets) expect(describeDirectory(target)).toEqual(describeSpec(spec));
});

it('a target whose own path is not UTF-8', async () => {
  const store = await temporaryStore();
  const root = await putSpec(store, directory({ a: file('a') }));
  const target = `${await temporaryDirectory()}/\udcff`;
  await exportTree(store, root, target);
  expect(fs.existsSync(toFsPath(`${target}/a`))).toBe(true);
  await exportTree(store, root, target, { existing: 'update' });
  expect(describeDirectory(target)).toHaveLength(1);
  expect(linkTo(RAW, fs.readFileSync(toFsPath(`${target}/a`)))).toBe(block('a').link);
});
