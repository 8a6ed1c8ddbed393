import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeDirectory, exportDescription } from '../../../../core/test/helpers.js';
import { driver as npmLock } from '../../../src/origins/npm/npm-lock-driver.js';
import { driverContext } from '../driver-context.js';
import { materialise } from './materialise.js';
import { packedPackage } from './packed.js';
import { type Registry, registry } from './registry.js';

const run = promisify(execFile);
const CRLF = '#!/usr/bin/env node\r\n';

function publishAll(at: Registry): void {
  at.publish(
    { name: 'leaf', version: '1.0.0', bin: { leaf: 'cli.js' } },
    { files: { 'cli.js': CRLF }, tags: [] },
  );
  at.publish({ name: 'leaf', version: '2.0.0', bin: { leaf: 'cli.js' } }, { files: { 'cli.js': CRLF } });
  at.publish({
    name: 'plain',
    version: '1.5.0',
    license: { type: 'MIT', url: 'x' },
    dependencies: { leaf: '^1.0.0' },
  });
  at.publish(
    {
      name: '@scope/tool',
      version: '1.0.0',
      bin: './bin/tool',
      engines: { node: '>=18' },
      dependencies: { leaf: '2' },
    },
    { files: { 'bin/tool': '#!/bin/sh\n' } },
  );
  at.publish(
    { name: 'rival', version: '1.0.0', bin: { leaf: 'a.js', both: 'b.js' } },
    { files: { 'a.js': 'a', 'b.js': 'b' } },
  );
  at.publish(
    {
      name: 'scripted',
      version: '1.0.0',
      scripts: { install: 'exit 1' },
      optionalDependencies: { elsewhere: '1' },
    },
    { files: { 'binding.gyp': '{}' } },
  );
  at.publish({
    name: 'elsewhere',
    version: '1.0.0',
    os: ['aix'],
    dependencies: { 'only-there': '1', plain: '1' },
  });
  at.publish({ name: 'only-there', version: '1.0.0' });
  at.publish({ name: 'futuristic', version: '1.0.0', engines: { node: '>=1000' } });
  at.publish({ name: 'old', version: '0.1.0' }, { onlyShasum: true });
  at.publish({
    name: 'peer',
    version: '1.0.0',
    peerDependencies: { plain: '1', none: '*' },
    peerDependenciesMeta: { none: { optional: true } },
  });
  const bundler = {
    name: 'bundler',
    version: '1.0.0',
    dependencies: { inner: '1', leaf: '1' },
    bundleDependencies: ['inner'],
  };
  at.publish(bundler, {
    tarball: packedPackage(bundler, {
      'node_modules/inner/package.json': JSON.stringify({
        name: 'inner',
        version: '1.0.0',
        bin: { inner: 'i.js' },
      }),
      'node_modules/inner/i.js': CRLF,
    }),
  });
}

const PROJECT: Record<string, string> = {
  'package.json': JSON.stringify({
    name: 'project',
    version: '1.0.0',
    workspaces: ['packages/*'],
    dependencies: {
      plain: '^1.0.0',
      leaf: '^2.0.0',
      other: 'npm:leaf@^1.0.0',
      '@scope/tool': '*',
      rival: '1',
      scripted: '*',
      bundler: '*',
      old: '*',
      linked: 'file:vendor/linked',
      packed: 'file:packed.tgz',
    },
    devDependencies: { peer: '*' },
    optionalDependencies: { futuristic: '*' },
  }),
  'packages/one/package.json': JSON.stringify({
    name: '@work/one',
    version: '1.0.0',
    bin: { one: './one.js' },
    dependencies: { leaf: '1.0.0', '@work/two': '*' },
  }),
  'packages/one/one.js': 'one',
  'packages/two/package.json': JSON.stringify({ name: '@work/two', version: '1.0.0' }),
  'vendor/linked/package.json': JSON.stringify({
    name: 'linked',
    version: '1.0.0',
    bin: 'cli.js',
    dependencies: { leaf: '1' },
  }),
  'vendor/linked/cli.js': 'linked',
};

