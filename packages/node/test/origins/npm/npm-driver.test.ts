import { execFile } from 'node:child_process';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { formatLink } from '@lazytree/core';
import npa from 'npm-package-arg';
import semver from 'semver';
import { beforeEach, describe, expect, it } from 'vitest';
import { afterwards, errorOf, exportDescription, pseudoRandom } from '../../../../core/test/helpers.js';
import { driver } from '../../../dist/origins/npm/npm-driver.js';
import { parseNpmReference } from '../../../src/origins/npm/npm-reference.js';
import { driver as unpkg } from '../../../src/origins/npm/unpkg-driver.js';
import { type ContextOptions, driverContext } from '../driver-context.js';
import { integrityOf, packed } from './packed.js';
import { type Registry, registry } from './registry.js';

const run = promisify(execFile);
const LARGE = pseudoRandom(6 << 20).toString('base64');

let at: Registry;
beforeEach(async () => {
  at = await registry();
});

const context = (options: ContextOptions = {}) =>
  driverContext({ environment: at.environment, directory: at.directory, ...options });

async function pinned(text: string, options: ContextOptions = {}) {
  const given = await context(options);
  return driver.pin(driver.parse(text, { directory: given.directory }), given);
}

async function fetched(text: string, options: ContextOptions = {}) {
  const given = await context(options);
  const pin = await driver.pin(driver.parse(text, { directory: given.directory }), given);
  const content = await driver.fetch(pin, given);
  return { ...content, pin, given, lines: await exportDescription(given.store, content.entry.link) };
}

