import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  BIN,
  beAlone,
  diskUsage,
  expectSameTree,
  type Files,
  lazytree,
  lazytreeBytes,
  listing,
  oneDocument,
  pseudoRandom,
  ROOT,
  type Sandbox,
  sandbox,
  start,
  writeFiles,
} from './helpers.ts';

const CID = /^baf[a-z2-7]{56}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const VERSION: string = JSON.parse(fs.readFileSync(join(ROOT, 'packages/cli/package.json'), 'utf8')).version;
const COMMANDS = 'import export ls cat stat diff log save load ref pin gc verify status doctor'.split(' ');
const ACTIONS = [
  ...['set', 'get', 'list', 'rm'].map((action) => `ref ${action}`),
  ...['add', 'rm', 'list'].map((action) => `pin ${action}`),
  ...['start', 'stop', 'status', 'run'].map((action) => `daemon ${action}`),
];

const BIG = pseudoRandom(600_000, 'big');
const FILES: Files = {
  'a.txt': 'hello\n',
  'bin/run': { executable: '#!/bin/sh\n' },
  'dir/deep/file.txt': 'deep\n',
  'dir/big.bin': BIG,
  empty: null,
  link: { symlink: 'dir/deep' },
};
const SIZE = 6 + 10 + 5 + BIG.length;

interface EntryJson {
  path: string;
  name: string;
  kind: string;
  cid?: string;
  size?: number;
  files?: number;
  target?: string;
}

describe('help and version', () => {
  const home = '/nonexistent/lazytree';

  test.each(['--version', '-V'])('%s', async (flag) => {
    expect(await lazytree([flag], { home })).toMatchObject({ code: 0, out: `${VERSION}\n`, err: '' });
  });

  test('--help lists every command', async () => {
    const { code, out, err } = await lazytree(['--help'], { home });
    expect({ code, err }).toEqual({ code: 0, err: '' });
    for (const name of [...COMMANDS, 'daemon']) expect(out).toMatch(new RegExp(`^  ${name}\\b`, 'm'));
    expect(out).toContain('Exit codes: 0 done');
  });

  test.each([...COMMANDS, ...ACTIONS])('%s --help', async (name) => {
    const { code, out, err } = await lazytree([...name.split(' '), '--help'], { home });
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(new RegExp(`^Usage: lazytree ${name} `));
    expect(out).toContain('--help');
    if (name !== 'ref' && name !== 'pin') expect(out).toContain('--json');
  });

  test('the linked command of node_modules is the same', async () => {
    const { code, out } = await start([join(ROOT, 'node_modules/.bin/lazytree'), '--version'], { home })
      .ended;
    expect({ code, out }).toEqual({ code: 0, out: `${VERSION}\n` });
  });
});

