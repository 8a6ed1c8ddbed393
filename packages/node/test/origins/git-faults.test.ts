import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatLink } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import {
  describeSpec,
  directory,
  errorOf,
  file,
  manyFiles,
  pseudoRandom,
  temporaryDirectory,
} from '../../../core/test/helpers.ts';
import { driver } from '../../dist/origins/git/git-driver.js';
import { driverConformance } from './driver-conformance.ts';
import { described, fetchGit, GIT_ENVIRONMENT, newContext } from './git-context.ts';
import { git, makeRepository } from './git-repositories.ts';
import { startGitServer } from './git-server.ts';

const SPEC = manyFiles(100, { size: 20_000 });

async function served() {
  const root = await temporaryDirectory();
  const repository = makeRepository(join(root, 'r.git'));
  const commit = repository.commit(repository.treeOf(SPEC));
  const server = await startGitServer(root);
  return { root, repository, commit, server, url: `${server.url}/r.git` };
}

/** Where the driver keeps its repository. */
async function keptAt(context: { cacheDirectory(): Promise<string> }): Promise<string> {
  const cache = await context.cacheDirectory();
  const [name] = readdirSync(cache);
  return join(cache, name, 'repository');
}

/** Processes whose command line has a text in it. */
function processesWith(text: string): string[] {
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(text);
    } catch {
      return false;
    }
  });
}

driverConformance('git', async () => {
  const { url, server, commit } = await served();
  return {
    driver,
    environment: GIT_ENVIRONMENT,
    texts: [url, `${url}/`, `git+${url}`, `${url}#HEAD`],
    bad: ['', '-x', 'ext::sh', 'https://a:b@example.org/x', `${url}#a..b`],
    expected: describeSpec(SPEC),
    missing: `${url}#missing`,
    wrongIntegrity: `git:${commit.replace(/./g, '0')}`,
    server: {
      requests: () => server.requests.length,
      stall() {
        server.intercept = () => true;
        return () => {
          server.intercept = undefined;
        };
      },
      breakOff() {
        server.cutAfter = 500_000;
        return () => {
          server.cutAfter = undefined;
        };
      },
    },
  };
});