describe('npm-lock makes what npm ci makes', { timeout: 120_000 }, () => {
  let at: Registry;
  let project: string;
  let npm: (...args: string[]) => Promise<unknown>;

  beforeAll(async () => {
    at = await registry();
    publishAll(at);
    project = join(at.directory, 'project');
    for (const [path, content] of Object.entries(PROJECT)) {
      await mkdir(dirname(join(project, path)), { recursive: true });
      await writeFile(join(project, path), content);
    }
    const packed = { name: 'packed', version: '3.0.0', dependencies: { leaf: '2' } };
    await writeFile(join(project, 'packed.tgz'), packedPackage(packed, { 'index.js': 'packed' }));
    const env = {
      ...at.environment,
      PATH: process.env.PATH,
      HOME: at.directory,
      npm_config_cache: join(at.directory, 'cache'),
      npm_config_audit: 'false',
      npm_config_fund: 'false',
      npm_config_update_notifier: 'false',
    };
    npm = (...args) => run('npm', args, { cwd: project, env });
    await npm('install', '--package-lock-only', '--ignore-scripts');
  });

  async function lazily(reference: string) {
    const context = await driverContext({ environment: at.environment, directory: project });
    const before = at.log.length;
    const pin = await npmLock.pin(npmLock.parse(reference, { directory: project }), context);
    const { entry, notes } = await npmLock.fetch(pin, context);
    expect(at.log.length).toBe(before);
    expect(context.open()).toBe(0);
    const all = await materialise(entry.link, context);
    const metadata = at.log.slice(before).filter((line) => !line.endsWith('.tgz'));
    return { lines: await exportDescription(context.store, all.link), notes, metadata };
  }

  const cases: [string, string[]][] = [
    ['', []],
    ['?omit=dev', ['--omit=dev']],
    ['?omit=dev,optional,peer', ['--omit=dev', '--omit=optional', '--omit=peer']],
  ];
  for (const [query, options] of cases) {
    it(`package-lock.json${query}`, async () => {
      await npm('ci', '--ignore-scripts', ...options);
      const { lines, notes, metadata } = await lazily(`package-lock.json${query}`);
      expect(lines).toEqual(describeDirectory(join(project, 'node_modules')));
      expect(metadata).toEqual([]);
      expect(notes.filter((note) => note.includes('install scripts'))).toEqual([
        'scripted@1.0.0 has install scripts that were not run (node_modules/scripted)',
      ]);
      const { lines: one } = await lazily(
        `package-lock.json${query}${query ? '&' : '?'}workspace=packages/one`,
      );
      expect(one).toEqual(describeDirectory(join(project, 'packages/one/node_modules')));
    });
  }

  it('of a directory, of version 2, with tabs, and without the addresses of tarballs', async () => {
    const file = join(project, 'package-lock.json');
    const before = await readFile(file, 'utf8');
    try {
      await npm('install', '--package-lock-only', '--ignore-scripts', '--lockfile-version=2');
      const lock = JSON.parse(await readFile(file, 'utf8'));
      expect(lock.lockfileVersion).toBe(2);
      const manifest = JSON.parse(PROJECT['package.json']);
      // npm looks at package.json for how it is to write, and has written the lockfile in the same way.
      for (const [path, value] of [
        [file, lock],
        [join(project, 'package.json'), manifest],
      ])
        await writeFile(path, `${JSON.stringify(value, null, '\t')}\n`.replaceAll('\n', '\r\n'));
      await npm('ci', '--ignore-scripts');
      expect((await lazily('.')).lines).toEqual(describeDirectory(join(project, 'node_modules')));
      await writeFile(join(project, 'package.json'), PROJECT['package.json']);
      for (const locked of Object.values<{ resolved?: string; link?: boolean }>(lock.packages))
        if (locked.resolved?.startsWith('http')) delete locked.resolved;
      await writeFile(file, JSON.stringify(lock, null, 2));
      await npm('ci', '--ignore-scripts');
      expect((await lazily('.')).lines).toEqual(describeDirectory(join(project, 'node_modules')));
    } finally {
      await writeFile(file, before);
      await writeFile(join(project, 'package.json'), PROJECT['package.json']);
    }
  });

  it('for another machine', async () => {
    const { lines } = await lazily('package-lock.json?os=aix&cpu=ppc64&node=1000.0.0');
    const there = (name: string) => lines.includes(`${name}/`);
    expect(['elsewhere', 'only-there', 'futuristic'].map(there)).toEqual([true, true, true]);
    const { lines: here } = await lazily('package-lock.json');
    expect(here).not.toContain('elsewhere/');
    expect(here).not.toContain('only-there/');
  });
});
