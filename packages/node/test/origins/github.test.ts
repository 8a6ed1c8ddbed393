import { formatLink } from '@lazytree/core';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  directory,
  errorOf,
  exportDescription,
  file,
  pseudoRandom,
  symlink,
  temporaryDirectory,
} from '../../../core/test/helpers.ts';
import { driver as gitDriver } from '../../dist/origins/git/git-driver.js';
import { driver } from '../../dist/origins/github/github-driver.js';
import { driverConformance } from './driver-conformance.ts';
import { type ContextOptions, driverContext } from './driver-context.ts';
import { git, type MadeRepository, makeRepository } from './git-repositories.ts';
import { type GithubServer, startGithubServer } from './github-server.ts';

const SPEC = directory({
  'README.md': file('# read me\n'),
  '.gitattributes': file('hidden export-ignore\n'),
  hidden: file('not archived'),
  bin: directory({ 'run.sh': file('#!/bin/sh\n', true) }),
  link: symlink('bin/run.sh'),
  'caf\udce9': file('not UTF-8'),
  [`${'long '.repeat(40)}`]: directory({ [`${'name '.repeat(40)}`]: file('deep') }),
  'big.bin': file(pseudoRandom(700_000)),
});

let server: GithubServer;
let repository: MadeRepository;
let commit: string;

beforeAll(async () => {
  server = await startGithubServer();
  repository = makeRepository(`${await temporaryDirectory()}/r.git`);
  const first = repository.commit(repository.treeOf(directory({ old: file('old') })));
  commit = repository.commit(repository.treeOf(SPEC), { parents: [first] });
  git(repository.path, 'branch', 'feature/one', first);
  git(repository.path, 'tag', '-a', '-m', 'one', 'v1.0', commit);
  server.repositories.set('octo/hello', { path: repository.path, id: 7 });
  server.repositories.set('octo/secret', { path: repository.path, id: 8, private: true });
  server.renamed.set('octo/old', 7);
});

const context = (environment: Record<string, string> = {}, options: ContextOptions = {}) =>
  driverContext({ environment: { GITHUB_API_URL: server.apiUrl, ...environment }, ...options });

async function fetched(text: string, environment: Record<string, string> = {}) {
  const at = await context(environment);
  const pin = await driver.pin(driver.parse(text, { directory: '/' }), at);
  return { pin, at, content: await driver.fetch(pin, at) };
}

