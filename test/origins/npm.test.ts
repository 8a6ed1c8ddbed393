import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { git } from '../../packages/node/test/origins/git-repositories.ts';
import { startGitServer } from '../../packages/node/test/origins/git-server.ts';
import { integrityOf } from '../../packages/node/test/origins/npm/packed.ts';
import {
  type Manifest,
  type PublishOptions,
  type Registry,
  registry,
} from '../../packages/node/test/origins/npm/registry.ts';
import { HERE } from '../cluster/lan.ts';
import { unlessNetworked } from '../cluster/network.ts';
import { addNode, joinAll } from '../cluster/nodes.ts';
import { type Sandbox, sandbox, writeFiles } from '../helpers.ts';
import { stopDaemon, unlessMountable } from '../mount/mountable.ts';
import { sh, shOk } from '../mount/mounted.ts';
import { compositionIn } from './archives.ts';

/** A lockfile of what is published to it, without addresses: packages are those of whatever registry is configured. */
function lockedRegistry(at: Registry) {
  const packages: Record<string, object> = { '': { name: 'app', version: '1.0.0' } };
  return {
    /** @param locked what the lockfile says beside the manifest */
    add(manifest: Manifest, options: PublishOptions & { locked?: object; below?: string } = {}) {
      const { locked, below = '', ...published } = options;
      const integrity = integrityOf(at.publish(manifest, published));
      const { version, bin } = manifest;
      packages[`${below}node_modules/${manifest.name}`] = {
        version,
        integrity,
        ...(bin ? { bin } : {}),
        ...locked,
      };
    },
    text: () => JSON.stringify({ name: 'app', lockfileVersion: 3, requires: true, packages }),
  };
}

function publishApp(at: Registry): string {
  const lock = lockedRegistry(at);
  lock.add(
    { name: 'app-lib', version: '1.0.0' },
    { files: { 'index.js': "module.exports = require('dep') + 1;" } },
  );
  lock.add({ name: 'dep', version: '2.0.0' }, { files: { 'index.js': 'module.exports = 41;' } });
  lock.add({ name: 'unused', version: '1.0.0' }, { files: { 'index.js': "throw new Error('unused')" } });
  lock.add(
    { name: '@scope/tool', version: '3.0.0', bin: { tool: 'cli.js' } },
    { files: { 'cli.js': "#!/usr/bin/env node\nconsole.log('tool ' + require('dep'));" } },
  );
  lock.add(
    { name: 'dep', version: '1.0.0' },
    { files: { 'index.js': 'module.exports = 1;' }, below: 'node_modules/@scope/tool/' },
  );
  return lock.text();
}

const USE = `node -p "require('app-lib')"`;

