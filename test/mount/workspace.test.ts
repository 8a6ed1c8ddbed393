import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listing, type Sandbox, sandbox, writeFiles } from '../helpers.ts';
import { stopDaemon, unlessMountable } from './mountable.ts';

const run = promisify(execFile);
const FILES = {
  'README.md': 'hello\n',
  'bin/tool': { executable: '#!/bin/sh\necho tool\n' },
  'src/index.js': 'console.log(1);\n',
  'src/deep/er/file': 'deep\n',
  link: { symlink: 'src/index.js' },
};

interface Listed {
  name: string;
  target: string;
  state: string;
  saved: string;
}

describe.skipIf(unlessMountable('workspaces'))('workspaces', () => {
  let box: Sandbox;
  let root: string;

  beforeEach(async () => {
    box = sandbox();
    writeFiles(box.path('source'), FILES);
    root = await box.ok('import', 'source', '--name', 'base');
  });

  afterEach(() => stopDaemon(box));

  const list = async () => (await box.json<{ workspaces: Listed[] }>('workspace', 'list')).workspaces;
  const sh = (script: string) => run('sh', ['-ec', script], { cwd: box.directory });

  test('a fork shows the tree, takes changes, and is saved as an import of it would be', async () => {
    expect(await box.ok('workspace', 'create', 'app', '--from', 'base')).toBe(box.path('app'));
    expect(listing(box.path('app')).slice(1)).toEqual(listing(box.path('source')).slice(1));
    expect(await box.ok('workspace', 'save', 'app')).toBe(root);
    await sh(`cd app
      echo more >> README.md; rm src/index.js; mkdir new; echo x > new/x; mv src/deep src/deeper
      chmod +x src/deeper/er/file; ln -sf README.md link; rm -r bin; echo file > bin`);
    const saved = await box.ok('workspace', 'save', 'app', '-m', 'changed');
    expect(saved).not.toBe(root);
    expect(await box.ok('import', 'app', '--no-cache')).toBe(saved);
    expect(await box.ok('workspace', 'save', 'app')).toBe(saved);
    const log = await box.json<{ snapshots: { root: string; message: string }[] }>('workspace', 'log', 'app');
    expect(log.snapshots.map(({ root: logged, message }) => [logged, message])).toEqual([
      [saved, 'changed'],
      [root, 'workspace created'],
    ]);
    expect(await box.ok('ls', 'app')).toContain('new/');
  });

  test('forks do not see each other, and removing what is in one leaves the others', async () => {
    await box.ok('workspace', 'create', 'one', '--from', root);
    await box.ok('workspace', 'create', 'two', '--from', root, 'elsewhere');
    await sh('echo 1 > one/mine; rm -rf elsewhere/*');
    expect(fs.readdirSync(box.path('elsewhere'))).toEqual([]);
    expect(fs.readFileSync(box.path('one/README.md'), 'utf8')).toBe('hello\n');
    await box.ok('workspace', 'fork', 'one', 'three');
    await sh('echo 3 > three/mine');
    expect(fs.readFileSync(box.path('one/mine'), 'utf8')).toBe('1\n');
    expect(await box.json('verify', root)).toMatchObject({ sound: true });
  });

  test('restore makes it equal to a tree, and saves first what was not saved', async () => {
    await box.ok('workspace', 'create', 'app', '--from', root);
    await sh('echo work > app/unsaved');
    await box.ok('workspace', 'restore', 'app', 'base');
    expect(fs.existsSync(box.path('app/unsaved'))).toBe(false);
    expect(await box.ok('workspace', 'save', 'app')).toBe(root);
    const { snapshots } = await box.json<{ snapshots: { root: string; message: string }[] }>('log', 'app');
    expect(snapshots.map(({ message }) => message)).toEqual([
      'restored from base',
      'before restoring base',
      'workspace created',
    ]);
    await box.ok('workspace', 'restore', 'app', snapshots[1].root);
    expect(fs.readFileSync(box.path('app/unsaved'), 'utf8')).toBe('work\n');
  });

  test('remove saves what was not saved, and --discard does not', async () => {
    for (const [name, options] of [
      ['kept', []],
      ['lost', ['--discard']],
    ] as const) {
      await box.ok('workspace', 'create', name, '--from', root);
      await sh(`echo work > ${name}/unsaved`);
      await box.ok('workspace', 'remove', name, ...options);
      expect(fs.existsSync(box.path(name))).toBe(false);
    }
    expect(await box.ok('cat', 'kept/unsaved')).toBe('work');
    expect(await box.ok('ref', 'get', 'lost')).toContain(root);
    expect(await list()).toEqual([]);
  });

  test('one that is in use is not removed, and who uses it is named', async () => {
    await box.ok('workspace', 'create', 'app', '--from', root);
    const user = spawn('sleep', ['60'], { cwd: box.path('app/src') });
    try {
      await sleep(100);
      const { code, err } = await box.run(['workspace', 'remove', 'app']);
      expect(code).toBe(8);
      expect(err).toContain(`sleep (process ${user.pid}, working directory ${box.path('app/src')})`);
      expect((await list())[0]).toMatchObject({ name: 'app', state: 'mounted' });
    } finally {
      user.kill();
      await once(user, 'exit');
    }
    await box.ok('workspace', 'remove', 'app');
  });

  test('kill -9 of the daemon loses nothing that was written, and the next one mounts it again', async () => {
    await box.ok('workspace', 'create', 'app', '--from', root);
    await sh('echo kept > app/kept; rm app/README.md');
    const { pid } = await box.json<{ pid: number }>('daemon', 'status');
    process.kill(pid, 'SIGKILL');
    const [workspace] = await list();
    expect(workspace).toMatchObject({ name: 'app', state: 'mounted' });
    expect(fs.readFileSync(box.path('app/kept'), 'utf8')).toBe('kept\n');
    expect(fs.existsSync(box.path('app/README.md'))).toBe(false);
    const saved = await box.ok('workspace', 'save', 'app');
    expect(await box.ok('import', 'app', '--no-cache')).toBe(saved);
  });

  test('gc keeps what workspaces need, with a daemon and without', async () => {
    await box.ok('workspace', 'create', 'app', '--from', root);
    await sh('echo changed > app/README.md');
    await box.ok('ref', 'rm', 'base');
    await box.ok('ref', 'rm', 'app');
    await box.ok('gc');
    expect(fs.readFileSync(box.path('app/src/deep/er/file'), 'utf8')).toBe('deep\n');
    await box.run(['daemon', 'stop']);
    await box.ok('gc');
    expect((await list())[0].state).toBe('mounted');
    expect(listing(box.path('app')).join()).not.toContain('is not there');
    expect(await box.json('verify', root)).toMatchObject({ sound: true });
  });

  test('saves itself, and thins out what it has saved', async () => {
    await box.ok(
      'workspace',
      'create',
      'app',
      '--from',
      root,
      '--autosave',
      '1s',
      '--keep',
      'last=2,hourly=0,daily=0,weekly=0',
    );
    const roots = async () =>
      (await box.json<{ snapshots: { root: string; message: string }[] }>('log', 'app')).snapshots;
    for (const text of ['a', 'b', 'c', 'd']) {
      const before = (await roots())[0].root;
      await sh(`echo ${text} > app/note`);
      while ((await roots())[0].root === before) await sleep(100);
    }
    const snapshots = await roots();
    expect(snapshots.map(({ message }) => message)).toEqual(['autosave', 'autosave', 'workspace created']);
    expect(await box.ok('cat', `${snapshots[1].root}/note`)).toBe('c');
  });

  test('50 of one root at once', async () => {
    const names = Array.from({ length: 50 }, (_, i) => `w${i}`);
    await Promise.all(names.map((name) => box.ok('workspace', 'create', name, '--from', root)));
    await Promise.all(names.map((name) => fs.promises.writeFile(box.path(`${name}/own`), `${name}\n`)));
    const roots = await Promise.all(names.map((name) => box.ok('workspace', 'save', name)));
    expect(new Set(roots).size).toBe(50);
    expect(await box.ok('cat', 'w37/own')).toBe('w37');
    expect((await list()).length).toBe(50);
    await Promise.all(names.map((name) => box.ok('workspace', 'remove', name)));
    expect(await list()).toEqual([]);
  });

  test.each([
    ['a name that is taken', ['create', 'app', '--from', 'base', 'x'], 8, "workspace 'app'"],
    ['a ref of another tree', ['create', 'other', '--from', 'base', 'x'], 8, "the ref 'other'"],
    ['a directory that is not empty', ['create', 'new', '--from', 'base', 'source'], 8, 'not empty'],
    ['a file', ['create', 'new', '--from', 'base', 'source/README.md'], 2, 'not a directory'],
    ['a tree that is not here', ['create', 'new', '--from', 'nothing', 'x'], 4, "'nothing'"],
    ['a file of a tree', ['create', 'new', '--from', 'base/README.md', 'x'], 2, 'not a directory'],
    ['no such workspace', ['save', 'nothing'], 4, "'nothing'"],
    ['a name that cannot be one', ['create', '../x', '--from', 'base', 'x'], 2, "'../x'"],
    [
      'an interval that is none',
      ['create', 'new', '--from', 'base', 'x', '--autosave', 'often'],
      2,
      "'often'",
    ],
  ])('%s is refused in one line, and changes nothing', async (_, args, expectedCode, text) => {
    await box.ok('workspace', 'create', 'app', '--from', root);
    await box.ok('import', 'source/src', '--name', 'other');
    const before = fs.readdirSync(box.directory);
    const { code, out, err } = await box.run(['workspace', ...args]);
    expect({ code, out }).toEqual({ code: expectedCode, out: '' });
    expect(err).toContain(text);
    expect(err.split('\n').filter((line) => line.startsWith('lazytree: error')).length).toBeLessThanOrEqual(
      1,
    );
    expect(fs.readdirSync(box.directory)).toEqual(before);
    expect((await list()).map(({ name }) => name)).toEqual(['app']);
  });

  test('`unmount` says what a workspace is, and leaves it', async () => {
    await box.ok('workspace', 'create', 'app', '--from', root);
    const { code, err } = await box.run(['unmount', 'app']);
    expect(code).toBe(2);
    expect(err).toContain('workspace remove app');
    expect(fs.existsSync(join(box.path('app'), 'README.md'))).toBe(true);
  });
});