it('a version of a package is what npm takes it for', () => {
  for (const text of [
    'a@1.0.0',
    '@s/a.b@0.10.2',
    '0@0.0.0',
    'a@01.0.0',
    'a@v1.2.3',
    '@s/node_modules@1.0.0',
  ]) {
    const { name, fetchSpec } = npa(text);
    const found = parseNpmReference(text, '/');
    expect(found).toEqual({
      kind: 'registry',
      name,
      wanted: semver.clean(fetchSpec ?? '', { loose: true }),
      exact: true,
    });
  }
  for (const text of ['node_modules@1.0.0', 'favicon.ico@1.0.0', '.a@1.0.0', `${'a'.repeat(215)}/@1.0.0`])
    expect(() => parseNpmReference(text, '/')).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

describe('versions', () => {
  it('are chosen as npm chooses them', async () => {
    for (const version of ['1.0.0', '1.2.0', '2.0.0', '3.0.0-beta.1'])
      at.publish({ name: 'a', version }, { tags: [] });
    at.publish({ name: 'a', version: '1.9.0', deprecated: 'do not' }, { tags: [] });
    at.publish({ name: 'a', version: '2.1.0' }, { tags: ['latest'] });
    at.publish({ name: 'a', version: '3.0.0-beta.2' }, { tags: ['next'] });
    const chosen = async (text: string) => (await pinned(text)).reference;
    expect(await chosen('a')).toBe('a@2.1.0');
    expect(await chosen('a@^1')).toBe('a@1.2.0');
    expect(await chosen('a@next')).toBe('a@3.0.0-beta.2');
    expect(await chosen('b@npm:a@~2.0')).toBe('a@2.0.0');
    expect(await errorOf(pinned('a@9'))).toMatchObject({
      code: 'NOT_FOUND',
      hint: expect.stringContaining('2.1.0'),
    });
  });

  it('of registries of old have a sha1 alone', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' }, { onlyShasum: true });
    const { pin, integrity } = await fetched('a');
    expect([pin.integrity, integrity]).toEqual([integrityOf(tarball, 'sha1'), integrityOf(tarball, 'sha1')]);
  });
});

describe('tarballs', () => {
  it('need nothing else where there is an integrity', async () => {
    const tarball = at.publish({ name: '@s/a', version: '1.0.0' });
    const given = await context();
    await driver.fetch({ reference: '@s/a@1.0.0', integrity: integrityOf(tarball) }, given);
    expect(at.log).toEqual(['GET /@s/a/-/a-1.0.0.tgz']);
    expect(given.received).toEqual({ bytes: tarball.length, requests: 1 });
  });

  it('may be in another place than most', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' }, { tarballName: 'download/123' });
    const given = await context();
    const { integrity } = await driver.fetch(
      { reference: 'a@1.0.0', integrity: integrityOf(tarball) },
      given,
    );
    expect(integrity).toBe(integrityOf(tarball));
    expect(at.log).toEqual(['GET /a/-/a-1.0.0.tgz', 'GET /a', 'GET /download/123']);
  });

  it('at a URL, in a file, and of a git repository are packages, too', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' });
    await writeFile(join(at.directory, 'a.tgz'), tarball);
    const expected = (await fetched('a')).lines;
    for (const text of [`${at.url}/a/-/a-1.0.0.tgz`, 'file:a.tgz', './a.tgz']) {
      const { lines, integrity } = await fetched(text);
      expect([lines, integrity]).toEqual([expected, integrityOf(tarball)]);
    }
    const other = {
      reference: `file:${join(at.directory, 'a.tgz')}`,
      integrity: integrityOf(Buffer.from('b')),
    };
    expect(await errorOf(driver.fetch(other, await context()))).toMatchObject({ code: 'CORRUPT' });
    expect(await errorOf(fetched('file:none.tgz'))).toMatchObject({ code: 'NOT_FOUND' });
  });

  it('go on where they were cut', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' }, { files: { large: LARGE } });
    const pin = await pinned('a');
    at.breakOff(2);
    at.log.length = 0;
    const given = await context();
    const { integrity } = await driver.fetch(pin, given);
    expect(integrity).toBe(integrityOf(tarball));
    expect(at.log).toHaveLength(3);
    expect(at.log[1]).toMatch(/bytes=\d{6,}-$/);
    expect(given.received.bytes).toBe(tarball.length);
    expect(await readdir(await given.cacheDirectory())).toEqual([]);
  });

  it('are asked for again when a registry has a bad moment', async () => {
    at.publish({ name: 'a', version: '1.0.0' });
    const pin = await pinned('a');
    at.fail(503, 2);
    await driver.fetch(pin, await context());
    at.fail(503);
    expect(await errorOf(async () => driver.fetch(pin, await context()))).toMatchObject({ code: 'NETWORK' });
  });

  it('that hang are given up after the time that .npmrc says', async () => {
    at.publish({ name: 'a', version: '1.0.0' });
    const pin = await pinned('a');
    const environment = { ...at.environment, npm_config_fetch_timeout: '300', npm_config_fetch_retries: '1' };
    const go = at.stall();
    const given = await context({ environment });
    expect(await errorOf(driver.fetch(pin, given))).toMatchObject({ code: 'NETWORK' });
    go();
    await driver.fetch(pin, given);
  });

  it('that are something else leave nothing', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' }, { files: { large: LARGE } });
    const pin = await pinned('a');
    at.files.set('a/-/a-1.0.0.tgz', Buffer.concat([tarball, Buffer.from('x')]));
    const given = await context();
    expect(await errorOf(driver.fetch(pin, given))).toMatchObject({
      code: 'CORRUPT',
      message: expect.stringContaining('a@1.0.0'),
    });
    await given.store.flush();
    const blocks = [];
    for await (const link of given.store.links()) blocks.push(link);
    expect(blocks).toEqual([]);
    expect(given.open()).toBe(0);
    expect(await readdir(await given.cacheDirectory())).toEqual([]);
  });

  it('say that their scripts were not run', async () => {
    at.publish({ name: 'a', version: '1.0.0', scripts: { postinstall: 'x', test: 'y' } });
    expect((await fetched('a')).notes).toEqual([
      'a@1.0.0 has install scripts (postinstall) that were not run',
    ]);
  });
});