describe('the git driver, when things go wrong', () => {
  it('goes on after a fetch that broke off', async () => {
    const { url, server } = await served();
    const context = await newContext();
    server.cutAfter = 500_000;
    expect(await errorOf(fetchGit(url, context))).toMatchObject({
      code: 'NETWORK',
      hint: expect.any(String),
    });
    server.cutAfter = undefined;
    expect(await described(await fetchGit(url, context), context)).toEqual(describeSpec(SPEC));
    const kept = await keptAt(context);
    expect(readdirSync(join(kept, 'objects/pack')).filter((name) => name.startsWith('tmp_'))).toEqual([]);
  });

  it.each([
    ['a pack that is cut short', (kept: string) => damage(kept, (pack) => truncateSync(pack, 100_000))],
    ['a pack that is not there', (kept: string) => damage(kept, (pack) => rmSync(pack))],
    [
      'a byte of a pack that is another one',
      (kept: string) =>
        damage(kept, (pack) => {
          const bytes = readFileSync(pack);
          bytes[bytes.length >> 1] ^= 0xff;
          rmSync(pack);
          writeFileSync(pack, bytes);
        }),
    ],
    ['no repository', (kept: string) => rmSync(join(kept, 'HEAD'))],
    ['no objects', (kept: string) => rmSync(join(kept, 'objects'), { recursive: true })],
    ['a lock that was left behind', (kept: string) => writeFileSync(join(kept, 'shallow.lock'), '')],
  ])('makes its repository anew: %s', async (_, harm) => {
    const { repository, url, commit } = await served();
    const context = await newContext();
    await fetchGit(url, context);
    harm(await keptAt(context));
    expect(await described(await fetchGit(url, context), context)).toEqual(describeSpec(SPEC));
    harm(await keptAt(context));
    // The difference to what is damaged is of no use, either.
    repository.commit(
      repository.treeOf(directory({ ...Object.fromEntries(SPEC.entries), new: file('new') })),
      {
        parents: [commit],
      },
    );
    const next = await fetchGit(url, context);
    expect(await described(next, context)).toContain(describeSpec(directory({ new: file('new') }))[0]);
    expect(context.open()).toBe(0);
  });

  function damage(kept: string, how: (pack: string) => void): void {
    for (const name of readdirSync(join(kept, 'objects/pack')))
      if (name.endsWith('.pack')) how(join(kept, 'objects/pack', name));
  }

  it('ends git, and what it has started, when it is told to', async () => {
    const { url, server } = await served();
    const marked = `${url}/marked`;
    server.intercept = () => true;
    const stop = new AbortController();
    const context = await newContext({ signal: stop.signal });
    const work = fetchGit(`${marked}#${'1'.repeat(40)}`, context);
    while (processesWith(marked).length < 2) await sleep(10);
    stop.abort(new Error('enough'));
    await expect(work).rejects.toThrow('enough');
    while (processesWith(marked).length > 0) await sleep(10);
  });

  it('is used by several at once', async () => {
    const { repository, url, commit } = await served();
    const other = repository.commit(repository.treeOf(directory({ other: file(pseudoRandom(100_000)) })), {
      branch: 'other',
    });
    const cache = await temporaryDirectory();
    const contexts = await Promise.all(Array.from({ length: 6 }, () => newContext()));
    const contents = await Promise.all(
      contexts.map((context, i) =>
        fetchGit(`${url}#${i % 2 ? other : commit}`, { ...context, cacheDirectory: async () => cache }),
      ),
    );
    expect(new Set(contents.map(({ entry }) => formatLink(entry.link))).size).toBe(2);
  });

  it('is used by two processes at once, one of which is killed', async () => {
    const { url, server } = await served();
    const context = await newContext();
    const cache = await context.cacheDirectory();
    const dist = new URL('../../dist/origins/git/git-driver.js', import.meta.url).href;
    const script = `
      import { driver } from ${JSON.stringify(dist)};
      await driver.fetch({ reference: process.argv[1] }, {
        signal: new AbortController().signal, environment: process.env, directory: '/',
        cacheDirectory: async () => process.argv[2], newTree() {}, onProgress() {}, onReceived() {},
      });`;
    const commit = (await driver.pin(url, context)).reference;
    let stalled = true;
    server.intercept = () => stalled;
    const before = server.requests.length;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, commit, cache]);
    while (server.requests.length === before) await sleep(10);
    const work = fetchGit(commit, context);
    await sleep(100);
    stalled = false;
    child.kill('SIGKILL');
    expect(await described(await work, context)).toEqual(describeSpec(SPEC));
  });

  it('asks nobody for a password, and says what is lacking', async () => {
    const { url, server } = await served();
    server.intercept = (request, response) => {
      if (request.headers.authorization === `Basic ${Buffer.from('ada:hunter2').toString('base64')}`)
        return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end('no');
      return true;
    };
    const context = await newContext();
    expect(await errorOf(fetchGit(url, context))).toMatchObject({
      code: 'REFUSED',
      hint: expect.stringContaining('credential'),
    });
    // As whoever calls has configured it.
    const home = await temporaryDirectory();
    writeFileSync(
      join(home, '.gitconfig'),
      '[credential]\n\thelper = "!f() { echo username=ada; echo password=$SECRET; }; f"\n',
    );
    const given = await newContext({ environment: { HOME: home, SECRET: 'hunter2' } });
    expect(await described(await fetchGit(url, given), given)).toEqual(describeSpec(SPEC));
    const wrong = await newContext({ environment: { HOME: home, SECRET: 'tr0ub4dor' } });
    const error = await errorOf(fetchGit(url, wrong));
    expect(error).toMatchObject({ code: 'REFUSED' });
    expect(JSON.stringify([error.message, error.hint])).not.toContain('tr0ub4dor');
  });

  it('does not say the secret of a URL that the configuration makes', async () => {
    const { url, server } = await served();
    const home = await temporaryDirectory();
    const secret = url.replace('http://', 'http://ada:hunter2@').replace('r.git', '');
    writeFileSync(join(home, '.gitconfig'), `[url "${secret}"]\n\tinsteadOf = https://example.org/\n`);
    server.intercept = (_, response) => {
      response.writeHead(500).end();
      return true;
    };
    const context = await newContext({ environment: { HOME: home } });
    const error = await errorOf(fetchGit('https://example.org/r.git', context));
    expect(error.code).toBe('NETWORK');
    expect(JSON.stringify([error.message, error.hint, error.cause])).not.toContain('hunter2');
  });

  it.each(['version=0', 'version=1'])(
    'gets commits from servers that give only refs: %s',
    async (protocol) => {
      const { repository, server, url, commit } = await served();
      server.protocol = protocol;
      const tip = repository.commit(repository.treeOf(directory({ tip: file('tip') })), {
        parents: [commit],
      });
      const context = await newContext();
      // Of the branch, and one below.
      expect(await described(await fetchGit(`${url}#${tip}`, context), context)).toHaveLength(1);
      expect(await described(await fetchGit(`${url}#${commit}`, context), context)).toEqual(
        describeSpec(SPEC),
      );
      expect(await errorOf(fetchGit(`${url}#${'1'.repeat(40)}`, context))).toMatchObject({
        code: 'NOT_FOUND',
      });
      const fresh = await newContext();
      expect(await described(await fetchGit(`${url}#${commit}`, fresh), fresh)).toEqual(describeSpec(SPEC));
    },
  );

  it('gets commits from a server of files alone', async () => {
    const { root, repository, commit } = await served();
    git(repository.path, 'update-server-info');
    const plain = await startGitServer(root);
    plain.intercept = (request, response) => {
      const path = join(root, new URL(request.url as string, 'http://local').pathname);
      if (existsSync(path)) response.end(readFileSync(path));
      else response.writeHead(404).end();
      return true;
    };
    const context = await newContext();
    expect(await described(await fetchGit(`${plain.url}/r.git#${commit}`, context), context)).toEqual(
      describeSpec(SPEC),
    );
    expect(await described(await fetchGit(`${plain.url}/r.git`, context), context)).toEqual(
      describeSpec(SPEC),
    );
  });

  it.each([
    ['https://127.0.0.1:1/r.git', 'NETWORK'],
    ['ssh://git@127.0.0.1:1/r.git', 'NETWORK'],
    ['git://127.0.0.1:1/r.git', 'NETWORK'],
    ['/nowhere/at/all', 'NOT_FOUND'],
    ['file:///nowhere/at/all', 'NOT_FOUND'],
  ])('says that there is nothing at %s', async (text, code) => {
    const context = await newContext();
    const error = await errorOf(fetchGit(text, context));
    expect(error).toMatchObject({ code, hint: expect.any(String) });
    expect(error.message).not.toContain('\n');
  });

  it('says that there is no git', async () => {
    const context = await newContext({ environment: { PATH: '/nonexistent' } });
    expect(await errorOf(fetchGit('https://example.org/x', context))).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('no git'),
    });
  });

  it('finds git for the caller of a daemon, whose PATH is not known', async () => {
    const { url } = await served();
    const { PATH, ...rest } = GIT_ENVIRONMENT;
    expect(PATH).toBeDefined();
    const context = { ...(await newContext()), environment: rest };
    expect(await described(await fetchGit(url, context), context)).toEqual(describeSpec(SPEC));
  });

  it('is not led elsewhere by variables, hooks and configuration', async () => {
    const { url, repository } = await served();
    const home = await temporaryDirectory();
    const trace = join(home, 'trace');
    const hooks = join(home, 'hooks');
    mkdirSync(hooks);
    for (const name of ['reference-transaction', 'post-checkout', 'post-index-change'])
      writeFileSync(join(hooks, name), `#!/bin/sh\ntouch ${home}/ran\n`, { mode: 0o755 });
    writeFileSync(
      join(home, '.gitconfig'),
      `[core]\n\thooksPath = ${hooks}\n\tautocrlf = true\n\tattributesFile = ${home}/attributes\n[fetch]\n\tprune = true\n\trecurseSubmodules = true\n`,
    );
    writeFileSync(join(home, 'attributes'), '* export-ignore\n');
    const context = await newContext({
      environment: {
        HOME: home,
        GIT_DIR: repository.path,
        GIT_WORK_TREE: home,
        GIT_OBJECT_DIRECTORY: home,
        GIT_TRACE: trace,
        GIT_TRACE_CURL: trace,
        GIT_CONFIG_PARAMETERS: "'core.bare=false'",
      },
    });
    expect(await described(await fetchGit(url, context), context)).toEqual(describeSpec(SPEC));
    expect(existsSync(trace)).toBe(false);
    expect(existsSync(join(home, 'ran'))).toBe(false);
  });

  it('begins anew when a repository has many packs', async () => {
    const { repository, url } = await served();
    const context = await newContext();
    await fetchGit(url, context);
    for (let i = 0; i < 42; i++) {
      repository.commit(repository.treeOf(directory({ f: file(`${i}`) })));
      await fetchGit(url, context);
    }
    const packs = readdirSync(join(await keptAt(context), 'objects/pack')).filter((name) =>
      name.endsWith('.pack'),
    );
    expect(packs.length).toBeLessThan(42);
  });
});