describe('import, and what shows a tree', () => {
  let box: Sandbox;
  let root: string;

  beforeAll(async () => {
    box = sandbox();
    writeFiles(box.path('w'), FILES);
    root = await box.ok('import', 'w', '--name', 'work');
  });

  test('import prints the root and nothing else; the same tree gives the same root', async () => {
    expect(root).toMatch(CID);
    const other = sandbox();
    writeFiles(other.path('elsewhere'), Object.fromEntries(Object.entries(FILES).reverse()));
    expect(await other.ok('import', other.path('elsewhere'))).toBe(root);
  });

  test('import --json', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), FILES);
    const first = await other.json('import', 'w', '--name', 'n', '-m', 'first');
    expect(first).toMatchObject({ root, size: SIZE, files: 4, read: 4, warnings: [], ref: 'n', sequence: 1 });
    expect(first.added).toMatchObject({ blocks: expect.any(Number), bytes: expect.any(Number) });
    const { blocks, bytes } = first.added as { blocks: number; bytes: number };
    expect(blocks).toBeGreaterThan(7);
    expect(bytes).toBeGreaterThan(BIG.length);
    expect(await other.json('import', 'w')).toMatchObject({ root, added: { blocks: 0, bytes: 0 } });
    expect(await other.json('import', 'w', '--no-cache')).toMatchObject({
      root,
      read: 4,
      added: { blocks: 0, bytes: 0 },
    });
  });

  test('import --preserve keeps mode and time, and export brings them back', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'x' });
    fs.chmodSync(other.path('w/file'), 0o640);
    fs.utimesSync(other.path('w/file'), 1_000_000_000, 1_000_000_000);
    const preserved = await other.ok('import', 'w', '--preserve');
    await other.ok('export', preserved, 'out');
    const stat = fs.statSync(other.path('out/file'));
    expect({ mode: stat.mode & 0o777, time: stat.mtimeMs }).toEqual({ mode: 0o640, time: 1e12 });
    expect(await other.ok('stat', `${preserved}/file`)).toContain('modified  2001-09-09T01:46:40.000000000Z');
    expect(preserved).not.toBe(await other.ok('import', 'w'));
  });

  test('import follows .lazytreeignore unless told not to', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { '.lazytreeignore': '*.log\n', 'a.log': 'log', 'b.txt': 'text' });
    expect(await other.ok('ls', await other.ok('import', 'w'))).toBe('.lazytreeignore\nb.txt');
    expect(await other.ok('ls', await other.ok('import', 'w', '--no-ignore'))).toBe(
      '.lazytreeignore\na.log\nb.txt',
    );
  });

  test('ls', async () => {
    expect(await box.ok('ls', root)).toBe('a.txt\nbin/\ndir/\nempty/\nlink');
    expect(await box.ok('ls', 'work/dir')).toBe('big.bin\ndeep/');
    expect(await box.ok('ls', 'work/empty')).toBe('');
    expect(await box.ok('ls', 'work/a.txt')).toBe('a.txt');
  });

  test('ls -l -R', async () => {
    const lines = (await box.ok('ls', '-l', '-R', 'work')).split('\n');
    const columns = lines.map((line) => line.split(/ +/));
    expect(columns.map(([kind, size, cid, ...path]) => [kind, size, CID.test(cid), path.join(' ')])).toEqual([
      ['-', '6', true, 'a.txt'],
      ['d', '10', true, 'bin/'],
      ['x', '10', true, 'bin/run'],
      ['d', String(BIG.length + 5), true, 'dir/'],
      ['-', String(BIG.length), true, 'dir/big.bin'],
      ['d', '5', true, 'dir/deep/'],
      ['-', '5', true, 'dir/deep/file.txt'],
      ['d', '0', true, 'empty/'],
      ['l', '0', false, 'link -> dir/deep'],
    ]);
    expect(await box.ok('ls', '-lR', 'work')).toBe(lines.join('\n'));
    expect((await box.ok('ls', '-R', 'work')).split('\n')).toEqual([
      'a.txt',
      'bin/',
      'bin/run',
      'dir/',
      'dir/big.bin',
      'dir/deep/',
      'dir/deep/file.txt',
      'empty/',
      'link',
    ]);
  });

  test('ls --json', async () => {
    const { entries, ...rest } = await box.json<{ root: string; path: string; entries: EntryJson[] }>(
      'ls',
      'work',
    );
    expect(rest).toEqual({ root, path: '' });
    expect(entries).toMatchObject([
      { path: 'a.txt', name: 'a.txt', kind: 'file', size: 6 },
      { path: 'bin', kind: 'directory', size: 10, files: 1 },
      { path: 'dir', kind: 'directory', size: BIG.length + 5, files: 2 },
      { path: 'empty', kind: 'directory', size: 0, files: 0 },
      { path: 'link', kind: 'symlink', target: 'dir/deep' },
    ]);
    const recursive = await box.json<{ entries: EntryJson[] }>('ls', '-R', 'work/dir');
    expect(recursive.entries.map(({ path }) => path)).toEqual(['big.bin', 'deep', 'deep/file.txt']);
  });

  test.each(['work', 'work/', 'work//', 'ROOT', 'ROOT/', 'ROOT//'])('TREE as %s', async (form) => {
    const spec = form.replace('ROOT', root);
    expect(await box.ok('ls', spec)).toBe('a.txt\nbin/\ndir/\nempty/\nlink');
    expect(await box.json('stat', spec)).toMatchObject({ root, path: '', kind: 'directory', cid: root });
  });

  test.each(['work/dir/deep', 'work/dir/deep/', 'work//dir/deep//'])('TREE/path as %s', async (spec) => {
    expect(await box.ok('ls', spec)).toBe('file.txt');
    expect(await box.json('stat', spec)).toMatchObject({ root, kind: 'directory', size: 5, files: 1 });
  });

  test('the CID of a directory inside a tree is a TREE as well', async () => {
    const { cid } = await box.json<EntryJson>('stat', 'work/dir/deep');
    expect(await box.ok('ls', `${cid}`)).toBe('file.txt');
    expect(await box.ok('cat', `${cid}/file.txt`)).toBe('deep');
  });

  test('cat', async () => {
    expect((await box.run(['cat', 'work/a.txt'])).stdout).toEqual(Buffer.from('hello\n'));
    expect((await box.run(['cat', 'work/dir/big.bin'])).stdout.equals(BIG)).toBe(true);
    const { base64, ...rest } = await box.json<{ base64: string }>('cat', 'work/dir/big.bin');
    expect(rest).toEqual({ cid: expect.stringMatching(CID), size: BIG.length });
    expect(Buffer.from(base64, 'base64').equals(BIG)).toBe(true);
  });

  test('stat of the root, a file, an executable, a large file, a directory and a symlink', async () => {
    const ref = { name: 'work', sequence: 1, time: expect.stringMatching(TIME) };
    expect(await box.json('stat', 'work')).toEqual({
      root,
      path: '',
      name: '',
      kind: 'directory',
      cid: root,
      size: SIZE,
      files: 4,
      ref,
    });
    expect(await box.json('stat', `${root}/a.txt`)).toEqual({
      root,
      path: 'a.txt',
      name: 'a.txt',
      kind: 'file',
      cid: expect.stringMatching(/^bafkrei/),
      size: 6,
      chunks: 1,
    });
    expect(await box.json('stat', 'work/bin/run')).toMatchObject({ kind: 'executable', size: 10, chunks: 1 });
    const big = await box.json<{ chunks: number }>('stat', 'work/dir/big.bin');
    expect(big).toMatchObject({ kind: 'file', size: BIG.length, cid: expect.stringMatching(/^bafyrei/) });
    expect(big.chunks).toBeGreaterThan(2);
    expect(await box.json('stat', 'work/dir')).toMatchObject({ kind: 'directory', files: 2 });
    expect(await box.json('stat', 'work/link')).toMatchObject({ kind: 'symlink', target: 'dir/deep' });
  });

  test('stat as text', async () => {
    const rows = (await box.ok('stat', 'work')).split('\n').map((line) => line.split(/ {2,}/));
    expect(rows).toEqual([
      ['root', root],
      ['path', '/'],
      ['kind', 'directory'],
      ['cid', root],
      ['size', String(SIZE)],
      ['files', '4'],
      ['ref', 'work'],
    ]);
    expect(await box.ok('stat', 'work/link')).toMatch(/^target +dir\/deep$/m);
    expect(await box.ok('stat', 'work/a.txt')).toMatch(/^size +6$/m);
  });

  test('status', async () => {
    const text = await box.ok('status');
    expect(text).toMatch(new RegExp(`^home +${box.home}$`, 'm'));
    expect(text).toMatch(/^refs +1$/m);
    const status = await box.json<Record<string, number>>('status');
    expect(status).toMatchObject({ home: box.home, segments: 1, refs: 1, pins: 0, imports: 1 });
    expect(status.blocks).toBeGreaterThan(8);
    expect(status.rawBytes).toBeGreaterThan(SIZE);
    expect(status.storedBytes).toBeLessThanOrEqual(status.rawBytes);
    const segment = fs.statSync(
      join(box.home, 'store', 'segments', fs.readdirSync(join(box.home, 'store', 'segments'))[0]),
    );
    expect(status.segmentBytes).toBe(segment.size);
  });

  test('nothing of a command goes to a pipe but its result: no progress, no colours', async () => {
    const env = { FORCE_COLOR: '1', NO_COLOR: undefined, TERM: 'xterm-256color', COLUMNS: '200' };
    for (const args of [
      ['import', 'w'],
      ['verify'],
      ['gc', '--dry-run'],
      ['export', 'work', 'piped'],
      ['ls', '-l', 'work'],
    ]) {
      const { code, out, err } = await box.run(args, { env });
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(out).not.toContain('\x1b');
    }
  });
});

