import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import {
  createMemoryStore,
  type Entry,
  encodeDirectory,
  formatLink,
  type ImportOptions,
  importTree,
  LazytreeError,
  type Link,
  linkTo,
  listDirectory,
  RAW,
  readFile,
  resolvePath,
  toFsPath,
  verifyTree,
  walkTree,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  collect,
  type DirectorySpec,
  directory,
  errorOf,
  FAST,
  file,
  manyFiles,
  pseudoRandom,
  runScript,
  shuffled,
  startScript,
  symlink,
  temporaryDirectory,
  temporaryStore,
  treeArbitrary,
  writeTree,
} from './helpers.js';

/** Longer than the time for which a change can hide behind an equal time stamp. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 60));

async function write(spec: DirectorySpec, order?: (names: string[]) => string[]): Promise<string> {
  const source = join(await temporaryDirectory(), 'source');
  writeTree(source, spec, order);
  return source;
}

async function rootOf(source: string, options: ImportOptions = {}): Promise<Link> {
  return (await importTree(createMemoryStore(), source, options)).root;
}

/** The entries of a tree as `path kind`, sorted by path. */
async function pathsOf(store: ReturnType<typeof createMemoryStore>, root: Link): Promise<string[]> {
  const walked = await collect(walkTree(store, root));
  return walked.map(({ path, entry }) => (entry.kind === 'directory' ? `${path}/` : path));
}

async function importedPaths(source: string, options: ImportOptions = {}): Promise<string[]> {
  const store = createMemoryStore();
  const { root } = await importTree(store, source, options);
  return pathsOf(store, root);
}

async function contentOf(
  store: ReturnType<typeof createMemoryStore>,
  root: Link,
  path: string,
): Promise<Buffer> {
  const entry = await resolvePath(store, root, path);
  if (!('size' in entry)) throw new Error(`${path} is a ${entry.kind}`);
  return Buffer.concat(await collect(readFile(store, entry)));
}

/** Up to 128 files are read without threads. */
const mixed = (count = 60) =>
  directory({
    'README.md': file('# mixed\n'),
    empty: directory(),
    bin: directory({ run: file('#!/bin/sh\n', true), 'run-link': symlink('run') }),
    data: directory({
      zero: file(''),
      one: file('x'),
      '16K': file(pseudoRandom(16384, 1)),
      '64K': file(pseudoRandom(65536, 2)),
      '256K': file(pseudoRandom(262_144, 3)),
      '256K+1': file(pseudoRandom(262_145, 4)),
      '3M': file(pseudoRandom(3_000_000, 5)),
      zeros: file(Buffer.alloc(1_000_000)),
    }),
    many: manyFiles(count, { perDirectory: 10, size: 50 }),
    dangling: symlink('/nowhere/at/all'),
    up: symlink('../..'),
    '\udcff\udcfe': file('not UTF-8'),
    'caf\udce9': directory({ 日本: symlink('\udce9') }),
  });

describe('the same tree gives the same root', () => {
  it('from any order of creation, any number of threads, with and without a cache, into any store', async () => {
    const names = (seed: number) => (list: string[]) => shuffled(list, seed);
    const first = await write(mixed(300));
    const root = await rootOf(first);
    for (const seed of [1, 2]) expect(await rootOf(await write(mixed(300), names(seed)))).toBe(root);
    for (const threads of [1, 2, 3]) expect(await rootOf(first, { threads })).toBe(root);
    const statCache = join(await temporaryDirectory(), 'cache');
    for (let i = 0; i < 3; i++) expect(await rootOf(first, { statCache })).toBe(root);
    const local = await temporaryStore({ segmentBytes: 1 << 20 });
    for (let i = 0; i < 2; i++) expect((await importTree(local, first, { statCache })).root).toBe(root);
    expect((await verifyTree(local, { link: root, name: '' })).bad).toEqual([]);
  });

  it('and the root is the one that the format gives', async () => {
    const source = await write(
      directory({ a: file('hello'), d: directory({ x: file('', true) }), l: symlink('a') }),
    );
    const inner = encodeDirectory([
      { kind: 'executable', name: 'x', link: linkTo(RAW, Buffer.alloc(0)), size: 0 },
    ]);
    const expected = encodeDirectory([
      { kind: 'file', name: 'a', link: linkTo(RAW, Buffer.from('hello')), size: 5 },
      { kind: 'directory', name: 'd', link: inner.link, size: 0, files: 1 },
      { kind: 'symlink', name: 'l', target: 'a' },
    ]);
    const result = await importTree(createMemoryStore(), source);
    expect(formatLink(result.root)).toBe(formatLink(expected.link));
    expect(result).toMatchObject({ size: 5, files: 2, read: 2, warnings: [] });
    expect(result.added.blocks).toBe(4);
  });

  it('whatever the times, owners, umask and modes but for the executable bit of the owner', async () => {
    const source = await write(directory({ d: directory({ f: file('x') }), g: file('y', true) }));
    const root = await rootOf(source);
    fs.utimesSync(join(source, 'd/f'), 1, 1);
    fs.utimesSync(join(source, 'd'), 2, 2);
    fs.chmodSync(join(source, 'd/f'), 0o460);
    fs.chmodSync(join(source, 'd'), 0o700);
    fs.chmodSync(join(source, 'g'), 0o700);
    expect(await rootOf(source)).toBe(root);
    fs.chmodSync(join(source, 'd/f'), 0o654);
    expect(await rootOf(source)).toBe(root);
    fs.chmodSync(join(source, 'd/f'), 0o744);
    expect(await rootOf(source)).not.toBe(root);
  });

  it('for random trees, and every byte is there', async () => {
    const base = await temporaryDirectory();
    let count = 0;
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), async (spec) => {
        const source = join(base, String(count++));
        writeTree(source, spec);
        const store = createMemoryStore();
        const { root, files, size } = await importTree(store, source);
        expect((await verifyTree(store, { link: root, name: '' })).bad).toEqual([]);
        expect(await rootOf(source, { threads: 1 })).toBe(root);
        let expected = { files: 0, size: 0 };
        const visit = async (node: DirectorySpec, prefix: string): Promise<void> => {
          for (const [name, entry] of node.entries) {
            const path = prefix + name;
            if (entry.kind === 'directory') await visit(entry, `${path}/`);
            if (entry.kind !== 'file') continue;
            expected = { files: expected.files + 1, size: expected.size + entry.content.length };
            expect((await contentOf(store, root, path)).equals(entry.content)).toBe(true);
          }
        };
        await visit(spec, '');
        expect({ files, size }).toEqual(expected);
      }),
      { numRuns: 25 },
    );
  });
});

