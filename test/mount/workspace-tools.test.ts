import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CORPUS, hasCorpus } from '../../scripts/lib/corpus.mjs';
import { expectSameTree, ROOT, type Sandbox, sandbox, writeFiles } from '../helpers.ts';
import { stopDaemon, unlessMountable } from './mountable.ts';

/** Real tools in a real workspace: what they leave has to be what they leave on the disk below. */

const exec = promisify(execFile);
const NPM = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
const MINUTES = 60_000;

/** What `npm run` has set for this repository must not lead another npm here. */
const ENV = Object.fromEntries(
  Object.entries({ ...process.env, NODE_OPTIONS: '--openssl-legacy-provider', CI: '1' }).filter(
    ([name]) => !/^(npm_(config_(local_prefix|workspaces?)|package|lifecycle)|INIT_CWD)/i.test(name),
  ),
);

async function sh(cwd: string, script: string): Promise<string> {
  const { stdout } = await exec('sh', ['-ec', script], { cwd, env: ENV, maxBuffer: 1 << 28 });
  return stdout.trim();
}

const APP = {
  'webpack.config.js': `module.exports = { mode: 'production', entry: './src/index.js', target: 'node',
    module: { rules: [{ test: /\\.js$/, exclude: /node_modules/, use: { loader: 'babel-loader',
      options: { presets: ['@babel/preset-env', '@babel/preset-react'] } } }] } };\n`,
  'src/index.js': `import React from 'react';
import { renderToString } from 'react-dom/server';
const App = ({ name }) => <p>Hello, {name}!</p>;
console.log(renderToString(<App name="tree" />));\n`,
  'src/sum.js': 'module.exports = (a, b) => a + b;\n',
  'src/sum.test.js': "const sum = require('./sum');\ntest('adds', () => expect(sum(1, 2)).toBe(3));\n",
};