describe('export', () => {
  let box: Sandbox;

  beforeAll(async () => {
    box = sandbox();
    writeFiles(box.path('w'), FILES);
    await box.ok('import', 'w', '--name', 'work');
  });

  test('to a new directory, an empty one, and of a path', async () => {
    expect(await box.ok('export', 'work', 'new')).toBe('');
    expectSameTree(box.path('w'), box.path('new'));
    expect(fs.statSync(box.path('new/bin/run')).mode & 0o111).toBe(0o111);
    expect(fs.statSync(box.path('new/a.txt')).mode & 0o111).toBe(0);
    fs.mkdirSync(box.path('empty'));
    await box.ok('export', 'work/', 'empty/');
    expectSameTree(box.path('w'), box.path('empty'));
    await box.ok('export', 'work/dir', 'part');
    expectSameTree(box.path('w/dir'), box.path('part'));
  });

  test('--json', async () => {
    const { root } = await box.json('stat', 'work');
    expect(await box.json('export', 'work', 'json')).toEqual({
      root,
      target: box.path('json'),
      files: 4,
      bytes: SIZE,
      removed: 0,
      origins: [],
    });
  });

  test('--update makes the directory equal to the tree, touching only what differs', async () => {
    await box.ok('export', 'work', 'updated');
    const untouched = fs.statSync(box.path('updated/dir/big.bin'));
    fs.writeFileSync(box.path('updated/a.txt'), 'edited');
    fs.writeFileSync(box.path('updated/more'), 'more');
    fs.rmSync(box.path('updated/link'));
    fs.chmodSync(box.path('updated/bin/run'), 0o644);
    expect(await box.json('export', 'work', 'updated', '--update')).toMatchObject({ removed: 1 });
    expectSameTree(box.path('w'), box.path('updated'));
    expect(fs.statSync(box.path('updated/dir/big.bin')).ino).toBe(untouched.ino);
    expect(await box.json('export', 'work', 'updated', '--update')).toMatchObject({ files: 0, removed: 0 });
  });

  test('--force writes over what is there and leaves the rest', async () => {
    writeFiles(box.path('forced'), { 'a.txt': 'other', mine: 'mine' });
    await box.ok('export', 'work', 'forced', '--force');
    expect(fs.readFileSync(box.path('forced/mine'), 'utf8')).toBe('mine');
    fs.rmSync(box.path('forced/mine'));
    expectSameTree(box.path('w'), box.path('forced'));
  });
});

describe('diff', () => {
  let box: Sandbox;
  const files: Files = {
    same: 'same',
    'd/removed': 'r',
    'd/modified': 'm',
    'gone/x': 'x',
    mode: 'mode',
    kind: 'a file',
    link: { symlink: 'here' },
  };

  beforeAll(async () => {
    box = sandbox();
    writeFiles(box.path('a'), files);
    writeFiles(box.path('b'), {
      same: 'same',
      'd/modified': 'mm',
      'd/added': 'a',
      'new/y': 'y',
      mode: { executable: 'mode' },
      'kind/now': 'a directory',
      link: { symlink: 'there' },
    });
    await box.ok('import', 'a', '--name', 'a');
    await box.ok('import', 'b', '--name', 'b');
  });

  test('letters', async () => {
    const lines = (await box.ok('diff', 'a', 'b')).split('\n');
    expect(lines.sort()).toEqual(
      [
        'A\td/added',
        'M\td/modified',
        'D\td/removed',
        'D\tgone/',
        'D\tgone/x',
        'A\tkind/now',
        'T\tkind/',
        'M\tlink',
        'M\tmode',
        'A\tnew/',
        'A\tnew/y',
      ].sort(),
    );
  });

  test('of equal trees is empty', async () => {
    expect(await box.ok('diff', 'a', 'a')).toBe('');
    const { root } = await box.json<{ root: string }>('stat', 'a');
    expect(await box.json('diff', 'a', root)).toEqual({ from: root, to: root, changes: [] });
  });

  test('--json', async () => {
    const document = await box.json<{ changes: Record<string, unknown>[] }>('diff', 'a', 'b');
    expect(document).toMatchObject({ from: expect.stringMatching(CID), to: expect.stringMatching(CID) });
    const byPath = new Map(document.changes.map((change) => [change.path, change]));
    expect(byPath.get('d/added')).toMatchObject({ change: 'added', to: { kind: 'file', size: 1 } });
    expect(byPath.get('d/added')).not.toHaveProperty('from');
    expect(byPath.get('d/removed')).toMatchObject({ change: 'removed', from: { kind: 'file' } });
    expect(byPath.get('d/modified')).toMatchObject({
      change: 'modified',
      from: { size: 1 },
      to: { size: 2 },
    });
    expect(byPath.get('mode')).toMatchObject({ from: { kind: 'file' }, to: { kind: 'executable' } });
    expect(byPath.get('kind')).toMatchObject({
      change: 'type',
      from: { kind: 'file' },
      to: { kind: 'directory' },
    });
    expect(byPath.get('link')).toMatchObject({ from: { target: 'here' }, to: { target: 'there' } });
  });

  test('of paths below roots', async () => {
    expect((await box.ok('diff', 'a/d', 'b/d')).split('\n')).toEqual([
      'A\tadded',
      'M\tmodified',
      'D\tremoved',
    ]);
  });
});