describe('what is in a tree', () => {
  it('executables, symlinks, empty directories and odd names', async () => {
    const source = await write(mixed());
    const store = createMemoryStore();
    const { root } = await importTree(store, source);
    const at = (path: string): Promise<Entry> => resolvePath(store, root, path);
    expect(await at('bin/run')).toMatchObject({ kind: 'executable', size: 10 });
    expect(await at('bin/run-link')).toMatchObject({ kind: 'symlink', target: 'run' });
    expect(await at('dangling')).toMatchObject({ kind: 'symlink', target: '/nowhere/at/all' });
    expect(await at('empty')).toMatchObject({ kind: 'directory', size: 0, files: 0 });
    expect(await at('\udcff\udcfe')).toMatchObject({ kind: 'file', size: 9 });
    expect(await at('caf\udce9/日本')).toMatchObject({ kind: 'symlink', target: '\udce9' });
    for (const [path, size, seed] of [
      ['16K', 16384, 1],
      ['64K', 65536, 2],
      ['256K', 262_144, 3],
      ['256K+1', 262_145, 4],
      ['3M', 3e6, 5],
    ] as const) {
      expect((await contentOf(store, root, `data/${path}`)).equals(pseudoRandom(size, seed))).toBe(true);
    }
    expect((await contentOf(store, root, 'data/zeros')).equals(Buffer.alloc(1_000_000))).toBe(true);
  });

  it('nothing that a symlink leads to', async () => {
    const outside = await write(directory({ secret: file('secret') }));
    const source = await write(
      directory({ out: symlink(outside), self: symlink('.'), file: symlink(`${outside}/secret`) }),
    );
    expect(await importedPaths(source)).toEqual(['file', 'out', 'self']);
  });

  it('although the path to it is one', async () => {
    const source = await write(directory({ a: file('a') }));
    const link = join(await temporaryDirectory(), 'link');
    fs.symlinkSync(source, link);
    expect(await rootOf(link)).toBe(await rootOf(source));
    expect(await rootOf(`${link}/`)).toBe(await rootOf(source));
  });

  it('special files are left out, with a warning', async () => {
    const source = await write(directory({ a: file('a'), d: directory() }));
    execFileSync('mkfifo', [join(source, 'fifo'), join(source, 'd/fifo')]);
    const server = createServer().listen(join(source, 'socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    const seen: string[] = [];
    const store = createMemoryStore();
    const { root, warnings } = await importTree(store, source, { onWarning: ({ path }) => seen.push(path) });
    server.close();
    expect(await pathsOf(store, root)).toEqual(['a', 'd/']);
    expect(warnings.map(({ path, kind }) => `${path} ${kind}`).sort()).toEqual([
      'd/fifo special',
      'fifo special',
      'socket special',
    ]);
    expect(warnings.find(({ path }) => path === 'socket')?.message).toMatch(/socket/);
    expect(seen.sort()).toEqual(['d/fifo', 'fifo', 'socket']);
  });

  it('special files are warned of again when nothing has changed', async () => {
    const source = await write(directory({ a: file('a') }));
    execFileSync('mkfifo', [join(source, 'fifo')]);
    await settle();
    const statCache = join(await temporaryDirectory(), 'cache');
    const store = createMemoryStore();
    for (let i = 0; i < 3; i++) {
      const { warnings } = await importTree(store, source, { statCache });
      expect(warnings.map(({ path }) => path)).toEqual(['fifo']);
    }
  });

  it('the store itself is not in it', async () => {
    const source = await write(directory({ a: file('a') }));
    const store = await temporaryStore({ directory: join(source, 'home') });
    await settle();
    const statCache = join(await temporaryDirectory(), 'cache');
    for (let i = 0; i < 3; i++) {
      const { root, warnings } = await importTree(store, source, { statCache });
      expect((await listDirectory(store, root)).map(({ name }) => name)).toEqual(['a']);
      expect(warnings).toMatchObject([{ path: 'home', kind: 'store' }]);
    }
  });

  it('nor when it was opened by another path', async () => {
    const source = await write(directory({ a: file('a') }));
    const link = join(await temporaryDirectory(), 'link');
    fs.symlinkSync(source, link);
    const store = await temporaryStore({ directory: join(link, 'home') });
    const { root } = await importTree(store, source);
    expect((await listDirectory(store, root)).map(({ name }) => name)).toEqual(['a']);
  });

  it('100,000 files of one directory', async () => {
    const source = join(await temporaryDirectory(FAST), 'source');
    fs.mkdirSync(source);
    for (let i = 0; i < 100_000; i++) fs.closeSync(fs.openSync(join(source, `f${i}`), 'w'));
    await settle();
    const store = createMemoryStore();
    const statCache = join(await temporaryDirectory(), 'cache');
    const { root, files } = await importTree(store, source, { statCache });
    expect(files).toBe(100_000);
    const names = (await listDirectory(store, root)).map(({ name }) => name);
    expect(names).toEqual(Array.from({ length: 100_000 }, (_, i) => `f${i}`).sort());
    const again = await importTree(store, source, { statCache });
    expect(again).toMatchObject({ root, read: 0 });
  });

  it('directories nested deeply', async () => {
    const source = join(await temporaryDirectory(), 'source');
    // 300 levels of short names stay within PATH_MAX.
    fs.mkdirSync(join(source, ...Array(300).fill('deep')), { recursive: true });
    fs.writeFileSync(join(source, ...Array(300).fill('deep'), 'f'), 'bottom');
    const store = createMemoryStore();
    const { root } = await importTree(store, source);
    expect((await contentOf(store, root, `${'deep/'.repeat(300)}f`)).toString()).toBe('bottom');
  });
});

describe('ignore files', () => {
  const ignored = (text: string) => file(text);

  it('leave out what they name', async () => {
    const source = await write(
      directory({
        '.lazytreeignore': ignored(
          '*.log\n!keep.log\nbuild/\n/only-top\n# a comment\n\nsub/exact\n**/deep/*.tmp\n\\#literal\n',
        ),
        'a.log': file('x'),
        'keep.log': file('x'),
        build: directory({ out: file('x') }),
        'only-top': file('x'),
        '#literal': file('x'),
        src: directory({
          build: file('a file of that name is kept'),
          'b.log': file('x'),
          'only-top': file('x'),
          deep: directory({ 'x.tmp': file('x'), 'x.txt': file('x') }),
        }),
        sub: directory({ exact: file('x'), other: file('x'), sub: directory({ exact: file('x') }) }),
      }),
    );
    expect(await importedPaths(source)).toEqual([
      '.lazytreeignore',
      'keep.log',
      'src/',
      'src/build',
      'src/deep/',
      'src/deep/x.txt',
      'src/only-top',
      'sub/',
      'sub/other',
      'sub/sub/',
      'sub/sub/exact',
    ]);
    expect(await importedPaths(source, { ignoreFiles: false })).toContain('a.log');
  });

  it('further down have the last word', async () => {
    const source = await write(
      directory({
        '.lazytreeignore': ignored('*.log\nsecret\n'),
        a: directory({
          '.lazytreeignore': ignored('!*.log\n/top\n'),
          'x.log': file('x'),
          top: file('x'),
          b: directory({
            top: file('x'),
            secret: file('x'),
            '.lazytreeignore': ignored('!secret\nx.log\n'),
            'x.log': file('x'),
          }),
        }),
      }),
    );
    expect(await importedPaths(source)).toEqual([
      '.lazytreeignore',
      'a/',
      'a/.lazytreeignore',
      'a/b/',
      'a/b/.lazytreeignore',
      'a/b/secret',
      'a/b/top',
      'a/x.log',
    ]);
  });

  it('that change are followed, with a cache too', async () => {
    const source = await write(
      directory({
        '.lazytreeignore': ignored('*.a\n'),
        d: directory({ 'x.a': file('a'), 'x.b': file('b') }),
      }),
    );
    const statCache = join(await temporaryDirectory(), 'cache');
    const paths = () => importedPaths(source, { statCache });
    await settle();
    await paths();
    expect(await paths()).toEqual(['.lazytreeignore', 'd/', 'd/x.b']);
    fs.writeFileSync(join(source, '.lazytreeignore'), '*.b\n');
    expect(await paths()).toEqual(['.lazytreeignore', 'd/', 'd/x.a']);
    await settle();
    await paths();
    fs.writeFileSync(join(source, 'd/.lazytreeignore'), '*\n');
    expect(await paths()).toEqual(['.lazytreeignore', 'd/']);
    fs.rmSync(join(source, 'd/.lazytreeignore'));
    fs.rmSync(join(source, '.lazytreeignore'));
    expect(await paths()).toEqual(['d/', 'd/x.a', 'd/x.b']);
  });

  it('may be no file at all', async () => {
    const source = await write(directory({ '.lazytreeignore': directory({ x: file('x') }), y: file('y') }));
    expect(await importedPaths(source)).toEqual(['.lazytreeignore/', '.lazytreeignore/x', 'y']);
    const dangling = await write(directory({ '.lazytreeignore': symlink('nowhere'), y: file('y') }));
    expect(await importedPaths(dangling)).toEqual(['.lazytreeignore', 'y']);
  });

  it('that are symlinks are not followed', async () => {
    const outside = await write(directory({ rules: file('y\n') }));
    const source = await write(directory({ '.lazytreeignore': symlink(`${outside}/rules`), y: file('y') }));
    expect(await importedPaths(source)).toEqual(['.lazytreeignore', 'y']);
  });

  it('that are named pipes do not hold anything up', async () => {
    const source = await write(directory({ y: file('y') }));
    execFileSync('mkfifo', [join(source, '.lazytreeignore')]);
    const { status, stdout } = spawnSync(
      process.execPath,
      [
        '--input-type=module',
        '--eval',
        `const core = await import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)});
         const { files } = await core.importTree(core.createMemoryStore(), process.argv[1]);
         console.log(files);`,
        source,
      ],
      { timeout: 10_000, killSignal: 'SIGKILL', encoding: 'utf8' },
    );
    expect({ status, stdout }).toEqual({ status: 0, stdout: '1\n' });
  });

  it('that name themselves are followed when they change, in large trees too', async () => {
    const source = join(await temporaryDirectory(FAST), 'source');
    writeTree(source, manyFiles(4500, { size: 10 }));
    const rules = join(source, 'd3/.lazytreeignore');
    fs.writeFileSync(rules, '.lazytreeignore\nf30*\n');
    const statCache = join(await temporaryDirectory(), 'cache');
    const store = createMemoryStore();
    const run = (options: ImportOptions = {}) => importTree(store, source, { statCache, ...options });
    await settle();
    for (let i = 0; i < 2; i++) expect((await run()).files).toBe(4490);
    fs.writeFileSync(rules, '.lazytreeignore\nf300\n');
    expect((await run()).files).toBe(4499);
    expect((await run({ ignoreFiles: false })).files).toBe(4501);
    expect((await run()).files).toBe(4499);
  });

  it('do what git does with the same rules', { timeout: 240_000 }, async ({ skip }) => {
    if (spawnSync('git', ['--version']).status !== 0) return skip('no git to compare with');
    const base = await temporaryDirectory();
    const rule = fc.constantFrom(
      'a',
      'b',
      'a/',
      'b/',
      '/a',
      '/b/',
      'a/b',
      'a/*',
      '*',
      '*/',
      '**/b',
      'a/**',
      '!a',
      '!b',
      '!a/',
      '!b/',
      '!a/b',
      '!*/',
      '*.x',
      '!c.x',
      '/*',
      '!/c.x',
      'a/**/b',
      ' ',
      '#a',
      'c?x',
      '[bc]*',
    );
    const rules = fc.option(fc.array(rule, { minLength: 1, maxLength: 4 }), { nil: undefined });
    const names = ['a', 'b', 'c.x'];
    const tree = (depth: number): fc.Arbitrary<DirectorySpec> =>
      fc
        .tuple(
          rules,
          fc.tuple(
            ...names.map(() =>
              depth === 0 ? fc.constant(undefined) : fc.option(tree(depth - 1), { nil: undefined, freq: 2 }),
            ),
          ),
        )
        .map(([lines, below]) => {
          const entries = names.map((name, i): [string, DirectorySpec | ReturnType<typeof file>] => [
            name,
            below[i] ?? file(name),
          ]);
          if (lines) entries.push(['.lazytreeignore', file(`${lines.join('\n')}\n`)]);
          return directory(entries);
        });
    let count = 0;
    await fc.assert(
      fc.asyncProperty(tree(3), async (spec) => {
        const source = join(base, String(count++));
        writeTree(source, spec);
        const ours = (await importedPaths(source)).filter((path) => !path.endsWith('/'));
        execFileSync('git', ['init', '-q', source]);
        const listed = execFileSync('git', ['ls-files', '-o', '--exclude-per-directory=.lazytreeignore'], {
          cwd: source,
          encoding: 'utf8',
        });
        const rulesOf = spawnSync('grep', ['-r', '', '--include=.lazytreeignore', '.'], {
          cwd: source,
          encoding: 'utf8',
        }).stdout;
        expect(ours.sort(), rulesOf).toEqual(listed.split('\n').filter(Boolean).sort());
      }),
      { numRuns: 150 },
    );
  });
});

describe('an import with a cache', () => {
  async function prepared(spec: DirectorySpec = mixed(), options: ImportOptions = {}) {
    const source = await write(spec);
    const statCache = join(await temporaryDirectory(), 'cache');
    const store = createMemoryStore();
    await settle();
    const run = (more: ImportOptions = {}) => importTree(store, source, { statCache, ...options, ...more });
    await run();
    return { source, store, run, statCache };
  }
  const fresh = (source: string, options: ImportOptions = {}) => rootOf(source, options);

  it('reads nothing when nothing has changed', async () => {
    const { run, source } = await prepared();
    const first = await run();
    expect(first.read).toBe(0);
    expect(first.root).toBe(await fresh(source));
    expect(first.added.blocks).toBe(0);
    expect(await run()).toMatchObject({ read: 0, root: first.root, files: first.files, size: first.size });
  });

  it('reads the one file that has changed', async () => {
    const { run, source } = await prepared();
    fs.appendFileSync(join(source, 'many/d3/f33'), 'more');
    const result = await run();
    expect(result.read).toBe(1);
    expect(result.root).toBe(await fresh(source));
  });

  it.each<[string, (source: string) => void]>([
    ['a file added', (source) => fs.writeFileSync(join(source, 'bin/new'), 'new')],
    ['a file removed', (source) => fs.rmSync(join(source, 'bin/run'))],
    ['a file renamed', (source) => fs.renameSync(join(source, 'bin/run'), join(source, 'bin/ran'))],
    ['a directory renamed', (source) => fs.renameSync(join(source, 'many/d1'), join(source, 'many/d99'))],
    [
      'two files swapped',
      (source) => {
        fs.renameSync(join(source, 'many/d1/f14'), join(source, 'x'));
        fs.renameSync(join(source, 'many/d1/f15'), join(source, 'many/d1/f14'));
        fs.renameSync(join(source, 'x'), join(source, 'many/d1/f15'));
      },
    ],
    ['a directory emptied', (source) => fs.rmSync(join(source, 'many/d2'), { recursive: true })],
    ['an empty directory added', (source) => fs.mkdirSync(join(source, 'many/empty'))],
    ['a file made executable', (source) => fs.chmodSync(join(source, 'README.md'), 0o755)],
    ['a file no longer executable', (source) => fs.chmodSync(join(source, 'bin/run'), 0o644)],
    [
      'a symlink turned',
      (source) => {
        fs.rmSync(join(source, 'up'));
        fs.symlinkSync('elsewhere', join(source, 'up'));
      },
    ],
    [
      'a file turned symlink',
      (source) => {
        fs.rmSync(join(source, 'README.md'));
        fs.symlinkSync('data/one', join(source, 'README.md'));
      },
    ],
    [
      'a symlink turned file',
      (source) => {
        fs.rmSync(join(source, 'up'));
        fs.writeFileSync(join(source, 'up'), 'x');
      },
    ],
    [
      'a file turned directory',
      (source) => {
        fs.rmSync(join(source, 'README.md'));
        fs.mkdirSync(join(source, 'README.md'));
      },
    ],
    [
      'a directory turned file',
      (source) => {
        fs.rmSync(join(source, 'many'), { recursive: true });
        fs.writeFileSync(join(source, 'many'), 'x');
      },
    ],
    [
      'a directory turned symlink',
      (source) => {
        fs.renameSync(join(source, 'many'), join(source, 'few'));
        fs.symlinkSync('few', join(source, 'many'));
      },
    ],
    [
      'a file replaced by one of equal size and time',
      (source) => {
        const path = join(source, 'many/d1/f14');
        const { atime, mtime } = fs.statSync(path);
        fs.writeFileSync(join(source, 'draft'), 'y'.repeat(50));
        fs.utimesSync(join(source, 'draft'), atime, mtime);
        fs.renameSync(join(source, 'draft'), path);
      },
    ],
    [
      'a file rewritten in place, its time put back',
      (source) => {
        const path = join(source, 'many/d1/f14');
        const { atime, mtime } = fs.statSync(path);
        fs.writeFileSync(path, 'z'.repeat(50));
        fs.utimesSync(path, atime, mtime);
      },
    ],
    ['a file cut to nothing', (source) => fs.truncateSync(join(source, 'data/3M'))],
    [
      'everything gone',
      (source) => {
        for (const bytes of fs.readdirSync(source, { encoding: 'buffer' })) {
          fs.rmSync(Buffer.concat([Buffer.from(`${source}/`), bytes]), { recursive: true });
        }
      },
    ],
  ])('sees %s', async (_, change) => {
    const { run, source } = await prepared();
    change(source);
    const { root } = await run();
    expect(root).toBe(await fresh(source));
    expect((await run()).root).toBe(root);
  });

  it('sees every one of many quick edits of equal size', async () => {
    const source = await write(directory({ f: file('000') }));
    const statCache = join(await temporaryDirectory(), 'cache');
    const store = createMemoryStore();
    for (let i = 0; i < 50; i++) {
      const content = String(i).padStart(3, '0');
      fs.writeFileSync(join(source, 'f'), content);
      const { root } = await importTree(store, source, { statCache });
      expect((await contentOf(store, root, 'f')).toString()).toBe(content);
    }
  });

  it('sees quick changes of names, targets and modes', async () => {
    const source = await write(directory({ d: directory({ f: file('x') }) }));
    const statCache = join(await temporaryDirectory(), 'cache');
    const store = createMemoryStore();
    for (let i = 0; i < 30; i++) {
      fs.rmSync(join(source, 'd/l'), { force: true });
      fs.symlinkSync(String(i % 10), join(source, 'd/l'));
      fs.chmodSync(join(source, 'd/f'), i % 2 ? 0o755 : 0o644);
      if (i % 3 === 0) fs.mkdirSync(join(source, `e${i}`));
      const { root } = await importTree(store, source, { statCache });
      expect(await resolvePath(store, root, 'd/l')).toMatchObject({ target: String(i % 10) });
      expect((await resolvePath(store, root, 'd/f')).kind).toBe(i % 2 ? 'executable' : 'file');
      if (i % 3 === 0) expect((await resolvePath(store, root, `e${i}`)).kind).toBe('directory');
    }
  });

  it('that is damaged, cut short or of nonsense is as good as none', async () => {
    const { run, source, statCache } = await prepared(
      directory({ a: file('a'), d: directory({ b: file('b') }) }),
    );
    const root = await fresh(source);
    const good = fs.readFileSync(statCache);
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good);
      bad[at] ^= 0x20;
      fs.writeFileSync(statCache, bad);
      expect((await run()).root).toBe(root);
    }
    for (let length = 0; length < good.length; length += 7) {
      fs.writeFileSync(statCache, good.subarray(0, length));
      expect((await run()).root).toBe(root);
    }
    fs.writeFileSync(statCache, pseudoRandom(5000));
    expect((await run()).root).toBe(root);
  });

  it('of another directory does no harm', async () => {
    const { statCache, store } = await prepared();
    const other = await write(directory({ a: file('a'), many: manyFiles(10) }));
    expect((await importTree(store, other, { statCache })).root).toBe(await fresh(other));
  });

  it('from before blocks were deleted is as good as none', async () => {
    const { source, statCache } = await prepared();
    const store = await temporaryStore();
    const run = () => importTree(store, source, { statCache });
    const { files } = await run();
    expect((await run()).read).toBe(0);
    await store.delete([linkTo(RAW, Buffer.from('x'))]);
    expect((await run()).read).toBe(files);
    const { root } = await run();
    expect((await verifyTree(store, { link: root, name: '' })).bad).toEqual([]);
  });

  it('that can be neither read nor written is done without', async () => {
    const source = await write(mixed());
    const root = await rootOf(source);
    const places = await write(directory({ file: file('x'), directory: directory() }));
    execFileSync('mkfifo', [join(places, 'fifo')]);
    for (const place of ['file/below', 'directory', 'fifo']) {
      for (let i = 0; i < 2; i++) expect(await rootOf(source, { statCache: join(places, place) })).toBe(root);
    }
    expect(fs.readdirSync(places).sort()).toEqual(['directory', 'fifo', 'file']);
    expect(fs.lstatSync(join(places, 'fifo')).isFIFO()).toBe(true);
  });

  it('brings back into a store what the store no longer has', async () => {
    const { source, statCache } = await prepared();
    const empty = await temporaryStore();
    const { root } = await importTree(empty, source, { statCache });
    expect((await verifyTree(empty, { link: root, name: '' })).bad).toEqual([]);
  });

  it('keeps what was kept with and without metadata apart', async () => {
    const { run, source } = await prepared();
    const preserved = await run({ preserve: true });
    expect(preserved.root).toBe(await fresh(source, { preserve: true }));
    expect((await run()).root).toBe(await fresh(source));
    expect((await run({ preserve: true })).root).toBe(preserved.root);
  });

  it('and metadata reads nothing when nothing has changed, and sees what has', async () => {
    const { run, source } = await prepared(mixed(), { preserve: true });
    expect(await run()).toMatchObject({ read: 0, root: await fresh(source, { preserve: true }) });
    fs.utimesSync(join(source, 'many/d1'), 5, 5);
    fs.chmodSync(join(source, 'many/d2'), 0o700);
    fs.utimesSync(join(source, 'many/d3/f33'), 7, 7);
    fs.lutimesSync(join(source, 'up'), 9, 9);
    expect((await run()).root).toBe(await fresh(source, { preserve: true }));
  });
});