describe.skipIf(unlessMountable('tools in workspaces'))('tools in a workspace', () => {
  let box: Sandbox;

  beforeAll(() => {
    box = sandbox();
  });

  afterAll(() => stopDaemon(box));

  test('git: clone, commit, branch, checkout, gc, fsck', { timeout: 5 * MINUTES }, async () => {
    await box.ok('workspace', 'create', 'clone');
    const version = await sh(ROOT, 'git rev-parse HEAD').catch(() => undefined);
    const source = version ? ROOT : await emptyRepository(box);
    await sh(
      box.path('clone'),
      `git clone -q --no-hardlinks "${source}" repo; cd repo
       git config user.email t@example.org; git config user.name t
       git checkout -q -b work; echo new > new; git add new; git mv README.md READ.md; git commit -qm one
       git checkout -q -; test ! -e new; git checkout -q work; test "$(cat new)" = new
       git gc -q; git fsck --strict; git status --porcelain > ../status; test ! -s ../status`,
    );
    const saved = await box.ok('workspace', 'save', 'clone');
    expect(await box.ok('import', 'clone', '--no-cache')).toBe(saved);
    await box.ok('workspace', 'fork', 'clone', 'fork');
    expect(await sh(box.path('fork/repo'), 'git fsck --strict --no-dangling && git status --porcelain')).toBe(
      '',
    );
  });

  describe.skipIf(!hasCorpus())('the corpus', () => {
    let disk: string;

    beforeAll(async () => {
      disk = writeFiles(box.path('disk'), APP);
      for (const name of ['package.json', 'package-lock.json']) {
        fs.copyFileSync(join(CORPUS, name), join(disk, name));
      }
      await sh(disk, `npm ci ${NPM.join(' ')}`);
    }, 10 * MINUTES);

    test('npm ci in an empty workspace leaves what it leaves on disk', {
      timeout: 10 * MINUTES,
    }, async () => {
      await box.ok('workspace', 'create', 'empty');
      writeFiles(box.path('empty'), APP);
      for (const name of ['package.json', 'package-lock.json']) {
        fs.copyFileSync(join(CORPUS, name), join(box.path('empty'), name));
      }
      await sh(box.path('empty'), `npm ci ${NPM.join(' ')}`);
      const saved = await box.ok('workspace', 'save', 'empty');
      expect(await box.ok('import', 'disk', '--name', 'installed')).toBe(saved);
      expectSameTree(disk, box.path('empty'));
      await box.ok('workspace', 'remove', 'empty');
    });

    test('webpack builds, node runs, jest tests, eslint lints, as on disk', {
      timeout: 10 * MINUTES,
    }, async () => {
      await box.ok('import', 'disk', '--name', 'installed');
      await box.ok('workspace', 'create', 'app', '--from', 'installed');
      for (const place of [disk, box.path('app')]) {
        await sh(place, 'node_modules/.bin/webpack --silent');
        expect(await sh(place, 'node dist/main.js')).toContain('<p data-reactroot="">Hello');
        await sh(place, 'node_modules/.bin/jest --testEnvironment node');
        await sh(
          place,
          'node_modules/.bin/eslint --no-eslintrc --parser-options=ecmaVersion:2018 src/sum.js',
        );
      }
      expectSameTree(join(disk, 'dist'), box.path('app/dist'));
      const changed = (await box.ok('diff', 'installed', await box.ok('workspace', 'save', 'app'))).split(
        '\n',
      );
      // Caches of the tools, and what was built.
      expect(changed.filter((line) => !/^A\t(dist|node_modules\/\.cache)\//.test(line))).toEqual([]);
    });

    test('install, remove node_modules, install again, add and remove a package, run, save, load elsewhere, run', {
      timeout: 15 * MINUTES,
    }, async () => {
      await sh(box.directory, 'tar cf app.tar -C disk --exclude=node_modules --exclude=dist .');
      await box.ok('workspace', 'create', 'yarn');
      const place = box.path('yarn');
      await sh(place, 'tar xf ../app.tar');
      await sh(place, `npm install ${NPM.join(' ')}`);
      await sh(place, 'rm -rf node_modules');
      expect(fs.readdirSync(place)).not.toContain('node_modules');
      await sh(place, `npm install ${NPM.join(' ')}`);
      await sh(place, `npm install ${NPM.join(' ')} is-number@7.0.0`);
      expect(await sh(place, `node -p 'require("is-number")(5)'`)).toBe('true');
      await sh(place, `npm uninstall ${NPM.join(' ')} is-number`);
      await sh(place, 'node_modules/.bin/webpack --silent');
      const printed = await sh(place, 'node dist/main.js');
      const saved = await box.ok('workspace', 'save', 'yarn', '-m', 'built');
      expect(await box.ok('import', 'yarn', '--no-cache')).toBe(saved);
      await box.ok('save', 'yarn', 'yarn.image');

      const elsewhere = sandbox();
      try {
        expect(await elsewhere.ok('load', box.path('yarn.image'), '--name', 'yarn')).toBe(saved);
        await elsewhere.ok('workspace', 'create', 'copy', '--from', 'yarn');
        expect(await sh(elsewhere.path('copy'), 'node dist/main.js')).toBe(printed);
        await sh(elsewhere.path('copy'), 'rm -rf dist && node_modules/.bin/webpack --silent');
        expect(await sh(elsewhere.path('copy'), 'node dist/main.js')).toBe(printed);
      } finally {
        await stopDaemon(elsewhere);
      }
    });
  });

  test('tsc and vite', { timeout: 10 * MINUTES }, async () => {
    await box.ok('workspace', 'create', 'typed');
    const place = writeFiles(box.path('typed'), {
      'package.json': '{"name":"typed","private":true,"type":"module"}\n',
      'tsconfig.json':
        '{"compilerOptions":{"strict":true,"outDir":"out","module":"nodenext","target":"es2022"},"include":["src"]}\n',
      'src/main.ts': "import { area } from './area.js';\nconsole.log(area(2, 3));\n",
      'src/area.ts': 'export const area = (a: number, b: number): number => a * b;\n',
      'vite.config.js':
        "export default { build: { lib: { entry: 'src/main.ts', formats: ['es'] }, outDir: 'bundle' } };\n",
    });
    await sh(place, `npm install ${NPM.join(' ')} typescript@5 vite@7`);
    await sh(place, 'node_modules/.bin/tsc');
    expect(await sh(place, 'node out/main.js')).toBe('6');
    await sh(place, 'node_modules/.bin/vite build --logLevel error');
    expect(await sh(place, 'cat bundle/*.js > all.mjs && node all.mjs')).toBe('6');
    await box.ok('workspace', 'fork', 'typed', 'again');
    expect(await sh(box.path('again'), 'rm -rf out && node_modules/.bin/tsc && node out/main.js')).toBe('6');
  });
});

async function emptyRepository(box: Sandbox): Promise<string> {
  const place = writeFiles(box.path('repository'), { 'README.md': 'hello\n' });
  await sh(place, 'git init -q; git add .; git -c user.email=t@example.org -c user.name=t commit -qm first');
  return place;
}