describe.skipIf(unlessMountable('packages of lockfiles'))('a lockfile', () => {
  let box: Sandbox;
  let at: Registry;

  beforeEach(async () => {
    at = await registry();
    box = sandbox(undefined, { env: at.environment });
    fs.writeFileSync(box.path('package-lock.json'), publishApp(at));
  });

  afterEach(() => stopDaemon(box));

  test('is a workspace at once, and only packages that are used are downloaded', async () => {
    const from = 'npm-lock:package-lock.json';
    expect(await box.ok('workspace', 'create', 'app', '--from', from, './node_modules')).toBe(
      box.path('node_modules'),
    );
    expect(await shOk(box, 'ls -A node_modules node_modules/.bin node_modules/@scope')).toBe(
      `node_modules:\n.bin\n.package-lock.json\n@scope\napp-lib\ndep\nunused\n
node_modules/.bin:\ntool\n\nnode_modules/@scope:\ntool\n`,
    );
    expect(at.log).toEqual([]);
    expect(await shOk(box, USE)).toBe('42\n');
    expect(at.log.toSorted()).toEqual(['GET /app-lib/-/app-lib-1.0.0.tgz', 'GET /dep/-/dep-2.0.0.tgz']);
    expect(await shOk(box, 'node_modules/.bin/tool; echo more > node_modules/unused.txt')).toBe('tool 1\n');
    expect(await shOk(box, `rm -r node_modules/dep; ${USE} 2>&1 | grep -c MODULE_NOT_FOUND`)).not.toBe('0\n');
    expect(at.log).toHaveLength(4);
    await box.ok('workspace', 'save', 'app');
    expect(await box.ok('ls', 'app')).toBe(
      '.bin/\n.package-lock.json\n@scope/\napp-lib/\nunused/\nunused.txt',
    );
    expect(at.log.filter((line) => line.includes('unused'))).toEqual([]);
  });

  test('is resolved at once in a checkout of git, and its packages are not', async () => {
    fs.mkdirSync(box.path('served/app.git'), { recursive: true });
    git(box.path('served/app.git'), 'init', '--quiet', '--bare', '--initial-branch=main');
    writeFiles(box.path('work'), { 'main.js': "console.log(require('app-lib'))", 'package.json': '{}' });
    for (const args of [
      ['init', '--quiet', '--initial-branch=main'],
      ['add', '.'],
      ['commit', '--quiet', '-m', 'app'],
      ['push', '--quiet', box.path('served/app.git'), 'main'],
    ])
      git(box.path('work'), ...args);
    const server = await startGitServer(box.path('served'));
    const file = compositionIn(box, 'app.json', {
      '.': `git:${server.url}/app.git#main`,
      node_modules: 'npm-lock:package-lock.json',
    });
    const { root, entries } = await box.json<{ root: string; entries: { path: string; lazy: boolean }[] }>(
      'compose',
      file,
      '--name',
      'app',
    );
    expect(entries.map(({ path, lazy }) => [path, lazy])).toEqual([
      ['', false],
      ['node_modules', false],
    ]);
    expect(at.log).toEqual([]);
    fs.rmSync(box.path('package-lock.json'));
    expect(await box.ok('ls', 'app/node_modules')).toBe(
      '.bin/\n.package-lock.json\n@scope/\napp-lib/\ndep/\nunused/',
    );
    expect(await box.ok('ls', '-l', 'app/node_modules')).toMatch(/^o .* dep\/ <- npm:dep@2\.0\.0/m);
    await box.ok('mount', root, 'there');
    expect(await shOk(box, 'node there/main.js')).toBe('42\n');
    expect(at.log).toHaveLength(2);
  });
});

describe.skipIf(unlessMountable('packages that are likely'))('packages of a lockfile', () => {
  let box: Sandbox;
  let at: Registry;
  const asked = () => at.log.map((line) => line.replace(/^GET .*\/-\/(.*)-[^-]*$/, '$1')).toSorted();

  beforeEach(async () => {
    at = await registry();
    box = sandbox(undefined, { env: at.environment });
    const lock = lockedRegistry(at);
    const add = (name: string, code: string, needs: string[], below?: string) =>
      lock.add(
        { name, version: '1.0.0' },
        {
          files: { 'index.js': code },
          locked: { dependencies: Object.fromEntries(needs.map((need) => [need, '1'])) },
          ...(below === undefined ? {} : { below }),
        },
      );
    add('top', "require('first')", ['first', 'second']);
    add('first', '', ['third']);
    add('second', '', []);
    add('third', '', ['fourth']);
    add('fourth', '', ['far'], 'node_modules/third/');
    add('fourth', '', ['unused']);
    add('far', '', ['farther']);
    add('farther', '', ['farthest']);
    add('farthest', '', []);
    add('unused', '', []);
    fs.writeFileSync(box.path('package-lock.json'), lock.text());
  });

  afterEach(() => stopDaemon(box));

  test('are fetched ahead for who follows what they need, two steps, and no others', async () => {
    const from = 'npm-lock:package-lock.json';
    await box.ok('workspace', 'create', 'app', '--from', from, './node_modules');
    await shOk(box, 'ls -lR node_modules/.package-lock.json; cat node_modules/top/index.js');
    expect(asked()).toEqual(['top']);
    await shOk(box, `node -e "require('top')"`);
    await expect.poll(asked).toEqual(['first', 'fourth', 'second', 'third', 'top']);
    await shOk(box, 'cat node_modules/third/node_modules/fourth/index.js node_modules/second/index.js');
    await expect.poll(asked).toEqual(['far', 'farther', 'first', 'fourth', 'second', 'third', 'top']);
    await box.ok('workspace', 'remove', '--discard', 'app');
  });

  test('are not, where nothing is to be fetched ahead', async () => {
    await box.ok('mount', '--no-prefetch', 'npm-lock:package-lock.json', 'node_modules');
    await shOk(box, `node -e "require('top')"; sleep 0.3`);
    expect(asked()).toEqual(['first', 'top']);
    await box.ok('unmount', 'node_modules');
  });
});