describe('metadata', () => {
  it('is kept to the nanosecond', async () => {
    const source = await write(directory({ f: file('x'), d: directory({ g: file('y') }), l: symlink('f') }));
    const touch = (path: string, time: string) =>
      execFileSync('touch', ['-h', '-d', time, join(source, path)]);
    fs.chmodSync(join(source, 'f'), 0o4711);
    fs.chmodSync(join(source, 'd'), 0o1750);
    touch('f', '2001-02-03 04:05:06.123456789Z');
    touch('l', '1969-12-31 23:59:59.000000001Z');
    touch('d/g', '1970-01-01 00:00:00Z');
    touch('d', '2030-01-01 00:00:00.999999999Z');
    const store = createMemoryStore();
    const { root } = await importTree(store, source, { preserve: true });
    const [d, f, l] = await listDirectory(store, root);
    expect(f.metadata).toEqual({ mode: 0o711, seconds: 981_173_106, nanoseconds: 123_456_789 });
    expect(l.metadata).toMatchObject({ seconds: -1, nanoseconds: 1 });
    expect(d.metadata).toEqual({ mode: 0o1750, seconds: 1_893_456_000, nanoseconds: 999_999_999 });
    expect((await resolvePath(store, root, 'd/g')).metadata).toMatchObject({
      mode: 0o644,
      seconds: 0,
      nanoseconds: 0,
    });
  });

  it('does not depend on when the root itself was touched', async () => {
    const source = await write(directory({ f: file('x') }));
    const root = await rootOf(source, { preserve: true });
    fs.utimesSync(source, 1, 1);
    expect(await rootOf(source, { preserve: true })).toBe(root);
  });
});

