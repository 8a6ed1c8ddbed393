import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  expectSameTree,
  loudly,
  pseudoRandom,
  type Sandbox,
  sandbox,
  start,
  writeFiles,
} from '../helpers.ts';
import { stopDaemon, unlessMountable } from './mountable.ts';
import { mountedOn, mounts, readsOf, sh, shOk } from './mounted.ts';

const FILES = {
  'README.md': 'hello\n',
  'bin/tool': { executable: '#!/bin/sh\necho tool\n' },
  'src/index.js': 'console.log(1);\n',
  'src/deep/er/file': 'deep\n',
  'data/large': pseudoRandom(1_300_000),
  'data/caf\udce9': 'Latin-1\n',
  'data/empty': null,
  link: { symlink: 'src/index.js' },
};

describe.skipIf(unlessMountable('mounts'))('mount', () => {
  let box: Sandbox;
  let root: string;

  beforeAll(async () => {
    box = sandbox();
    writeFiles(box.path('source'), FILES);
    root = await box.ok('import', 'source', '--name', 'base');
  });

  afterEach(async () => {
    for (const { target } of (await mounts(box)).reverse()) await box.ok('unmount', '--lazy', target);
    expect(mountedOn(`${box.directory}/`, true)).toEqual([]);
  });

  afterAll(() => stopDaemon(box));

  test('shows a tree as an export of it is, by CID, ref, path and image', async () => {
    await box.ok('export', 'base', 'export');
    await box.ok('save', 'base', 'file.image');
    expect(await box.ok('mount', root, 'by-cid')).toBe(box.path('by-cid'));
    await box.ok('mount', 'base', 'by-ref');
    await box.ok('mount', 'base/src/deep', 'by-path');
    await box.ok('mount', 'image:file.image', 'by-image');
    await box.ok('mount', 'image:file.image/src', 'by-image-path');
    for (const name of ['by-cid', 'by-ref', 'by-image']) expectSameTree(box.path('export'), box.path(name));
    expectSameTree(box.path('export/src/deep'), box.path('by-path'));
    expectSameTree(box.path('export/src'), box.path('by-image-path'));
    const listed = await mounts(box);
    expect(listed.map(({ tree, state }) => [tree, state])).toEqual([
      [root, 'mounted'],
      ['base', 'mounted'],
      ['base/src/deep', 'mounted'],
      [expect.stringContaining('file.image'), 'mounted'],
      [expect.stringContaining('file.image/src'), 'mounted'],
    ]);
    const { size, files } = await box.json<{ size: number; files: number }>('stat', 'base');
    expect(listed[0]).toMatchObject({ root, size, files });
  });

  test('what is imported from a mount is what was mounted', async () => {
    await box.ok('mount', 'base', 'mount');
    expect(await box.ok('import', 'mount')).toBe(root);
  });

  test('reading the same files in another mount asks for nothing', async () => {
    writeFiles(box.path('first'), { ...FILES, own: 'read by nobody else\n' });
    await shOk(box, 'cp -a first other; echo changed > other/src/index.js');
    for (const name of ['first', 'other']) await box.ok('import', name, '--name', name);
    for (const name of ['one', 'two']) await box.ok('mount', 'first', name);
    await box.ok('mount', 'other', 'three');
    const readAll = (name: string) =>
      shOk(box, `find ${name} -type f -print0 | sort -z | xargs -0 cat | sha256sum`);
    const sum = await readAll('one');
    const first = await readsOf(box);
    expect(first).toBeGreaterThan(0);
    expect(await readAll('two')).toBe(sum);
    expect(await readsOf(box)).toBe(first);
    expect(await readAll('three')).not.toBe(sum);
    // What differs is read, and nothing else.
    expect((await readsOf(box)) - first).toBeLessThanOrEqual(2);
    expect(await shOk(box, 'cat three/src/index.js one/src/index.js')).toBe('changed\nconsole.log(1);\n');
  });

  test('a CID is had without reading the file', async (context) => {
    loudly(context, spawnSync('getfattr', ['--version']).error && 'there is no getfattr (package attr)');
    await box.ok('mount', 'base', 'mount');
    const before = await readsOf(box);
    for (const path of ['README.md', 'bin/tool', 'data/large', 'src', 'src/deep/er', '.']) {
      const { cid } = await box.json<{ cid: string }>('stat', path === '.' ? 'base' : `base/${path}`);
      const found = await shOk(box, `getfattr --only-values -n user.lazytree.cid mount/${path}`);
      expect([path, found]).toEqual([path, cid]);
    }
    expect(await readsOf(box)).toBe(before);
  });

  test('a mount that is in use is not taken away, unless it is with --lazy', async () => {
    await box.ok('mount', 'base', 'mount');
    const holder = start(['bash', '-c', 'exec 3< README.md; echo ready; read; cat <&3; cat src/index.js'], {
      home: box.home,
      cwd: box.path('mount'),
      stdin: 'pipe',
    });
    await once(holder.child.stdout as NodeJS.ReadableStream, 'data');
    const { code, err } = await box.run(['unmount', 'mount']);
    expect(code).toBe(8);
    expect(err).toContain(`bash (process ${holder.child.pid},`);
    expect(err).toContain('--lazy');
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted']);
    await box.ok('unmount', '--lazy', 'mount');
    expect(mountedOn(box.path('mount'))).toEqual([]);
    expect(await mounts(box)).toEqual([]);
    holder.child.stdin?.end('\n');
    expect((await holder.ended).out).toBe('ready\nhello\nconsole.log(1);\n');
  });

  test('a mount point is made, and goes with the mount; one that was there stays', async () => {
    fs.mkdirSync(box.path('there'));
    await box.ok('mount', 'base', 'made');
    await box.ok('mount', 'base', 'there');
    await box.ok('unmount', 'made');
    await box.ok('unmount', 'there');
    expect(fs.existsSync(box.path('made'))).toBe(false);
    expect(fs.readdirSync(box.path('there'))).toEqual([]);
    expect(await mounts(box)).toEqual([]);
  });

  test('a mount point that is a link is what it links to', async () => {
    fs.mkdirSync(box.path('real'));
    fs.symlinkSync('real', box.path('linked'));
    expect(await box.ok('mount', 'base', 'linked')).toBe(box.path('real'));
    expect(await mounts(box)).toMatchObject([{ target: box.path('real'), state: 'mounted' }]);
    const { code } = await box.run(['mount', 'base', 'real']);
    expect(code).toBe(8);
    await box.ok('unmount', 'linked');
    expect(mountedOn(box.path('real'))).toEqual([]);
    expect(fs.readlinkSync(box.path('linked'))).toBe('real');
  });

  test.each([
    ['a directory that is not empty', 'base', 'source', 8, 'not empty'],
    ['a file', 'base', 'source/README.md', 2, 'not a directory'],
    ['a directory in one that is not there', 'base', 'absent/mount', 4, 'absent'],
    ['a mount', 'base', 'mounted', 8, 'mounted'],
    ['something else’s mount', 'base', 'foreign', 8, 'tmpfs'],
    ['the root of everything', 'base', '/', 2, "'/'"],
    ['a directory, of no tree', 'nothing', 'new', 4, 'nothing'],
    ['a directory, of a file', 'base/README.md', 'new', 2, 'not a directory'],
    ['a directory, of no image', 'image:absent', 'new', 4, 'absent'],
  ])('on %s is refused, and changes nothing', async (_, tree, target, expectedCode, text) => {
    await box.ok('mount', 'base', 'mounted');
    await shOk(box, 'mkdir -p foreign; mount -t tmpfs tmpfs foreign');
    const before = fs.readdirSync(box.directory);
    const { code, out, err } = await box.run(['mount', tree, target]);
    expect({ code, out }).toEqual({ code: expectedCode, out: '' });
    expect(err).toContain(text);
    expect(fs.readdirSync(box.directory)).toEqual(before);
    expect((await mounts(box)).map((mount) => mount.target)).toEqual([box.path('mounted')]);
    expect(mountedOn(box.path('mounted'))).toHaveLength(1);
    expect(mountedOn(box.path('foreign'))).toEqual(['tmpfs']);
    await shOk(box, 'umount foreign');
  });

  test('what is not mounted cannot be unmounted', async () => {
    for (const name of ['source', 'absent']) {
      const { code, err } = await box.run(['unmount', name]);
      expect(code).toBe(4);
      expect(err).toContain('not a mount of lazytree');
    }
  });

  test('many at once, and of those on one directory one', async () => {
    const targets = Array.from({ length: 12 }, (_, i) => `m${i}`);
    const same = Array.from({ length: 4 }, () => 'same');
    const results = await Promise.all(
      [...targets, ...same].map((target) => box.run(['mount', 'base', target])),
    );
    expect(results.slice(0, 12).map(({ code, err }) => ({ code, err }))).toEqual(
      targets.map(() => ({ code: 0, err: '' })),
    );
    expect(
      results
        .slice(12)
        .map(({ code }) => code)
        .sort(),
    ).toEqual([0, 8, 8, 8]);
    expect(mountedOn(box.path('same'))).toHaveLength(1);
    const stored = JSON.parse(fs.readFileSync(`${box.home}/mounts.json`, 'utf8')) as { mounts: unknown[] };
    expect(stored.mounts).toHaveLength(13);
    await Promise.all([...targets, 'same'].map((target) => box.ok('unmount', target)));
    expect(await mounts(box)).toEqual([]);
    expect(fs.existsSync(box.path('same'))).toBe(false);
  });

  test('of mounts and workspaces on one directory at once, one', async () => {
    const codes = await Promise.all(
      [
        ['workspace', 'create', 'a', '--from', root, 'contested'],
        ['workspace', 'create', 'b', '--from', root, 'contested'],
        ['mount', root, 'contested'],
      ].map(async (args) => (await box.run(args)).code),
    );
    expect(codes.sort()).toEqual([0, 8, 8]);
    expect(mountedOn(box.path('contested'))).toHaveLength(1);
    for (const name of ['a', 'b']) await box.run(['workspace', 'remove', '--discard', name]);
    await box.run(['unmount', 'contested']);
    expect(mountedOn(box.path('contested'))).toEqual([]);
  });

  test('mounts within mounts', async () => {
    await box.ok('mount', 'base', 'outer');
    // Not on what is not empty, be it a directory of a tree.
    expect((await box.run(['mount', 'base/src', 'outer/bin'])).code).toBe(8);
    fs.mkdirSync(box.path('source2/inner'), { recursive: true });
    await box.ok('import', 'source2', '--name', 'holder');
    await box.ok('mount', 'holder', 'holder');
    await box.ok('mount', 'base', 'holder/inner');
    expect(await shOk(box, 'cat holder/inner/README.md')).toBe('hello\n');
    const { code, err } = await box.run(['unmount', 'holder']);
    expect({ code, err }).toEqual({ code: 8, err: expect.stringContaining('mounted below it') });
    await box.ok('unmount', 'holder/inner');
    await box.ok('unmount', 'holder');
  });

  test('nothing can be written, and saying so needs no daemon', async () => {
    await box.ok('mount', 'base', 'mount');
    const { code, err } = await sh(box, 'rm -rf mount/src');
    expect(code).toBe(1);
    expect(err).toContain('Read-only file system');
    expect(await shOk(box, 'cat mount/src/index.js')).toBe('console.log(1);\n');
  });
});