describe('refs, snapshots and pins', () => {
  let box: Sandbox;
  let first: string;
  let second: string;

  beforeAll(async () => {
    box = sandbox();
    writeFiles(box.path('w'), { file: 'one' });
    first = await box.ok('import', 'w', '--name', 'work', '-m', 'the first');
    fs.writeFileSync(box.path('w/file'), 'number two');
    second = await box.ok('import', 'w', '--name', 'work');
  });

  test('import --name twice, and log', async () => {
    const lines = (await box.ok('log', 'work')).split('\n').map((line) => line.split('  '));
    expect(lines).toEqual([
      [expect.stringMatching(TIME), second, box.path('w')],
      [expect.stringMatching(TIME), first, box.path('w'), 'the first'],
    ]);
    const { name, snapshots } = await box.json<{ name: string; snapshots: Record<string, unknown>[] }>(
      'log',
      'work',
    );
    expect(name).toBe('work');
    expect(snapshots).toMatchObject([
      { root: second, source: box.path('w'), message: '', parents: [snapshots[1].snapshot] },
      { root: first, source: box.path('w'), message: 'the first', parents: [] },
    ]);
    expect(await box.ok('cat', 'work/file')).toBe('number two');
    expect(await box.ok('cat', `${first}/file`)).toBe('one');
  });

  test('ref set, get, list and rm', async () => {
    expect(await box.ok('ref', 'set', 'old', first, '-m', 'back')).toBe(first);
    expect(await box.ok('ref', 'get', 'old')).toBe(first);
    expect(await box.ok('ref', 'set', 'old', 'work')).toBe(second);
    expect(await box.json('ref', 'get', 'old')).toEqual({
      name: 'old',
      root: second,
      snapshot: expect.stringMatching(CID),
      sequence: 2,
      time: expect.stringMatching(TIME),
    });
    const rows = (await box.ok('ref', 'list')).split('\n').map((line) => line.split(/ +/));
    expect(rows).toEqual([
      ['old', second, expect.stringMatching(TIME)],
      ['work', second, expect.stringMatching(TIME)],
    ]);
    expect(await box.json('ref', 'list')).toMatchObject({
      refs: [{ name: 'old' }, { name: 'work', sequence: 2 }],
    });
    expect(await box.json('log', 'old')).toMatchObject({
      snapshots: [{ source: 'work' }, { message: 'back' }],
    });
    expect(await box.ok('ref', 'rm', 'old')).toBe('');
    expect(await box.json('ref', 'list')).toMatchObject({ refs: [{ name: 'work' }] });
    await box.ok('ref', 'set', 'again', 'work');
    expect(await box.json('ref', 'rm', 'again')).toEqual({ removed: 'again' });
  });

  test('a ref of a directory below a root', async () => {
    writeFiles(box.path('n'), { 'inner/file': 'inner' });
    const outer = await box.ok('import', 'n');
    await box.ok('ref', 'set', 'inner', `${outer}/inner`);
    expect(await box.ok('ls', 'inner')).toBe('file');
  });

  test('pin add, list and rm', async () => {
    expect(await box.ok('pin', 'add', 'work')).toBe(second);
    expect(await box.json('pin', 'add', first)).toEqual({ pinned: first });
    const text = (await box.ok('pin', 'list')).split('\n').map((line) => line.split(/ +/)[0]);
    expect(text.sort()).toEqual([first, second].sort());
    const { pins } = await box.json<{ pins: Record<string, string>[] }>('pin', 'list');
    expect(pins).toHaveLength(2);
    for (const pin of pins) expect(pin).toMatchObject({ kind: 'tree', time: expect.stringMatching(TIME) });
    expect(await box.ok('pin', 'rm', second)).toBe('');
    expect(await box.json('pin', 'rm', first)).toEqual({ unpinned: first });
    expect(await box.ok('pin', 'list')).toBe('');
  });
});

