import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ArchiveServer, archiveServer } from '../../packages/node/test/origins/archive-server.ts';
import { pseudoRandom, type Sandbox, sandbox, start } from '../helpers.ts';
import { stopDaemon, unlessMountable } from '../mount/mountable.ts';
import { killDaemon, mountedOn, sh, shOk } from '../mount/mounted.ts';
import { archiveOf, compositionIn } from './archives.ts';

const LARGE = pseudoRandom(3_000_000);

describe.skipIf(unlessMountable('origins in mounts'))('an origin in a mount', () => {
  let box: Sandbox;
  let server: ArchiveServer;

  beforeEach(async () => {
    box = sandbox();
    server = await archiveServer();
    const parts: Record<string, unknown> = {};
    for (const name of ['one', 'two']) {
      const { bytes, integrity } = archiveOf(box, name, {
        'read.me': `${name}\n`,
        'lib/index.js': `module.exports = '${name}';\n`,
        'lib/large': LARGE,
        run: { executable: `#!/bin/sh\necho ${name}\n` },
      });
      server.files.set(`${name}.tgz`, bytes);
      parts[`modules/${name}`] = `tar:${server.url}/${name}.tgz#${integrity}`;
    }
    fs.mkdirSync(box.path('plain'));
    fs.writeFileSync(box.path('plain/file'), 'plain\n');
    parts['.'] = 'dir:plain';
    await box.ok('compose', compositionIn(box, 'app.json', parts), '--name', 'app');
    await box.ok('mount', 'app', 'there');
  });

  afterEach(async () => {
    await stopDaemon(box);
    expect(mountedOn(`${box.directory}/`, true)).toEqual([]);
  });

  const log = () =>
    fs
      .readFileSync(join(box.home, 'daemon.log'), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  test('is a directory like others, and nothing is fetched before it is looked into', async () => {
    expect(
      await shOk(box, 'ls -F there there/modules; stat -c "%F %h" there/modules/one; cat there/file'),
    ).toBe('there:\nfile\nmodules/\n\nthere/modules:\none/\ntwo/\ndirectory 2\nplain\n');
    expect(server.log).toEqual([]);
    const before = await shOk(box, 'stat -c %i there/modules/one');
    expect(await shOk(box, 'there/modules/one/run; cat there/modules/one/lib/index.js')).toBe(
      "one\nmodule.exports = 'one';\n",
    );
    expect(server.log).toEqual(['GET /one.tgz']);
    expect(await shOk(box, 'stat -c %i there/modules/one; cd there/modules/one && ls')).toBe(
      `${before}lib\nread.me\nrun\n`,
    );
    expect(await shOk(box, 'getfattr --only-values -n user.lazytree.cid there/modules/one')).toMatch(/^bafy/);
    expect(await shOk(box, 'find there -type f | wc -l')).toBe('9\n');
    expect(server.log).toEqual(['GET /one.tgz', 'GET /two.tgz']);
  });

  test('is fetched once for all who look into it at the same time', async () => {
    const script = 'for i in $(seq 30); do cat there/modules/two/lib/index.js & done; wait';
    expect(await shOk(box, script)).toBe("module.exports = 'two';\n".repeat(30));
    expect(server.log).toEqual(['GET /two.tgz']);
  });

  test('keeps nobody waiting who wants something else, and can be interrupted', async () => {
    const go = server.stall();
    const reader = start(['cat', box.path('there/modules/one/read.me')], { home: box.home });
    await sleep(300);
    expect(await shOk(box, 'cat there/file; ls there/modules')).toBe('plain\none\ntwo\n');
    reader.child.kill('SIGINT');
    expect((await reader.ended).signal).toBe('SIGINT');
    go();
    expect(await shOk(box, 'cat there/modules/one/read.me')).toBe('one\n');
  });

  test('that cannot be had is an error of its reader, and told in the log; later it can', async () => {
    const mend = server.fail(404);
    const { code, err } = await sh(box, 'ls there/modules/one');
    expect([code, err]).toEqual([2, expect.stringMatching(/Input\/output error/)]);
    expect(log().find(({ msg }) => msg === 'EIO')).toMatchObject({
      origin: expect.stringMatching(/^tar:http\S+\/one\.tgz$/),
      path: 'modules/one',
      root: expect.stringMatching(/^bafy/),
      error: expect.stringMatching(/404/),
    });
    mend();
    expect(await shOk(box, 'ls there/modules/one')).toBe('lib\nread.me\nrun\n');
  });

  test('that is not what it should be is never seen', async () => {
    server.files.set('one.tgz', server.files.get('two.tgz') as Buffer);
    const { err } = await sh(box, 'cat there/modules/one/read.me');
    expect(err).toMatch(/Input\/output error/);
    expect(log().find(({ msg }) => msg === 'EIO')).toMatchObject({
      error: expect.stringMatching(/is not what it should be/),
    });
  });

  test('is looked into again after its daemon was killed in the middle of it', async () => {
    expect(await shOk(box, 'cat there/modules/one/read.me; stat -c %i there/modules/one')).toMatch(
      /^one\n\d+\n$/,
    );
    const before = await shOk(box, 'stat -c %i there/modules/one there/modules/two');
    const go = server.stall();
    const reader = start(['cat', box.path('there/modules/two/read.me')], { home: box.home });
    await sleep(300);
    await killDaemon(box);
    go();
    await box.ok('mounts');
    expect((await reader.ended).out).toBe('two\n');
    expect(await shOk(box, 'cat there/modules/one/lib/index.js')).toBe("module.exports = 'one';\n");
    expect(await shOk(box, 'stat -c %i there/modules/one there/modules/two')).toBe(before);
    expect(server.log.filter((line) => line === 'GET /one.tgz')).toHaveLength(1);
    await box.ok('verify');
  });

  test('is in a workspace what it is in a mount, and is saved as it is unless it was changed', async () => {
    await box.ok('workspace', 'create', 'ws', '--from', 'app');
    expect(await shOk(box, 'ls ws/modules; echo more > ws/more')).toBe('one\ntwo\n');
    await box.ok('workspace', 'save', 'ws');
    expect(server.log).toEqual([]);
    expect(await box.ok('ls', '-l', 'ws/modules')).toMatch(/^o .*\no /);
    expect(
      await shOk(box, 'ws/modules/one/run; echo new > ws/modules/one/lib/new; rm ws/modules/one/read.me'),
    ).toBe('one\n');
    await box.ok('workspace', 'save', 'ws');
    expect(await box.ok('ls', '-l', 'ws/modules')).toMatch(/^d .*one\/\no .*two\//);
    expect(await box.ok('ls', '-R', 'ws/modules/one')).toBe('lib/\nlib/index.js\nlib/large\nlib/new\nrun');
    expect(server.log).toEqual(['GET /one.tgz']);
    await box.ok('workspace', 'fork', 'ws', 'other');
    expect(await shOk(box, 'cat other/modules/one/lib/new other/modules/two/read.me')).toBe('new\ntwo\n');
    expect(server.log).toEqual(['GET /one.tgz', 'GET /two.tgz']);
    expect(await box.ok('diff', 'app', 'ws')).toBe('A\tmodules/one/lib/new\nD\tmodules/one/read.me\nA\tmore');
  });

  test('may be a file, whose size is known when it is looked up', async () => {
    fs.writeFileSync(
      box.path('word.mjs'),
      `let fetches = 0;
      export const driver = {
        name: 'word',
        summary: 'word:TEXT, a file with that text',
        parse: (text) => text,
        isFile: () => true,
        pin: async (reference) => ({ reference, integrity: 'word-' + reference }),
        async fetch({ reference, integrity }, { newTree }) {
          const tree = newTree();
          const entry = await tree.file('word', Buffer.from(reference + ++fetches), { executable: true });
          await tree.finish();
          return { entry, integrity, notes: [] };
        },
      };`,
    );
    fs.writeFileSync(
      join(box.home, 'lazytree.config.json'),
      JSON.stringify({ origins: { word: '../word.mjs' } }),
    );
    const words = compositionIn(box, 'words.json', {
      a: 'word:hello',
      'd/b': 'word:hello',
      c: 'word:longer',
    });
    const root = await box.ok('compose', words);
    await box.ok('mount', root, 'words');
    expect(await shOk(box, 'ls words words/d')).toBe('words:\na\nc\nd\n\nwords/d:\nb\n');
    expect(
      await shOk(
        box,
        'stat -c "%s %A" words/c; cat words/d/b; stat -c "%n %s" words/*; cmp words/a words/d/b',
      ),
    ).toBe('7 -rw-r--r--\nhello2words/a 6\nwords/c 7\nwords/d 0\n');
    await box.ok('export', root, 'exported');
    expect(await shOk(box, 'cat exported/a exported/c')).toBe('hello2longer1');
  });

  test('is brought by a prefetch', async () => {
    await box.ok('prefetch', 'app');
    expect([...server.log].sort()).toEqual(['GET /one.tgz', 'GET /two.tgz']);
    server.fail(500);
    expect(await shOk(box, 'cat there/modules/one/lib/large there/modules/two/lib/large | wc -c')).toBe(
      '6000000\n',
    );
  });

  test('is kept by gc while it is mounted', async () => {
    expect(await shOk(box, 'cat there/modules/one/read.me')).toBe('one\n');
    await box.ok('ref', 'rm', 'app');
    await box.ok('gc');
    server.fail(500);
    expect(await shOk(box, 'cat there/modules/one/lib/large | wc -c')).toBe('3000000\n');
  });
});