describe.skipIf(unlessMountable('install scripts'))('install scripts of a lockfile', () => {
  let box: Sandbox;
  let at: Registry;
  const from = ['--from', 'npm-lock:package-lock.json'];
  const scripted = { locked: { hasInstallScript: true } };
  /** What has run, in its order. */
  const ran = () => fs.readFileSync(box.path('ran'), 'utf8').trim().split('\n');

  beforeEach(async () => {
    at = await registry();
    box = sandbox(undefined, { env: at.environment });
    const lock = lockedRegistry(at);
    const note = (text: string) => `echo ${text} >> ${box.path('ran')}`;
    lock.add(
      {
        name: 'native',
        version: '1.0.0',
        scripts: {
          preinstall: note('native-pre'),
          postinstall: `helper && echo built by $npm_lifecycle_event of $npm_package_name > built && ${note('native-post')}`,
        },
      },
      scripted,
    );
    lock.add(
      {
        name: 'inner',
        version: '1.0.0',
        scripts: { preinstall: note('inner-pre'), install: note('inner-install') },
      },
      { ...scripted, below: 'node_modules/native/' },
    );
    lock.add(
      { name: 'helper', version: '1.0.0', bin: 'helper.js' },
      { files: { 'helper.js': '#!/bin/sh\n' }, locked: { bin: { helper: 'helper.js' } } },
    );
    lock.add(
      { name: 'fragile', version: '1.0.0', scripts: { install: 'echo no compiler >&2; exit 3' } },
      { locked: { hasInstallScript: true, optional: true } },
    );
    lock.add({ name: 'quiet', version: '1.0.0' });
    fs.writeFileSync(box.path('package-lock.json'), lock.text());
  });

  afterEach(() => stopDaemon(box));

  test('are listed, and not run', async () => {
    const { code, err } = await box.run(['workspace', 'create', 'app', ...from, 'node_modules']);
    expect(code).toBe(0);
    expect(err).toMatch(/native@1\.0\.0 has install scripts that were not run/);
    expect(err).toMatch(/fragile@1\.0\.0 has install scripts/);
    expect(err).not.toMatch(/quiet|helper/);
    expect(await shOk(box, 'cat node_modules/native/package.json | wc -l')).toBe('0\n');
    expect(fs.existsSync(box.path('ran'))).toBe(false);
  });

  test('run when that is wanted, in the order of npm, and write to the workspace alone', async () => {
    const { code, out, err } = await box.run([
      'workspace',
      'create',
      'app',
      ...from,
      'node_modules',
      '--run-scripts',
      '--json',
    ]);
    expect({ code, err }).toMatchObject({
      code: 0,
      err: expect.stringContaining('fragile@1.0.0: no compiler'),
    });
    expect(err).toMatch(/the install script of fragile@1\.0\.0 failed with 3 .*optional/);
    const [native, inner] = ['node_modules/native', 'node_modules/native/node_modules/inner'];
    expect(JSON.parse(out)).toMatchObject({
      name: 'app',
      target: box.path('node_modules'),
      scripts: [
        { location: native, package: 'native@1.0.0', event: 'preinstall' },
        { location: inner, package: 'inner@1.0.0', event: 'preinstall' },
        { location: inner, event: 'install' },
        { location: native, event: 'postinstall' },
      ],
    });
    expect(ran().toSorted()).toEqual(['inner-install', 'inner-pre', 'native-post', 'native-pre']);
    expect(ran().slice(2)).toEqual(['inner-install', 'native-post']);
    expect(await shOk(box, 'cat node_modules/native/built')).toBe('built by postinstall of native\n');
    expect(at.log.filter((line) => line.includes('quiet'))).toEqual([]);
    await box.ok('workspace', 'save', 'app');
    expect(await box.ok('cat', 'app/native/built')).toBe('built by postinstall of native');
    expect((await box.run(['ls', 'npm-lock:package-lock.json//native'])).out).toBe(
      'node_modules/\npackage.json\n',
    );
  });

  test('that fail are told with what they said, and can be run again', async () => {
    const lock = lockedRegistry(at);
    const script = `echo "cannot build here" >&2; test -e ${box.path('mended')}`;
    lock.add({ name: 'broken', version: '1.0.0', scripts: { postinstall: script } }, scripted);
    fs.writeFileSync(box.path('package-lock.json'), lock.text());
    const create = ['workspace', 'create', 'app', ...from, 'node_modules', '--run-scripts'];
    const { code, err } = await box.run(create);
    expect(code).toBe(1);
    expect(err).toMatch(/^lazytree: warning: broken@1\.0\.0: cannot build here$/m);
    expect(err).toMatch(
      /^lazytree: the postinstall script of broken@1\.0\.0 failed with 1 \(node_modules\/broken\)/m,
    );
    expect((await box.run(['workspace', 'run-scripts', 'app'])).code).toBe(1);
    fs.writeFileSync(box.path('mended'), '');
    expect(await box.ok('workspace', 'run-scripts', 'app')).toBe(box.path('node_modules'));
  });

  test('are run in no other trees', async () => {
    fs.mkdirSync(box.path('plain'));
    await box.ok('import', 'plain', '--name', 'plain');
    const create = ['workspace', 'create', 'app', '--from', 'plain'];
    const { code, err } = await box.run([...create, '--run-scripts']);
    expect([code, err]).toEqual([2, expect.stringMatching(/--run-scripts is for trees of npm-lock:/)]);
    expect(await box.json('workspace', 'list')).toEqual({ workspaces: [] });
    await box.ok(...create);
    expect((await box.run(['workspace', 'run-scripts', 'app'])).code).toBe(4);
    expect((await sh(box, 'ls -A app')).out).toBe('');
  });
});