describe('gc', () => {
  test('gives back what nothing keeps, and only that', async () => {
    const box = sandbox();
    writeFiles(box.path('kept'), { file: pseudoRandom(1 << 20, 'kept'), small: 'x' });
    writeFiles(box.path('pinned'), { file: pseudoRandom(1 << 20, 'pinned') });
    writeFiles(box.path('dead'), { file: pseudoRandom(6 << 20, 'dead') });
    await box.ok('import', 'kept', '--name', 'kept');
    await box.ok('pin', 'add', await box.ok('import', 'pinned'));
    const dead = await box.ok('import', 'dead');
    const before = diskUsage(box.home);

    const segments = () => listing(join(box.home, 'store', 'segments'));
    const bytes = segments();
    const dry = await box.json<{ removed: number; reclaimed: number }>('gc', '--dry-run');
    expect(dry.reclaimed).toBeGreaterThan(6 << 20);
    expect(await box.ok('gc', '--dry-run')).toMatch(/^would remove \d+ blocks \(6\.\d+ MiB\), kept \d+$/);
    expect(segments()).toEqual(bytes);
    expect(await box.ok('ls', dead)).toBe('file');

    expect(await box.ok('gc')).toMatch(/^removed \d+ blocks \(6\.\d+ MiB\), kept \d+$/);
    expect(before - diskUsage(box.home)).toBeGreaterThan(5.5 * 2 ** 20);
    expect((await box.run(['ls', dead])).code).toBe(4);
    expect(await box.json('verify')).toMatchObject({ sound: true });
    expect(await box.json('status')).toMatchObject({ refs: 1, pins: 1, imports: 2 });
    await box.ok('export', 'kept', 'out');
    expectSameTree(box.path('kept'), box.path('out'));
    expect(await box.json('gc')).toMatchObject({ removed: 0, reclaimed: 0, missing: 0 });

    // What has gone comes back with the next import, though nothing there has changed.
    expect(await box.ok('import', 'dead')).toBe(dead);
    expect((await box.run(['cat', `${dead}/file`])).stdout.equals(pseudoRandom(6 << 20, 'dead'))).toBe(true);
  });

  test('--keep 1 lets older snapshots go', async () => {
    const box = sandbox();
    writeFiles(box.path('w'), { file: pseudoRandom(3 << 20, 'old') });
    const old = await box.ok('import', 'w', '--name', 'work');
    fs.writeFileSync(box.path('w/file'), 'new');
    await box.ok('import', 'w', '--name', 'work');
    await box.ok('gc');
    expect(await box.ok('ls', old)).toBe('file');
    const before = diskUsage(box.home);
    expect(await box.json('gc', '--keep', '1')).toMatchObject({ missing: 0 });
    expect(before - diskUsage(box.home)).toBeGreaterThan(2.5 * 2 ** 20);
    expect((await box.run(['ls', old])).code).toBe(4);
    expect((await box.json<{ snapshots: unknown[] }>('log', 'work')).snapshots).toHaveLength(1);
    expect(await box.ok('cat', 'work/file')).toBe('new');
    expect(await box.json('verify')).toMatchObject({ sound: true });
  });

  test('a removed ref keeps nothing', async () => {
    const box = sandbox();
    writeFiles(box.path('w'), { file: pseudoRandom(100_000, 'w') });
    const root = await box.ok('import', 'w', '--name', 'work');
    await box.ok('ref', 'rm', 'work');
    expect(await box.ok('ls', root)).toBe('file');
    await box.ok('gc');
    expect(await box.json('status')).toMatchObject({ blocks: 0, imports: 0, refs: 0 });
  });
});

describe('verify', () => {
  const content = pseudoRandom(10_000, 'victim');

  /** A home with one import, named or not, and one flipped bit in a file of it. */
  async function damaged(...name: string[]) {
    const box = sandbox();
    writeFiles(box.path('w'), { 'dir/victim.bin': content, fine: 'fine' });
    const root = await box.ok('import', 'w', ...name);
    expect(await box.ok('verify')).toMatch(/^sound: \d+ blocks, /);
    expect(await box.ok('verify', root)).toMatch(/^sound: \d+ blocks, /);
    expect(await box.json('verify')).toMatchObject({ sound: true, bad: [], damage: [], dropped: 0 });
    const segment = join(box.home, 'store', 'segments', '00000001.seg');
    const file = fs.existsSync(segment)
      ? segment
      : join(box.home, 'store', 'segments', fs.readdirSync(join(box.home, 'store', 'segments'))[0]);
    const bytes = fs.readFileSync(file);
    const at = bytes.indexOf(content);
    expect(at).toBeGreaterThan(0);
    bytes[at + 5000] ^= 1;
    fs.writeFileSync(file, bytes);
    const { cid } = await box.json<EntryJson>('stat', `${root}/fine`);
    expect(cid).toMatch(CID);
    return { box, root };
  }

  test('names the path that a flipped bit hits, in a tree that has a name', async () => {
    const { box, root } = await damaged('--name', 'work');
    const store = await box.run(['verify']);
    expect(store).toMatchObject({ code: 5, err: '' });
    expect(store.out).toMatch(/^corrupt baf/);
    expect(store.out).toContain('  work/dir/victim.bin\n');
    expect(store.out).toMatch(/\nnot sound: /);
    for (const spec of ['work', root]) {
      const tree = await box.run(['verify', spec]);
      expect(tree).toMatchObject({ code: 5, err: '' });
      expect(tree.out).toContain(`  ${spec}/dir/victim.bin\n`);
    }
  });

  test('and of an import without a name', async () => {
    const { box, root } = await damaged();
    const { code, out, err } = await box.run(['verify']);
    expect({ code, err }).toEqual({ code: 5, err: '' });
    expect(out).toContain(`  ${root}/dir/victim.bin\n`);
    const json = await box.run(['verify', '--json']);
    expect(json).toMatchObject({ code: 5, err: '' });
    expect(oneDocument(json)).toMatchObject({
      sound: false,
      bad: [{ problem: 'corrupt', uses: [{ tree: root, path: 'dir/victim.bin' }] }],
    });
  });

  test('what is corrupt is not printed, exported or saved', async () => {
    const { box, root } = await damaged();
    for (const args of [
      ['cat', `${root}/dir/victim.bin`],
      ['export', root, 'out'],
      ['save', root, 'out.image'],
      ['save', root, 'out.car'],
    ]) {
      const { code, out, err } = await box.run(args);
      expect({ args, code, out }).toEqual({ args, code: 5, out: '' });
      expect(err).toMatch(/^lazytree: .*\bbafkrei[a-z2-7]+\b.* corrupt.*\n$/);
      expect(fs.readdirSync(box.directory).sort()).toEqual(['home', 'w']);
    }
    expect(await box.ok('cat', `${root}/fine`)).toBe('fine');
  });

  test('--repair drops what is corrupt, and the next import heals', async () => {
    const { box, root } = await damaged('--name', 'work');
    const repair = await box.run(['verify', '--repair']);
    expect(repair.out).toMatch(/^dropped 1 corrupt blocks?: import their source again$/m);
    const missing = await box.run(['verify']);
    expect(missing).toMatchObject({ code: 5, err: '' });
    expect(missing.out).toContain('  work/dir/victim.bin\n');
    expect((await box.run(['cat', 'work/dir/victim.bin'])).code).toBe(4);
    expect(await box.ok('import', 'w')).toBe(root);
    expect((await box.run(['cat', 'work/dir/victim.bin'])).stdout.equals(content)).toBe(true);
    expect(await box.json('verify', 'work')).toMatchObject({ sound: true });
    // The damaged bytes are no longer of any use, and gc takes them away.
    await box.ok('gc');
    expect(await box.json('verify')).toMatchObject({ sound: true, damage: [] });
  });

  test('verify TREE --repair heals as well', async () => {
    const { box, root } = await damaged('--name', 'work');
    const repair = await box.run(['verify', 'work', '--repair']);
    expect(repair.out).toContain('work/dir/victim.bin');
    expect(await box.ok('import', 'w')).toBe(root);
    expect((await box.run(['cat', 'work/dir/victim.bin'])).stdout.equals(content)).toBe(true);
    expect(await box.json('verify', 'work')).toMatchObject({ sound: true });
  });
});