describe('a tree that changes meanwhile', () => {
  it('gives content that was there at one moment, or a warning', async () => {
    const source = await write(directory({ still: file('still') }));
    const path = join(source, 'busy');
    fs.writeFileSync(path, 'a'.repeat(600_000));
    const writer = startScript(
      `const fs = await import('node:fs');
       console.log('writing');
       for (let i = 0; ; i++) fs.writeFileSync(argv[0], String.fromCharCode(97 + (i % 26)).repeat(600_000));`,
      [path],
    );
    await writer.line('writing');
    try {
      for (let i = 0; i < 3; i++) {
        const store = createMemoryStore();
        const { root, warnings } = await importTree(store, source);
        const content = await contentOf(store, root, 'busy');
        // The writer may have been interrupted anywhere, but there never were two letters at once.
        const consistent = content.equals(Buffer.alloc(content.length, content[0]));
        if (!consistent) expect(warnings).toMatchObject([{ path: 'busy', kind: 'unstable' }]);
        expect((await verifyTree(store, { link: root, name: '' })).bad).toEqual([]);
        expect((await contentOf(store, root, 'still')).toString()).toBe('still');
      }
    } finally {
      writer.child.kill('SIGKILL');
      await writer.ended;
    }
  });

  it('is imported although files and directories come and go', async () => {
    const source = await write(manyFiles(400, { perDirectory: 20 }));
    const churn = startScript(
      `const fs = await import('node:fs');
       console.log('churning');
       for (let i = 0; ; i++) {
         const at = argv[0] + '/d' + (i % 20);
         try {
           fs.writeFileSync(at + '/new' + i, 'x');
           fs.rmSync(at + '/new' + (i - 50), { force: true });
           fs.renameSync(at + '/f' + ((i % 20) * 20), at + '/moved');
           fs.symlinkSync('x', at + '/f' + ((i % 20) * 20));
           fs.rmSync(at + '/f' + ((i % 20) * 20));
           fs.renameSync(at + '/moved', at + '/f' + ((i % 20) * 20));
         } catch {}
       }`,
      [source],
    );
    await churn.line('churning');
    const statCache = join(await temporaryDirectory(), 'cache');
    const store = createMemoryStore();
    try {
      for (let i = 0; i < 2; i++) {
        const { root } = await importTree(store, source, i % 2 ? { statCache } : { threads: 2 });
        expect((await verifyTree(store, { link: root, name: '' })).bad).toEqual([]);
      }
    } finally {
      churn.child.kill('SIGKILL');
      await churn.ended;
    }
    const { root } = await importTree(store, source, { statCache });
    expect(root).toBe(await rootOf(source));
  });

  it('is imported although whole directories disappear', async () => {
    const source = await write(manyFiles(200, { perDirectory: 10 }));
    const churn = startScript(
      `const fs = await import('node:fs');
       console.log('churning');
       for (let i = 0; ; i++) {
         const at = argv[0] + '/gone' + (i % 7);
         fs.mkdirSync(at + '/a/b', { recursive: true });
         fs.writeFileSync(at + '/a/b/c', 'x');
         fs.rmSync(at, { recursive: true });
       }`,
      [source],
    );
    await churn.line('churning');
    const store = createMemoryStore();
    const failures: string[] = [];
    try {
      for (let i = 0; i < 15; i++) {
        try {
          const { root } = await importTree(store, source);
          expect((await verifyTree(store, { link: root, name: '' })).bad).toEqual([]);
        } catch (error) {
          failures.push((error as Error).message);
        }
      }
    } finally {
      churn.child.kill('SIGKILL');
      await churn.ended;
    }
    expect(failures).toEqual([]);
  });
});