describe.skipIf(unlessNetworked('packages in clusters'))('packages that a peer has', () => {
  test('come from it, without a request to the registry', async () => {
    // A node first: from then on, this process is on its network.
    const warm = await addNode('warm');
    const at = await registry(HERE);
    await warm.stop();
    const options = { env: at.environment };
    const [anna, bert] = [await addNode('anna', options), await addNode('bert', options)];
    await joinAll([anna, bert]);
    const lock = publishApp(at);
    const from = ['--from', 'npm-lock:package-lock.json', 'node_modules'];
    for (const node of [anna, bert]) {
      fs.writeFileSync(node.path('package-lock.json'), lock);
      await node.ok('workspace', 'create', `app-${node.name}`, ...from);
    }
    expect(at.log).toEqual([]);
    expect(await shOk(anna, USE)).toBe('42\n');
    expect(at.log).toHaveLength(2);
    expect(await shOk(bert, USE)).toBe('42\n');
    expect(at.log).toHaveLength(2);
    expect(await shOk(bert, 'node_modules/.bin/tool')).toBe('tool 1\n');
    expect(at.log).toHaveLength(4);
    expect(await bert.ok('why', 'app-bert/dep')).toMatch(
      /^dep: npm:dep@2\.0\.0\S* \(sha512-\S+\) from peer anna/,
    );
  });
});