describe('save and load', () => {
  let box: Sandbox;
  let root: string;

  beforeAll(async () => {
    box = sandbox();
    const text = 'all work and no play makes jack a dull boy\n'.repeat(5000);
    writeFiles(box.path('w'), { ...FILES, 'text.txt': text, 'text/copy.txt': text });
    root = await box.ok('import', 'w', '--name', 'work');
  });

  test.each([
    ['snappy', 'w.image', []],
    ['zstd', 'w.zst.image', ['--compression', 'zstd']],
    ['CAR', 'w.car', []],
  ])('%s, into another home', async (kind, file, options) => {
    const saved = await box.json('save', 'work', file, ...options);
    expect(saved).toMatchObject({ root, file });
    const { size } = fs.statSync(box.path(file));
    expect(size).toBeGreaterThan(BIG.length);
    if (kind !== 'CAR') expect(size).toBeLessThan(BIG.length + 60_000);
    const bytes = fs.readFileSync(box.path(file));

    // Again, by its root, over the first: the same bytes.
    expect(await box.ok('save', root, file, ...options)).toBe('');
    expect(fs.readFileSync(box.path(file)).equals(bytes)).toBe(true);

    const other = sandbox();
    expect(await other.ok('load', box.path(file), '--name', 'loaded')).toBe(root);
    expect(await other.json('verify')).toMatchObject({ sound: true });
    await other.ok('export', 'loaded', 'out');
    expectSameTree(box.path('w'), other.path('out'));
    expect(await other.json('load', box.path(file))).toMatchObject({ root, roots: [root] });
    expect(await other.json('log', 'loaded')).toMatchObject({ snapshots: [{ source: box.path(file) }] });
    expect(await other.json('status')).toMatchObject({ refs: 1, imports: 1 });
  });

  test('an image is a TREE, and needs no home', async () => {
    await box.ok('save', 'work', 'tree.image');
    const image = `image:${box.path('tree.image')}`;
    const other = sandbox();
    expect(await other.ok('ls', image)).toBe('a.txt\nbin/\ndir/\nempty/\nlink\ntext/\ntext.txt');
    expect(await other.ok('ls', `${image}/dir/`)).toBe('big.bin\ndeep/');
    expect(await other.ok('cat', `${image}/dir/deep/file.txt`)).toBe('deep');
    expect((await other.run(['cat', `${image}/dir/big.bin`])).stdout.equals(BIG)).toBe(true);
    expect(await other.json('stat', `${image}/bin/run`)).toMatchObject({ root, kind: 'executable' });
    expect(await other.json('verify', image)).toMatchObject({ sound: true });
    await other.ok('export', image, 'out');
    expectSameTree(box.path('w'), other.path('out'));
    await other.ok('save', image, 'again.image');
    expect(fs.readFileSync(other.path('again.image')).equals(fs.readFileSync(box.path('tree.image')))).toBe(
      true,
    );
    expect(fs.existsSync(other.home)).toBe(false);
  });

  test('diff of an image and a ref', async () => {
    await box.ok('save', 'work', 'before.image');
    fs.writeFileSync(box.path('w/a.txt'), 'changed');
    await box.ok('import', 'w', '--name', 'after');
    fs.writeFileSync(box.path('w/a.txt'), 'hello\n');
    expect(await box.ok('diff', 'image:before.image', 'after')).toBe('M\ta.txt');
    expect(await box.ok('diff', 'after', 'image:before.image')).toBe('M\ta.txt');
  });

  test('a part of a tree', async () => {
    await box.ok('save', 'work/dir', 'part.image');
    const other = sandbox();
    const part = await other.ok('load', box.path('part.image'));
    await other.ok('export', part, 'out');
    expectSameTree(box.path('w/dir'), other.path('out'));
  });
});