describe('an import that cannot be', () => {
  it.each([
    ['a missing path', 'nothing', 'NOT_FOUND'],
    ['a path through a file', 'file/below', 'NOT_FOUND'],
    ['a file', 'file', 'USAGE'],
    ['a symlink to nothing', 'dangling', 'NOT_FOUND'],
  ])('%s', async (_, path, code) => {
    const source = await write(directory({ file: file('x'), dangling: symlink('nothing') }));
    const error = await errorOf(importTree(createMemoryStore(), join(source, path)));
    expect(error).toBeInstanceOf(LazytreeError);
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(path);
    expect(error.message).not.toContain('\n');
  });

  it.each(['f', 'd', 'd2/.lazytreeignore'])('%s that may not be read', async (name) => {
    if (process.getuid?.() !== 0) return;
    const source = await write(
      directory({
        f: file('x'),
        d: directory({ g: file('y') }),
        d2: directory({ '.lazytreeignore': file('z') }),
      }),
    );
    for (let at = source; at !== '/tmp' && at !== '/'; at = join(at, '..')) fs.chmodSync(at, 0o755);
    fs.chmodSync(join(source, name), 0o000);
    const output = await runScript(
      `process.setgid(65534); process.setuid(65534);
       try { await core.importTree(core.createMemoryStore(), argv[0]); console.log('imported'); }
       catch (error) { console.log(error.code, error.message); }`,
      [source],
    );
    expect(output).toMatch(/^REFUSED /);
    expect(output).toContain(join(source, name));
    fs.chmodSync(join(source, name), 0o755);
  });

  it('one that is called off leaves a store that works', async () => {
    const source = await write(manyFiles(600, { size: 3000 }));
    fs.writeFileSync(join(source, 'big'), pseudoRandom(20 << 20));
    const store = await temporaryStore();
    const reason = new Error('enough');
    expect(await errorOf(importTree(store, source, { signal: AbortSignal.abort(reason) }))).toBe(reason);
    for (const after of [1, 100, 400]) {
      const controller = new AbortController();
      const task = importTree(store, source, {
        signal: controller.signal,
        onProgress: ({ files }) => files >= after && controller.abort(reason),
      });
      expect(await errorOf(task)).toBe(reason);
    }
    const { root } = await importTree(store, source);
    expect(root).toBe(await rootOf(source));
    expect((await verifyTree(store, { link: root, name: '' })).bad).toEqual([]);
  });

  it('one that is called off before it begins does nothing, even to an empty directory', async () => {
    const source = await write(directory());
    const store = createMemoryStore();
    const reason = new Error('enough');
    expect(await errorOf(importTree(store, source, { signal: AbortSignal.abort(reason) }))).toBe(reason);
  });

  it('one whose store fails fails as the store does, and the cache stays as it was', async () => {
    const source = await write(manyFiles(300));
    const statCache = join(await temporaryDirectory(), 'cache');
    const memory = createMemoryStore();
    await importTree(memory, source, { statCache });
    const cache = fs.readFileSync(statCache);
    fs.writeFileSync(join(source, 'new'), 'new');
    const failing = {
      ...memory,
      put: async () => {
        throw new LazytreeError('NO_SPACE', 'the store is full');
      },
    };
    expect(await errorOf(importTree(failing, source, { statCache }))).toMatchObject({ code: 'NO_SPACE' });
    expect(fs.readFileSync(statCache).equals(cache)).toBe(true);
    expect(fs.readdirSync(join(statCache, '..'))).toEqual(['cache']);
  });

  it.each([5, 300])('%d files into a store whose errors look like those of files', async (count) => {
    const source = await write(manyFiles(count));
    const error = Object.assign(new Error('no such bucket'), { code: 'ENOENT' });
    const put = () => Promise.reject(error);
    expect(await errorOf(importTree({ ...createMemoryStore(), put }, source))).toBe(error);
  });

  it.each(['', '/segments'])('the store itself%s', async (below) => {
    const store = await temporaryStore();
    const link = join(await temporaryDirectory(), 'link');
    fs.symlinkSync(store.directory, link);
    expect(await errorOf(importTree(store, link + below))).toMatchObject({ code: 'USAGE' });
  });

  it('of the store into itself does not fill the disk', async () => {
    const home = join(await temporaryDirectory(), 'home');
    const script = startScript(
      `const store = await core.openLocalStore(argv[0]);
       for (let i = 0; i < 20; i++) await store.put({ link: core.linkTo(core.RAW, Buffer.alloc(100_000, i)), bytes: Buffer.alloc(100_000, i) });
       const { randomBytes } = await import('node:crypto');
       for (let i = 0; i < 20; i++) { const bytes = randomBytes(100_000); await store.put({ link: core.linkTo(core.RAW, bytes), bytes }); }
       await store.flush();
       setInterval(() => { if (process.memoryUsage().rss > 1e9) process.exit(3); }, 100).unref();
       const outcome = await core.importTree(store, argv[0]).then(() => 'imported', (error) => error.code);
       console.log(outcome);
       await store.close();`,
      [home],
    );
    const watch = setInterval(() => {
      const size = Number(spawnSync('du', ['-sm', home], { encoding: 'utf8' }).stdout.split('\t')[0]);
      if (size > 300) script.child.kill('SIGKILL');
    }, 100);
    const { stdout, signal } = await script.ended;
    clearInterval(watch);
    expect(signal, 'it grew beyond 300 MB').toBe(null);
    expect(stdout).toMatch(/^(imported|REFUSED|USAGE)\n$/);
  });
});

