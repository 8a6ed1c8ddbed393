import fs from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { type ArchiveServer, archiveServer } from '../../packages/node/test/origins/archive-server.ts';
import { expectSameTree, pseudoRandom, runDaemon, type Sandbox, sandbox } from '../helpers.ts';
import { archiveOf, compositionIn } from './archives.ts';

const FILES = {
  'package.json': '{"name": "thing"}',
  'lib/index.js': 'module.exports = 1;\n',
  'lib/large': pseudoRandom(700_000),
  'bin/run': { executable: '#!/bin/sh\necho ran\n' },
  'latest.js': { symlink: 'lib/index.js' },
};

describe.each(['without a daemon', 'with a daemon'])('trees of origins %s', (kind) => {
  let box: Sandbox;
  let server: ArchiveServer;
  let url: string;
  let integrity: string;

  beforeAll(async () => {
    box = sandbox();
    server = await archiveServer();
    url = `${server.url}/thing.tgz`;
    const archive = archiveOf(box, 'thing', FILES);
    integrity = archive.integrity;
    server.files.set('thing.tgz', archive.bytes);
    fs.writeFileSync(box.path('thing.tgz'), archive.bytes);
    if (kind === 'with a daemon') await runDaemon({ home: box.home });
  });

  test('are listed, printed, compared, imported and exported like others', async () => {
    expect(await box.ok('ls', `tar:${url}`)).toBe('bin/\nlatest.js\nlib/\npackage.json');
    expect(await box.ok('cat', `tar:${url}//lib/index.js`)).toBe('module.exports = 1;');
    expect(await box.ok('ls', 'tar:thing.tgz//lib')).toBe('index.js\nlarge');
    expect(await box.ok('cat', 'tar:thing.tgz/lib/index.js')).toBe('module.exports = 1;');
    expect(await box.ok('ls', `tar:${url}/lib`)).toBe('index.js\nlarge');
    expect(await box.ok('cat', 'dir:source of thing/lib/index.js')).toBe('module.exports = 1;');
    expect((await box.run(['cat', 'tar:nothing.tgz/lib/index.js'])).code).toBe(4);
    expect(await box.ok('diff', `tar:${url}`, 'tar:thing.tgz')).toBe('');
    const root = await box.ok('import', `tar:${url}`, '--name', 'thing');
    expect(await box.ok('import', 'dir:source of thing')).toBe(root);
    expect(await box.ok('import', `tar:${url}#${integrity}`)).toBe(root);
    await box.ok('export', `tar:${url}`, 'exported');
    expectSameTree(box.path('source of thing'), box.path('exported'));
    expect(
      (await box.json<{ source?: string }[] & { snapshots: unknown[] }>('log', 'thing')).snapshots,
    ).toHaveLength(1);
  });

  test('stay lazy in a tree until they are needed', async () => {
    const file = compositionIn(box, 'lazy.json', {
      '.': 'dir:source of thing',
      'vendor/thing': `tar:${url}#${integrity}&strip=0`,
      'vendor/other': { from: 'thing/lib' },
    });
    const other = archiveOf(box, 'lazy', { 'only.here': 'lazy\n' });
    server.files.set('lazy.tgz', other.bytes);
    const lazy = compositionIn(box, 'lazier.json', {
      deps: `tar:${server.url}/lazy.tgz#${other.integrity}`,
      'deps/nested/more': `tar:${url}#${integrity}`,
    });
    const before = server.log.length;
    await box.ok('compose', file, '--name', 'composed');
    await box.ok('compose', lazy, '--name', 'lazy');
    expect(await box.ok('ls', 'composed/vendor')).toBe('other/\nthing/');
    expect(await box.ok('ls', '-l', 'lazy')).toMatch(/^o +0 +- +deps\/ <- tar:http.*lazy\.tgz$/);
    expect(await box.json('stat', 'lazy/deps')).toMatchObject({ kind: 'origin', integrity: other.integrity });
    expect(await box.ok('why', 'lazy/deps/only.here')).toMatch(/^deps: not fetched yet, it is tar:http/);
    expect(server.log.length).toBe(before);
    expect(await box.ok('cat', 'lazy/deps/only.here')).toBe('lazy');
    expect(await box.ok('ls', 'lazy/deps')).toBe('nested/\nonly.here');
    expect(await box.ok('ls', 'lazy/deps/nested')).toBe('more/');
    expect(await box.ok('cat', 'lazy/deps/nested/more/lib/index.js')).toBe('module.exports = 1;');
    // What the archive was imported from before is what it stands for.
    expect(server.log.length).toBe(before + 1);
  });

  test('lose what is lazy when they are resolved', async () => {
    const root = await box.ok('resolve', 'lazy', '--name', 'plain');
    expect(await box.ok('ls', '-l', 'plain')).toMatch(/^d /);
    expect(await box.ok('diff', 'lazy', root)).toBe('');
    expect(await box.ok('resolve', 'plain')).toBe(root);
    await box.ok('export', 'lazy', 'one');
    await box.ok('export', 'plain', 'two');
    expectSameTree(box.path('two'), box.path('one'));
    fs.writeFileSync(box.path('one/deps/only.here'), 'changed\n');
    await box.ok('export', 'lazy', 'one', '--update');
    expectSameTree(box.path('two'), box.path('one'));
  });

  test('say where they have come from', async () => {
    const { reasons } = await box.json<{ reasons: Record<string, unknown>[] }>(
      'why',
      'plain/deps/nested/more/bin/run',
    );
    const fetched = reasons.find(({ reference }) => reference === `tar:${url}`);
    expect(fetched).toMatchObject({ path: 'deps/nested/more', integrity, from: 'origin', requests: 1 });
    expect(fetched?.bytes).toBeGreaterThan(700_000);
    expect(await box.ok('why', 'plain/deps/nested/more/bin/run')).toMatch(
      /from its origin, .* KiB in 1 request/,
    );
  });

  test('are there offline, if they ever were; else it is said what is not', async () => {
    const stop = server.fail(500);
    expect(await box.ok('ls', '--offline', `tar:${url}`)).toContain('lib/');
    expect(await box.ok('ls', '--offline', `tar:${url}#${integrity}//lib`)).toContain('large');
    expect(await box.ok('cat', '--offline', 'lazy/deps/only.here')).toBe('lazy');
    // What is on this machine needs no network.
    fs.copyFileSync(box.path('thing.tgz'), box.path('copy.tgz'));
    expect(await box.ok('ls', '--offline', 'tar:copy.tgz/lib')).toContain('large');
    expect(await box.ok('cat', '--offline', 'dir:source of thing/lib/index.js')).toBe('module.exports = 1;');
    const requests = server.log.length;
    const { code, err } = await box.run(['ls', `tar:${server.url}/other.tgz`], {
      env: { LAZYTREE_OFFLINE: '1' },
    });
    expect([code, err]).toEqual([
      7,
      expect.stringMatching(/^lazytree: offline, and tar:http\S+other\.tgz is not here/),
    ]);
    const never = archiveOf(box, 'never', { file: 'never\n' });
    const lazy = compositionIn(box, 'never.json', { deps: `tar:${server.url}/never.tgz#${never.integrity}` });
    await box.ok('compose', lazy, '--name', 'never');
    for (const command of ['prefetch', 'resolve']) {
      const failed = await box.run([command, '--offline', 'never']);
      expect([failed.code, failed.err]).toEqual([7, expect.stringContaining('never.tgz is not here')]);
    }
    // All of them, wherever in the tree they are, and before anything is written.
    const many = {
      deps: `tar:${server.url}/never.tgz#${never.integrity}`,
      'more/deps': `tar:${server.url}/ever.tgz#${never.integrity}`,
    };
    await box.ok('compose', compositionIn(box, 'many.json', many), '--name', 'many');
    const missing = ['ever.tgz', 'never.tgz'].map((name) => expect.stringMatching(`^tar:http.*/${name}`));
    for (const command of [
      ['resolve', 'many'],
      ['prefetch', 'many'],
      ['export', 'many', 'nothing'],
    ]) {
      const { code, out } = await box.run([...command, '--offline', '--json']);
      expect([code, JSON.parse(out).error]).toEqual([
        7,
        expect.objectContaining({ code: 'NETWORK', missing }),
      ]);
    }
    expect(fs.existsSync(box.path('nothing'))).toBe(false);
    expect(server.log.length).toBe(requests);
    stop();
  });

  test('that cannot be had say why', async () => {
    const errors: [string, number, RegExp][] = [
      [`tar:${server.url}/none.tgz`, 4, /none\.tgz answers with status 404/],
      [`tar:${url}#sha512-${'A'.repeat(86)}==`, 5, /is not what it should be/],
      ['tar:none.tgz', 4, /no such file/],
      ['nobody:knows', 2, /nobody knows origins of the kind 'nobody:'/],
      ['tar:', 2, /without a URL or a path/],
      ['tar:thing.tgz//none', 4, /there is no 'none'/],
    ];
    for (const [tree, expected, message] of errors) {
      const { code, out, err } = await box.run(['ls', tree]);
      expect({ tree, code, out }).toEqual({ tree, code: expected, out: '' });
      expect(err).toMatch(message);
      expect(err).toMatch(/^lazytree: [^\n]+\n$/);
    }
  });

  test('come from third parties as well', async () => {
    fs.writeFileSync(
      box.path('numbers.mjs'),
      `export const driver = {
        name: 'numbers',
        summary: 'numbers:N, files with the numbers up to N',
        parse: (text) => String(Number(text)),
        pin: async (reference) => ({ reference, integrity: 'n-' + reference }),
        async fetch({ reference }, { newTree, onReceived }) {
          const tree = newTree();
          for (let i = 1; i <= Number(reference); i++)
            await tree.file(String(i), Buffer.from(String(i)), { executable: false });
          onReceived(Number(reference), 1);
          return { entry: await tree.finish(), integrity: 'n-' + reference, notes: [] };
        },
      };`,
    );
    expect((await box.run(['ls', 'numbers:3'])).code).toBe(2);
    fs.writeFileSync(
      box.path('lazytree.config.json'),
      JSON.stringify({ origins: { numbers: './numbers.mjs' } }),
    );
    expect(await box.ok('ls', 'numbers:3')).toBe('1\n2\n3');
    expect(await box.ok('ls', 'numbers:03')).toBe('1\n2\n3');
    const file = compositionIn(box, 'numbers.json', { n: 'numbers:2' });
    await box.ok('compose', file, '--name', 'numbers');
    expect(await box.ok('cat', 'numbers/n/2')).toBe('2');
    fs.writeFileSync(box.path('lazytree.config.json'), JSON.stringify({ origins: { other: './none.mjs' } }));
    const { code, err } = await box.run(['ls', 'other:1']);
    expect([code, err]).toEqual([4, expect.stringMatching(/'other:' cannot be loaded from '\.\/none\.mjs'/)]);
  });

  test('of compositions that are none are refused', async () => {
    const bad: [unknown, RegExp][] = [
      [{ '../out': 'thing' }, /leads out of the tree/],
      [{ a: 'thing', './a': 'thing' }, /a path twice/],
      [{ a: 'tar:thing.tgz//lib' }, /names a path in an origin/],
      [{ a: { form: 'thing' } }, /tree/],
      [{}, /composes nothing/],
    ];
    for (const [tree, message] of bad) {
      const { code, err } = await box.run([
        'compose',
        compositionIn(box, 'bad.json', tree as Record<string, unknown>),
      ]);
      expect([code, err]).toEqual([2, expect.stringMatching(message)]);
    }
    fs.writeFileSync(box.path('bad.yaml'), 'tree: [');
    expect((await box.run(['compose', 'bad.yaml'])).code).toBe(2);
    fs.writeFileSync(box.path('bad.yaml'), 'tree:\n  a: !!unknown thing\n');
    const tagged = await box.run(['compose', 'bad.yaml']);
    expect([tagged.code, tagged.err]).toEqual([
      2,
      expect.stringMatching(/^lazytree: [^\n]*Unresolved tag[^\n]*\n$/),
    ]);
    expect(await box.run(['compose', '.'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('is a directory'),
    });
  });

  test('are kept by gc as long as a tree needs them', async () => {
    await box.ok('gc');
    const requests = server.log.length;
    expect(await box.ok('cat', 'lazy/deps/only.here')).toBe('lazy');
    expect(await box.ok('ls', 'lazy/deps/nested/more')).toContain('lib/');
    expect(server.log.length).toBe(requests);
    for (const name of ['lazy', 'plain', 'composed', 'thing', 'numbers']) await box.ok('ref', 'rm', name);
    await box.ok('gc');
    expect((await box.run(['ls', '--offline', `tar:${url}#${integrity}`])).code).toBe(7);
    expect(await box.ok('ls', `tar:${url}#${integrity}`)).toContain('lib/');
    await box.ok('verify');
  });
});