describe('odd names', () => {
  const bytes = (text: string) => Buffer.from(text, 'latin1');
  const ODD = bytes('caf\xe9\xff.txt');
  const LINES = bytes('two\nlines\n');
  let box: Sandbox;
  let root: string;

  beforeAll(async () => {
    box = sandbox();
    const inside = (name: Buffer) => Buffer.concat([Buffer.from(`${box.path('w')}/`), name]);
    fs.mkdirSync(inside(bytes('d\xfe')), { recursive: true });
    fs.writeFileSync(inside(ODD), 'odd');
    fs.writeFileSync(inside(LINES), 'lines');
    fs.writeFileSync(inside(bytes('-rf')), 'dash');
    fs.writeFileSync(inside(bytes('d\xfe/\x80in')), 'inner');
    fs.writeFileSync(box.path('w/\ufffd'), 'the replacement character itself');
    fs.symlinkSync(bytes('\xc3('), inside(bytes('link')));
    root = await box.ok('import', 'w', '--name', 'odd');
  });

  test('ls prints the very bytes', async () => {
    const { stdout } = await box.run(['ls', '-R', root]);
    expect(stdout.toString('latin1')).toBe(
      '-rf\ncaf\xe9\xff.txt\nd\xfe/\nd\xfe/\x80in\nlink\ntwo\nlines\n\n\xef\xbf\xbd\n',
    );
    const long = await box.run(['ls', '-l', root]);
    expect(long.stdout.toString('latin1')).toContain('link -> \xc3(\n');
    const file = await lazytreeBytes(['ls', Buffer.concat([bytes('odd/'), ODD])], box);
    expect(file.stdout.toString('latin1')).toBe('caf\xe9\xff.txt\n');
  });

  test('--json shows each byte that is not UTF-8 as a lone surrogate', async () => {
    const { out } = await box.run(['ls', '-R', root, '--json']);
    expect(out).toContain('"caf\\udce9\\udcff.txt"');
    expect(out).toContain('"two\\nlines\\n"');
    expect(out).toContain('"target":"\\udcc3("');
    expect(JSON.parse(out).entries.map(({ path }: EntryJson) => path)).toContain('d\udcfe/\udc80in');
  });

  test('arguments take the very bytes', async () => {
    const spec = Buffer.concat([bytes('odd/'), ODD]);
    expect(await lazytreeBytes(['cat', spec], box)).toMatchObject({ code: 0, out: 'odd', err: '' });
    expect(await lazytreeBytes(['cat', bytes(`${root}/d\xfe/\x80in`)], box)).toMatchObject({ out: 'inner' });
    expect(await lazytreeBytes(['cat', bytes('odd/two\nlines\n')], box)).toMatchObject({ out: 'lines' });
    expect(await box.ok('cat', 'odd/\ufffd')).toBe('the replacement character itself');
    const stat = await lazytreeBytes(['stat', spec, '--json'], box);
    expect(stat.out).toContain('"name":"caf\\udce9\\udcff.txt"');
  });

  test('stat prints the very bytes', async () => {
    const { stdout } = await lazytreeBytes(['stat', Buffer.concat([bytes('odd/'), ODD])], box);
    expect(stdout.toString('latin1')).toMatch(/^path +caf\xe9\xff\.txt$/m);
  });

  test('export and diff bring them back', async () => {
    await box.ok('export', 'odd', 'out');
    expectSameTree(box.path('w'), box.path('out'));
    expect(listing(box.path('out'))).toEqual(listing(box.path('w')));
    fs.writeFileSync(Buffer.concat([Buffer.from(`${box.path('out')}/`), ODD]), 'edited');
    await box.ok('import', 'out', '--name', 'edited');
    const { stdout } = await box.run(['diff', 'odd', 'edited']);
    expect(stdout.toString('latin1')).toBe('M\tcaf\xe9\xff.txt\n');
    await box.ok('export', 'odd', 'out', '--update');
    expect(listing(box.path('out'))).toEqual(listing(box.path('w')));
  });

  test.each(['x.image', 'x.car'])('%s carries them', async (file) => {
    await box.ok('save', 'odd', file);
    const other = sandbox();
    expect(await other.ok('load', box.path(file))).toBe(root);
    await other.ok('export', root, 'out');
    expect(listing(other.path('out'))).toEqual(listing(box.path('w')));
  });

  const beside = (name: string) => Buffer.concat([Buffer.from(`${box.directory}/`), bytes(name)]);

  test('import of a directory with such a name', async () => {
    fs.mkdirSync(beside('source\xff'));
    fs.writeFileSync(beside('source\xff/f'), 'content');
    const imported = await lazytreeBytes(['import', beside('source\xff'), '--name', 'source'], box);
    expect(imported).toMatchObject({ code: 0, err: '' });
    expect(await box.ok('cat', 'source/f')).toBe('content');
  });

  test('export to a directory with such a name', async () => {
    const target = beside('target\xfe');
    expect(await lazytreeBytes(['export', 'odd', target], box)).toMatchObject({ code: 0, err: '' });
    expect(listing(`${box.directory}/target\udcfe`)).toEqual(listing(box.path('w')));
    expect(await lazytreeBytes(['export', 'odd', target], box)).toMatchObject({ code: 8, out: '' });
    expect(await lazytreeBytes(['export', 'odd', target, '--update'], box)).toMatchObject({
      code: 0,
      err: '',
    });
    fs.mkdirSync(beside('empty\xfe'));
    expect(await lazytreeBytes(['export', 'odd', beside('empty\xfe')], box)).toMatchObject({
      code: 0,
      err: '',
    });
    expect(listing(`${box.directory}/empty\udcfe`)).toEqual(listing(box.path('w')));
  });

  test.each(['image\xfd', 'image\xfd.car'])('save to a file with such a name, and load: %j', async (name) => {
    expect(await lazytreeBytes(['save', 'odd', beside(name)], box)).toMatchObject({ code: 0, err: '' });
    expect(fs.existsSync(beside(name))).toBe(true);
    const loaded = await lazytreeBytes(['load', beside(name)], { ...box, home: box.path('other') });
    expect(loaded).toMatchObject({ code: 0, out: `${root}\n`, err: '' });
    if (name.endsWith('.car')) return;
    const inside = Buffer.concat([bytes('image:'), beside(name), bytes('/two\nlines\n')]);
    expect(await lazytreeBytes(['cat', inside], box)).toMatchObject({ code: 0, out: 'lines', err: '' });
  });
});