describe('two imports at once', () => {
  it('into one store give what they give alone', async () => {
    const source = await write(manyFiles(300));
    const other = await write(manyFiles(300, { seed: 1 }));
    const store = await temporaryStore();
    const results = await Promise.all([source, source, other].map((path) => importTree(store, path)));
    const expected = [await rootOf(source), await rootOf(source), await rootOf(other)];
    expect(results.map(({ root }) => root)).toEqual(expected);
    for (const root of expected) expect((await verifyTree(store, { link: root, name: '' })).bad).toEqual([]);
  });

  it('with one cache do not disturb one another', async () => {
    const source = await write(manyFiles(300));
    const other = await write(manyFiles(200, { seed: 1 }));
    const statCache = join(await temporaryDirectory(), 'cache');
    await settle();
    for (let i = 0; i < 3; i++) {
      const paths = [source, other, source];
      const results = await Promise.all(
        paths.map((path) => importTree(createMemoryStore(), path, { statCache })),
      );
      expect(results.map(({ root }) => root)).toEqual(await Promise.all(paths.map((path) => rootOf(path))));
    }
    expect(fs.readdirSync(join(statCache, '..'))).toEqual(['cache']);
    expect((await importTree(createMemoryStore(), source, { statCache })).root).toBe(await rootOf(source));
  });
});