describe('credentials', () => {
  async function closed(): Promise<{ url: string; host: string }> {
    const server = createServer((request, response) => {
      if (request.headers.authorization !== 'Bearer hush') {
        response.writeHead(request.headers.authorization ? 403 : 401).end();
        return;
      }
      const content = at.files.get(decodeURIComponent((request.url ?? '').slice(1)));
      response
        .writeHead(content ? 200 : 404)
        .end(
          content?.toString('latin1').replaceAll(at.url, url) === undefined
            ? ''
            : request.url?.endsWith('.tgz')
              ? content
              : content.toString().replaceAll(at.url, url),
        );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    afterwards(() => server.close());
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const url = `http://${host}`;
    return { url, host };
  }

  it('are those of .npmrc, for the scope and the host that it names', async () => {
    at.publish({ name: '@private/a', version: '1.0.0' });
    at.publish({ name: 'b', version: '1.0.0' });
    const { url, host } = await closed();
    const directory = join(at.directory, 'project/deep');
    await mkdir(directory, { recursive: true });
    await writeFile(join(at.directory, 'project/package.json'), '{}');
    const npmrc = join(at.directory, 'project/.npmrc');
    await writeFile(npmrc, `@private:registry=${url}/\n`);
    const lacking = await errorOf(pinned('@private/a', { directory }));
    expect(lacking).toMatchObject({
      code: 'REFUSED',
      hint: expect.stringContaining(`//${host}/:_authToken`),
    });

    await writeFile(npmrc, `@private:registry=${url}/\n//${host}/:_authToken=\${TOKEN}\n`);
    const environment = { ...at.environment, TOKEN: 'wrong-one' };
    const wrong = (await errorOf(pinned('@private/a', { directory, environment }))) as Error & {
      hint: string;
    };
    expect(wrong).toMatchObject({ code: 'REFUSED' });
    expect(JSON.stringify([wrong.message, wrong.hint])).not.toContain('wrong-one');

    const good = { directory, environment: { ...at.environment, TOKEN: 'hush' } };
    expect((await fetched('@private/a', good)).lines).toHaveLength(1);
    expect((await fetched('b', good)).lines).toHaveLength(1);
    const lone = {
      reference: '@private/a@1.0.0',
      integrity: integrityOf(at.files.get('@private/a/-/a-1.0.0.tgz') as Buffer),
    };
    await driver.fetch(lone, await context(good));
  });
});

it('a git repository gives what npm would pack of it', async () => {
  const repository = join(at.directory, 'repository');
  await mkdir(join(repository, 'lib'), { recursive: true });
  const files = {
    'package.json': JSON.stringify({
      name: 'g',
      version: '1.2.0',
      files: ['lib'],
      bin: 'cli.js',
      scripts: { prepare: 'exit 1' },
    }),
    'lib/a.js': 'a',
    'cli.js': '#!/usr/bin/env node\r\n',
    'test.js': 'not packed',
    README: 'read me',
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(repository, name), content);
  const git = (...args: string[]) =>
    run('git', ['-C', repository, '-c', 'user.name=x', '-c', 'user.email=x@x', ...args]);
  await git('init', '--quiet', '--initial-branch=main');
  await git('add', '.');
  await git('commit', '--quiet', '-m', 'one');
  await git('tag', '-a', 'v1.2.0', '-m', 'one');
  const commit = (await git('rev-parse', 'HEAD')).stdout.trim();
  const environment = { ...at.environment, PATH: process.env.PATH as string };
  const url = `git+file://${repository}`;
  const roots = new Set<string>();
  for (const text of [url, `${url}#main`, `${url}#v1.2.0`, `${url}#semver:^1.0.0`, `g@${url}#${commit}`]) {
    const { pin, entry, lines, notes } = await fetched(text, { environment });
    expect(pin).toEqual({ reference: `${url}#${commit}`, integrity: `git:${commit}` });
    expect(lines.map((line) => line.replace(/ [0-9a-f]{64}/, ''))).toEqual([
      'README 7',
      'cli.js 20 x',
      'lib/',
      'lib/a.js 1',
      expect.stringMatching(/^package\.json /),
    ]);
    expect(notes).toEqual([`${url}#${commit} has scripts (prepare) that were not run`]);
    roots.add(formatLink(entry.link));
  }
  expect(roots.size).toBe(1);
  expect(await errorOf(fetched(`${url}#none`, { environment }))).toMatchObject({ code: 'NOT_FOUND' });
});

describe('unpkg', () => {
  const MANIFEST = { name: '@s/u', version: '1.0.0', bin: 'cli.js' };
  const FILES = {
    'cli.js': 'cli',
    'lib/a.js': 'a',
    'lib/b/c d.js': 'b',
    'package.json': JSON.stringify(MANIFEST),
  };

  function listOn(base: Registry): void {
    const files = Object.entries(FILES).map(([path, content]) => ({
      path: `/${path}`,
      size: content.length,
      type: 'text/javascript',
      integrity: integrityOf(Buffer.from(content), 'sha256'),
    }));
    const meta = Buffer.from(JSON.stringify({ package: '@s/u', version: '1.0.0', prefix: '/', files }));
    for (const wanted of ['1.0.0', '^1']) base.files.set(`@s/u@${wanted}/`, meta);
    for (const [path, content] of Object.entries(FILES))
      base.files.set(`@s/u@1.0.0/${path}`, Buffer.from(content));
  }

  async function taken(text: string) {
    const given = await context({ environment: { ...at.environment, LAZYTREE_UNPKG_URL: `${at.url}/` } });
    const pin = await unpkg.pin(unpkg.parse(text, { directory: '/' }), given);
    const content = await unpkg.fetch(pin, given);
    const again = await unpkg.fetch({ ...pin, integrity: content.integrity }, given);
    expect(formatLink(again.entry.link)).toBe(formatLink(content.entry.link));
    return { pin, given, ...content };
  }

  it('gives the same from a tarball as from its files', async () => {
    listOn(at);
    const alone = await taken('@s/u@^1');
    expect(alone.pin).toEqual({ reference: '@s/u@1.0.0' });
    const { 'package.json': _, ...files } = FILES;
    const tarball = at.publish(MANIFEST, { files });
    const packaged = await taken('@s/u@^1');
    expect(packaged.pin).toEqual({ reference: '@s/u@1.0.0', integrity: integrityOf(tarball) });
    expect(formatLink(packaged.entry.link)).toBe(formatLink(alone.entry.link));
    expect(await exportDescription(alone.given.store, alone.entry.link)).toContainEqual(
      expect.stringMatching(/^cli\.js .* x$/),
    );
  });

  it('gives a file, or a directory', async () => {
    listOn(at);
    for (const publish of [false, true]) {
      const { 'package.json': _, ...files } = FILES;
      if (publish) at.publish(MANIFEST, { files });
      expect((await taken('@s/u@1.0.0/lib/b/c d.js')).entry).toMatchObject({ kind: 'file', size: 1 });
      const { entry, given } = await taken('@s/u@1.0.0/lib');
      const lines = await exportDescription(given.store, entry.link);
      expect(lines.map((line) => line.split(' ')[0])).toEqual(['a.js', 'b/', 'b/c']);
    }
  });

  it('refuses a file that is another', async () => {
    listOn(at);
    at.files.set('@s/u@1.0.0/lib/a.js', Buffer.from('b'));
    expect(await errorOf(taken('@s/u@1.0.0'))).toMatchObject({ code: 'CORRUPT' });
  });
});

it('a package of many directories does not need its order', async () => {
  const entries = Array.from({ length: 3000 }, (_, i) => ({
    path: `package/d${i % 7}/${i}`,
    content: String(i),
  }));
  const manifest = { path: 'package/package.json', content: '{}' };
  const one = at.publish({ name: 'a', version: '1.0.0' }, { tarball: packed([manifest, ...entries]) });
  const two = at.publish(
    { name: 'b', version: '1.0.0' },
    { tarball: packed([...entries.reverse(), manifest]) },
  );
  expect(one.equals(two)).toBe(false);
  const [a, b] = [await fetched('a'), await fetched('b')];
  expect(formatLink(a.entry.link)).toBe(formatLink(b.entry.link));
});