describe('ended from outside', () => {
  test('SIGINT during an import: exit code 130, and the store can be used', async () => {
    const box = sandbox();
    writeFiles(box.path('w'), { file: 'before' });
    await box.ok('import', 'w', '--name', 'before');
    fs.mkdirSync(box.path('large'));
    const large = fs.openSync(box.path('large/file'), 'w');
    fs.ftruncateSync(large, 8 * 2 ** 30);
    fs.closeSync(large);
    for (const json of [false, true]) {
      const { child, ended } = start(
        [process.execPath, BIN, 'import', 'large', '--name', 'large', ...(json ? ['--json'] : [])],
        { home: box.home, cwd: box.directory },
      );
      await new Promise((resolve) => setTimeout(resolve, 700));
      expect(child.exitCode).toBe(null);
      const asked = Date.now();
      child.kill('SIGINT');
      const { code, signal, out, err } = await ended;
      expect({ code, signal, out }).toEqual({ code: 130, signal: null, out: json ? err : '' });
      expect(Date.now() - asked).toBeLessThan(5000);
      expect(err).toMatch(/^[^\n]*interrupted[^\n]*\n$/);
      if (json) expect(JSON.parse(err)).toMatchObject({ error: { code: 'ABORTED' } });
    }
    expect(await box.ok('cat', 'before/file')).toBe('before');
    expect(await box.json('verify')).toMatchObject({ sound: true });
    expect(await box.json('ref', 'list')).toMatchObject({ refs: [{ name: 'before' }] });
    await beAlone(box.home);
    expect(fs.readdirSync(join(box.home, 'store'))).not.toContain('lock');
    expect(fs.readdirSync(join(box.home, 'store', 'stat'))).toHaveLength(1);
    fs.truncateSync(box.path('large/file'), 1000);
    await box.ok('import', 'large', '--name', 'large');
  });

  test('SIGINT during an export leaves no target', async () => {
    const box = sandbox();
    fs.mkdirSync(box.path('w'));
    const large = fs.openSync(box.path('w/file'), 'w');
    fs.ftruncateSync(large, 2 ** 28);
    fs.closeSync(large);
    await box.ok('import', 'w', '--name', 'large');
    const { child, ended } = start([process.execPath, BIN, 'export', 'large', 'out'], {
      home: box.home,
      cwd: box.directory,
    });
    while (fs.readdirSync(box.directory).length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ code: 130, out: '', err: 'lazytree: interrupted\n' });
    expect(fs.readdirSync(box.directory).sort()).toEqual(['home', 'w']);
  });

  test('a reader that has seen enough is no error', async () => {
    const box = sandbox();
    const many: Files = { big: pseudoRandom(8 << 20) };
    for (let i = 0; i < 4000; i++) many[`directory/${String(i).padStart(60, '0')}`] = '';
    writeFiles(box.path('w'), many);
    await box.ok('import', 'w', '--name', 'work');
    for (const args of [
      ['ls', '-R', 'work'],
      ['ls', '-R', '-l', 'work'],
      ['ls', '-R', 'work', '--json'],
      ['cat', 'work/big'],
    ]) {
      const script = '{ "$@"; echo "code $?" >&2; } | head -c 1 >/dev/null';
      const command = ['sh', '-c', script, 'sh', process.execPath, BIN, ...args];
      const { err } = await start(command, { home: box.home, cwd: box.directory }).ended;
      expect({ args, err }).toEqual({ args, err: 'code 0\n' });
    }
    expect((await box.ok('ls', '-R', 'work')).split('\n')).toHaveLength(4002);
  });
});

test('on a terminal an import shows files, bytes and rate, and its result alone goes to stdout', () => {
  const box = sandbox();
  const files = Array.from({ length: 300 }, (_, i) => [
    `d${i % 9}/f${i}`,
    pseudoRandom(5000 + i, `tty ${i}`),
  ]);
  writeFiles(box.path('w'), Object.fromEntries(files));
  // script(1) of util-linux gives its command a terminal; stdout is taken off it, the bar stays.
  const out = box.path('out');
  const command = `${process.execPath} ${BIN} import ${box.path('w')} > ${out}`;
  const env = { ...process.env, LAZYTREE_HOME: box.home };
  const { status, stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { env, encoding: 'utf8' });
  expect({ status, root: fs.readFileSync(out, 'utf8') }).toEqual({
    status: 0,
    root: expect.stringMatching(/^baf[a-z2-7]{56}\n$/),
  });
  expect(stdout).toMatch(/import [^\r\n]*■[^\r\n]* 300 of 300 files +1\.4\d MiB/);
});