it('an import by a program that is given on the command line', async () => {
  const source = await write(manyFiles(300));
  const core = JSON.stringify(new URL('../dist/index.js', import.meta.url).href);
  const program = `const { importTree, createMemoryStore } = await import(${core});
    console.log((await importTree(createMemoryStore(), process.argv[1])).files);`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program, source], {
    encoding: 'utf8',
  });
  expect({ stdout, stderr }).toEqual({ stdout: '300\n', stderr: '' });
});

describe('progress', () => {
  it('only grows, and ends with what was imported', async () => {
    const source = await write(mixed());
    const seen: { files: number; bytes: number; found: number }[] = [];
    const { files, size } = await importTree(createMemoryStore(), source, {
      onProgress: (progress) => seen.push({ ...progress }),
    });
    for (let i = 1; i < seen.length; i++) {
      expect(seen[i].files).toBeGreaterThanOrEqual(seen[i - 1].files);
      expect(seen[i].bytes).toBeGreaterThanOrEqual(seen[i - 1].bytes);
      expect(seen[i].files).toBeLessThanOrEqual(seen[i].found);
    }
    expect(seen.at(-1)).toEqual({ files, bytes: size, found: files });
  });
});

it('a source whose own path is not UTF-8', async () => {
  const base = await temporaryDirectory();
  const source = `${base}/\udcff`;
  writeTree(source, directory({ a: file('a') }));
  expect(fs.existsSync(toFsPath(`${source}/a`))).toBe(true);
  expect(await rootOf(source)).toBe(await rootOf(await write(directory({ a: file('a') }))));
});
