import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { bytesIn, UNREAD_BYTES, WORKSPACE } from '../cluster/trees.ts';
import { expectSameTree, type Sandbox, sandbox, writeFiles } from '../helpers.ts';
import { unlessMountable } from '../mount/mountable.ts';
import { shOk } from '../mount/mounted.ts';
import {
  bytesAt,
  destroy,
  expectSame,
  KINDS,
  newMachine,
  objectsIn,
  openPlace,
  type Place,
} from './places.ts';

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(50);
}

/** What comes beside what is read: nodes of directories, files beside those that were read, the index. */
const OVERHEAD = 3 << 20;

describe.skipIf(unlessMountable('remotes')).each(KINDS)('a workspace outlives its machine: %s', (kind) => {
  let place: Place;
  let original: string;
  let root: string;
  let other: string;

  beforeAll(async () => {
    place = await openPlace(kind);
    original = writeFiles(sandbox().path('app'), WORKSPACE);
    const ana = await newMachine(place);
    root = await ana.ok('import', original, '--name', 'app');
    expect(await ana.ok('push', 'app', 'r', '-m', 'the first')).toBe(root);
    fs.cpSync(original, ana.path('other'), { recursive: true, verbatimSymlinks: true });
    writeFiles(ana.path('other'), { 'src/new.js': 'new\n' });
    other = await ana.ok('import', ana.path('other'), '--name', 'other');
    await ana.ok('push', 'other', 'r');
    await destroy(ana);
  });

  test('what is pushed is compressed, in few objects', async () => {
    const names = [...(await objectsIn(place)).keys()].map((name) => name.split('/')[0]).sort();
    expect(names).toEqual(
      expect.arrayContaining(['index', 'index', 'packs', 'packs', 'refs', 'refs', 'roots', 'roots']),
    );
    expect(names.length).toBeLessThan(12);
    expect(await bytesAt(place)).toBeLessThan(UNREAD_BYTES + (200 << 10));
  });

  test('another one mounts it by name and runs it, having got what it reads', async () => {
    const ben = await newMachine(place);
    const before = bytesIn(ben.home);
    await ben.ok('mount', 'app@r', 'mounted');
    expect(await shOk(ben, 'ls -lR mounted | grep -c ^-')).toBe('311\n');
    expect(await shOk(ben, 'mounted/bin/run')).toBe('42\n');
    await ben.ok('mount', 'app', 'bare');
    expect(await shOk(ben, 'bare/bin/run; readlink bare/link.js')).toBe('42\nsrc/index.js\n');
    expect(bytesIn(ben.home) - before).toBeLessThan(OVERHEAD);
    await ben.ok('mount', root, 'by-root');
    expect(await shOk(ben, 'cat by-root/assets/a3/picture | cmp - mounted/assets/a3/picture')).toBe('');
    await expectSame(ben, original, 'mounted');
    for (const target of ['mounted', 'bare', 'by-root']) await ben.ok('unmount', target);
  });

  test('what was read of it is what another one fetches before it is asked', async () => {
    const ana = await newMachine(place);
    await ana.ok('mount', 'app@r', 'mounted', '--no-prefetch');
    await shOk(ana, 'cat mounted/assets/a5/picture > /dev/null');
    // It is mounted still.
    await ana.ok('push', 'app@r', 'r', '--name', 'app');
    const ben = await newMachine(place);
    const before = bytesIn(ben.home);
    await ben.ok('mount', 'app@r', 'mounted');
    await until(() => bytesIn(ben.home) - before > 2 << 20);
    expect(bytesIn(ben.home) - before).toBeLessThan(OVERHEAD + (2 << 20));
    await ben.ok('unmount', 'mounted');
    await ana.ok('unmount', 'mounted');
  });

  describe('commands', () => {
    let cleo: Sandbox;
    beforeAll(async () => {
      cleo = await newMachine(place);
    });

    test.each(['app@r', 'app'])('look at %s', async (name) => {
      expect((await cleo.ok('ls', name)).split('\n')).toEqual([
        'assets/',
        'bin/',
        'empty/',
        'lib/',
        'link.js',
        'modules/',
        'src/',
      ]);
      expect(await cleo.ok('cat', `${name}/lib/answer.js`)).toBe('module.exports = 42;');
      expect(await cleo.json('stat', name)).toMatchObject({ cid: root, files: 311 });
      expect(await cleo.ok('diff', name, 'other@r')).toBe('A\tsrc/new.js');
      expect(await cleo.json('diff', name, 'other@r')).toMatchObject({ changes: [{ path: 'src/new.js' }] });
    });

    test('list names, history and pins, also as JSON', async () => {
      const by = expect.stringMatching(/^\w+@/);
      const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT/);
      expect(await cleo.json('ref', 'list', '--remote', 'r')).toEqual({
        remote: 'r',
        refs: [
          { name: 'app', root, time, by },
          { name: 'other', root: other, time, by },
        ],
      });
      expect(await cleo.json('log', 'app', '--remote', 'r')).toEqual({
        name: 'app',
        remote: 'r',
        snapshots: [{ root, time, by, message: 'the first' }],
      });
      expect(await cleo.ok('log', 'app', '--remote', 'r')).toMatch(
        new RegExp(`^\\d{4}-\\S+ {2}${root} {2}\\w+@\\S+ {2}the first$`),
      );
      expect(await cleo.json('pin', 'list', '--remote', 'r')).toEqual({ remote: 'r', pins: [] });
      expect(await cleo.json('remote', 'validate', 'r')).toMatchObject({ remote: 'r', ok: true });
    });

    test('make a workspace of it, whose program runs and whose changes can be pushed', async () => {
      await cleo.ok('workspace', 'create', 'work', '--from', 'app@r');
      expect(await shOk(cleo, 'work/bin/run')).toBe('42\n');
      expect(await shOk(cleo, 'echo "module.exports = 43;" > work/lib/answer.js; work/bin/run')).toBe('43\n');
      const saved = await cleo.ok('workspace', 'save', 'work');
      expect(await cleo.json('push', 'work', 'r')).toMatchObject({
        root: saved,
        name: 'work',
        changed: true,
      });
      expect(await cleo.ok('diff', 'app@r', 'work@r')).toBe('M\tlib/answer.js');
      await cleo.ok('workspace', 'remove', 'work');
    });

    test('what is not there is not found, in one line', async () => {
      const cases = [
        ['ls', 'nothing@r'],
        ['mount', 'nothing', 'nowhere'],
        ['pull', 'nothing', 'r'],
        ['log', 'nothing', '--remote', 'r'],
        ['ls', 'app@elsewhere'],
        ['push', 'nothing', 'r'],
        ['push', 'app@r', 'elsewhere'],
      ];
      for (const args of cases) {
        const { code, out, err } = await cleo.run(args);
        expect({ args, code, out }).toEqual({ args, code: 4, out: '' });
        expect(err).toMatch(/^lazytree: [^\n]+\n$/);
      }
    });
  });

  test('it is exported, and pulled by name and by root', async () => {
    const dora = await newMachine(place);
    await dora.ok('export', 'app@r', 'exported');
    expectSameTree(original, dora.path('exported'));
    const emil = await newMachine(place);
    expect(await emil.json('pull', 'app', 'r')).toMatchObject({ root, remote: 'r', name: 'app', files: 311 });
    expect(await emil.ok('ref', 'get', 'app')).toBe(root);
    expect(await emil.json('pull', other, 'r', '--name', 'mine')).toMatchObject({
      root: other,
      name: 'mine',
    });
    // All of it is there now, with nobody else.
    await emil.ok('remote', 'rm', 'r');
    await emil.ok('daemon', 'stop');
    await emil.ok('export', 'app', 'exported');
    expectSameTree(original, emil.path('exported'));
    expect(await emil.ok('verify', 'mine')).toMatch(/^sound/);
  });
});