describe('the github driver', () => {
  it('takes two requests, and gives what git gives', async () => {
    server.log.length = 0;
    const { pin, at, content } = await fetched('Octo/Hello');
    expect(pin).toEqual({ reference: `octo/hello@${commit}`, integrity: `git:${commit}` });
    expect(server.log).toEqual([
      'GET api /api/v3/repos/octo/hello/commits/HEAD',
      `GET api /api/v3/repos/octo/hello/tarball/${commit}`,
      `GET codeload /legacy.tar.gz/7/${commit}`,
    ]);
    expect(at.received.requests).toBe(3);
    expect(at.received.bytes).toBeGreaterThan(700_000);
    const beside = await driverContext({ environment: { PATH: process.env.PATH as string } });
    const same = await gitDriver.fetch(
      { reference: `${repository.path}#${commit}`, integrity: `git:${commit}` },
      beside,
    );
    expect(formatLink(content.entry.link)).toBe(formatLink(same.entry.link));
    expect(await exportDescription(at.store, content.entry.link)).toContain('link -> bin/run.sh');
  });

  it('knows branches, tags and commits', async () => {
    const at = await context();
    const pinned = async (text: string) =>
      (await driver.pin(driver.parse(text, { directory: '/' }), at)).integrity;
    const first = git(repository.path, 'rev-parse', 'feature/one');
    expect(await pinned('octo/hello@main')).toBe(`git:${commit}`);
    expect(await pinned('octo/hello#v1.0')).toBe(`git:${commit}`);
    expect(await pinned('octo/hello@feature/one')).toBe(`git:${first}`);
    expect(await pinned(`octo/hello@${first.slice(0, 9)}`)).toBe(`git:${first}`);
    const { requests } = at.received;
    expect(await pinned(`octo/hello@${first.toUpperCase()}`)).toBe(`git:${first}`);
    expect(at.received.requests).toBe(requests);
    for (const text of ['octo/hello@nothing', 'octo/nothing', 'octo/secret'])
      expect(await errorOf(pinned(text))).toMatchObject({ code: 'NOT_FOUND', hint: expect.any(String) });
  });

  it('follows a repository to its new name', async () => {
    const { content } = await fetched('octo/old@main', { GITHUB_TOKEN: server.token });
    expect(content.integrity).toBe(`git:${commit}`);
  });

  it('gives the token to the API alone', async () => {
    server.log.length = 0;
    await fetched('octo/secret', { GITHUB_TOKEN: server.token });
    await fetched('octo/secret', { GH_TOKEN: server.token });
    expect(server.log.filter((line) => line.includes(' api '))).toHaveLength(4);
    for (const line of server.log) expect(line.endsWith('+token')).toBe(line.includes(' api '));
  });

  it('says what is wrong with a token, and does not say the token', async () => {
    const wrong = 'ghp_thewrongone';
    for (const text of ['octo/hello', 'octo/secret']) {
      const error = await errorOf(fetched(text, { GITHUB_TOKEN: wrong }));
      expect(error).toMatchObject({ code: 'REFUSED', message: expect.stringContaining('Bad credentials') });
      expect(JSON.stringify([error.message, error.hint, error.stack])).not.toContain(wrong);
    }
    const at = await driverContext({
      environment: { GITHUB_API_URL: 'http://github.example.org', GITHUB_TOKEN: wrong },
    });
    expect(await errorOf(driver.pin('octo/hello', at))).toMatchObject({ code: 'REFUSED' });
    const bad = await driverContext({ environment: { GITHUB_API_URL: `http://x:${wrong}@127.0.0.1` } });
    const error = await errorOf(driver.pin('octo/hello', bad));
    expect(error).toMatchObject({ code: 'USAGE' });
    expect(error.message).not.toContain(wrong);
  });

  it('takes no archive of another commit, and none that says nothing', async () => {
    server.archiveOf = git(repository.path, 'rev-parse', 'feature/one');
    try {
      expect(await errorOf(fetched(`octo/hello@${commit}`))).toMatchObject({
        code: 'CORRUPT',
        message: expect.stringContaining(server.archiveOf),
      });
      server.archiveOf = `${commit}^{tree}`;
    } finally {
      server.archiveOf = undefined;
    }
  });

  it('waits for a short limit, and says when a long one ends', async () => {
    let turns = 1;
    server.intercept = (_, response) => {
      if (turns-- <= 0) return false;
      response.writeHead(403, { 'retry-after': '1', 'content-type': 'application/json' });
      response.end(JSON.stringify({ message: 'You have exceeded a secondary rate limit.' }));
      return true;
    };
    try {
      const began = performance.now();
      const { content } = await fetched('octo/hello@main');
      expect(content.integrity).toBe(`git:${commit}`);
      expect(performance.now() - began).toBeGreaterThan(1000);

      const reset = Math.floor(Date.now() / 1000) + 1800;
      server.intercept = (_, response) => {
        response.writeHead(403, { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': `${reset}` });
        response.end(JSON.stringify({ message: 'API rate limit exceeded for 203.0.113.7.' }));
        return true;
      };
      const error = await errorOf(fetched('octo/hello@main'));
      expect(error).toMatchObject({ code: 'NETWORK', hint: expect.stringContaining('GITHUB_TOKEN') });
      expect(error.message).toContain(new Date(reset * 1000).toISOString().slice(0, 16));
      server.intercept = (_, response) => {
        response.writeHead(429).end();
        return true;
      };
      expect(await errorOf(fetched('octo/hello@main'))).toMatchObject({ code: 'NETWORK' });
    } finally {
      server.intercept = undefined;
    }
  });

  it('tries again what has failed in passing, and gives up what does not end', async () => {
    let turns = 2;
    server.intercept = (_, response) => {
      if (turns-- <= 0) return false;
      response.writeHead(502).end('<html>');
      return true;
    };
    try {
      expect((await fetched('octo/hello@main')).content.integrity).toBe(`git:${commit}`);
      server.intercept = (_, response) => {
        response.writeHead(302, { location: '/api/v3/again' }).end();
        return true;
      };
      expect(await errorOf(fetched('octo/hello@main'))).toMatchObject({ code: 'NETWORK' });
      server.intercept = (_, response) => {
        response.writeHead(302, { location: 'file:///etc/passwd' }).end();
        return true;
      };
      expect(await errorOf(fetched('octo/hello@main'))).toMatchObject({ code: 'REFUSED' });
    } finally {
      server.intercept = undefined;
    }
  });
});

driverConformance('github', async () => {
  const at = await driverContext({ environment: { PATH: process.env.PATH as string } });
  const same = await gitDriver.fetch({ reference: `${repository.path}#${commit}` }, at);
  return {
    driver,
    environment: { GITHUB_API_URL: server.apiUrl, GITHUB_TOKEN: server.token },
    texts: ['octo/hello', 'Octo/Hello', 'octo/hello@HEAD', 'octo/hello#', 'octo/hello.git'],
    bad: [
      '',
      'octo',
      'octo/',
      '/hello',
      'octo/../x',
      'octo/..',
      'octo/hello@-x',
      'octo/hello@a b',
      'a b/c',
      '-a/b',
      'https://github.com/o/r',
    ],
    expected: await exportDescription(at.store, same.entry.link),
    missing: 'octo/hello@missing',
    wrongIntegrity: `git:${'0'.repeat(40)}`,
    server: {
      requests: () => server.log.length,
      stall() {
        server.intercept = () => true;
        return () => {
          server.intercept = undefined;
        };
      },
      breakOff() {
        server.breakOff = true;
        return () => {
          server.breakOff = false;
        };
      },
    },
    secrets: [server.token],
  };
});
