import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type DirectorySpec,
  describeDirectory,
  directory,
  errorOf,
  file,
  manyFiles,
  pseudoRandom,
  symlink,
  temporaryDirectory,
  treeArbitrary,
} from '../../../core/test/helpers.ts';
import { driver } from '../../dist/origins/git/git-driver.js';
import { described, fetchGit, listed, newContext } from './git-context.ts';
import { git, gitBytes, makeRepository } from './git-repositories.ts';
import { startGitServer } from './git-server.ts';

const SMALL = directory({
  'README.md': file('# read me\n'),
  'run.sh': file('#!/bin/sh\n', true),
  copy: directory({ 'README.md': file('# read me\n', true), deep: directory({ er: file('') }) }),
  outside: symlink('../../etc/passwd'),
  '\udcff\n': file('neither UTF-8 nor a line'),
  'big.bin': file(pseudoRandom(3_000_000)),
  'big-again.bin': file(pseudoRandom(3_000_000), true),
});

/** What `git archive` writes, unpacked by tar. */
async function archived(repository: string, commit: string): Promise<string[]> {
  const place = join(await temporaryDirectory(), 'archive');
  mkdirSync(place);
  execFileSync('tar', ['-x', '-C', place], { input: gitBytes(repository, 'archive', commit) });
  return describeDirectory(place);
}

async function newRepository(spec?: DirectorySpec, format: 'sha1' | 'sha256' = 'sha1') {
  const root = await temporaryDirectory();
  const repository = makeRepository(join(root, 'r.git'), format);
  const commit = spec ? repository.commit(repository.treeOf(spec)) : '';
  return { root, repository, commit, server: () => startGitServer(root) };
}

describe('the git driver', () => {
  it('gives what git archive writes: by http, by a file URL, by a path', async () => {
    const { root, commit, server } = await newRepository(SMALL);
    const { url } = await server();
    const path = join(root, 'r.git');
    const expected = await archived(path, commit);
    for (const source of [`${url}/r.git`, `file://${path}`, path, 'r.git']) {
      const context = await newContext({ directory: root });
      const content = await fetchGit(source, context);
      expect(content.integrity).toBe(`git:${commit}`);
      expect(await described(content, context)).toEqual(expected);
      expect(context.received.bytes).toBeGreaterThan(3_000_000);
    }
  });

  it('gives what git archive writes, whatever is in the repository', async () => {
    const { repository } = await newRepository();
    const context = await newContext();
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), async (spec) => {
        const commit = repository.commit(repository.treeOf(spec));
        const content = await fetchGit(`${repository.path}#${commit}`, context);
        expect(await described(content, context)).toEqual(await archived(repository.path, commit));
      }),
      { numRuns: 15 },
    );
  });

  it('knows branches, tags, annotated ones, whole names, ids and their beginnings', async () => {
    const { repository, commit, server } = await newRepository(SMALL);
    const { path } = repository;
    const second = repository.commit(repository.treeOf(directory({ second: file('2') })), {
      branch: 'feature/two',
      parents: [commit],
    });
    git(path, 'tag', '-a', '-m', 'one', 'v1', commit);
    git(path, 'tag', '-a', '-m', 'of a tag', 'v1-again', 'v1');
    git(path, 'tag', 'light', second);
    git(path, 'branch', 'both', second);
    git(path, 'tag', 'both', commit);
    const { url } = await server();
    const context = await newContext();
    const pinned = async (ref: string) => {
      const parsed = driver.parse(`${url}/r.git${ref}`, { directory: '/' });
      const pin = await driver.pin(parsed, context);
      expect(pin.reference).toBe(`${url}/r.git#${pin.integrity?.slice(4)}`);
      return pin.integrity?.slice(4);
    };
    expect(await pinned('')).toBe(commit);
    expect(await pinned('#')).toBe(commit);
    expect(await pinned('#main')).toBe(commit);
    expect(await pinned('#feature/two')).toBe(second);
    expect(await pinned('#v1')).toBe(commit);
    expect(await pinned('#v1-again')).toBe(commit);
    expect(await pinned('#light')).toBe(second);
    expect(await pinned('#both')).toBe(second);
    expect(await pinned('#tags/both')).toBe(commit);
    expect(await pinned('#refs/tags/both')).toBe(commit);
    expect(await pinned(`#${second.slice(0, 8)}`)).toBe(second);
    const { requests } = context.received;
    expect(await pinned(`#${second.toUpperCase()}`)).toBe(second);
    expect(context.received.requests).toBe(requests);
    for (const ref of ['#nothing', '#refs/heads/v1', '#abcdef12', '#HEAD2'])
      expect(await errorOf(pinned(ref))).toMatchObject({ code: 'NOT_FOUND', hint: expect.any(String) });
    const tag = git(path, 'rev-parse', 'v1-again');
    const content = await fetchGit(`${url}/r.git#${tag}`, context);
    expect(await described(content, context)).toEqual(await archived(path, commit));
  });

  it('transfers the difference alone for the next commit, and nothing for the same one', async () => {
    const spec = manyFiles(200, { size: 20_000 });
    const { repository, commit, server } = await newRepository(spec);
    const served = await server();
    const context = await newContext();
    await fetchGit(`${served.url}/r.git`, context);
    const whole = served.sent;
    expect(whole).toBeGreaterThan(4_000_000);
    spec.entries.set('new', file('a new one'));
    const next = repository.commit(repository.treeOf(spec), { parents: [commit] });
    const content = await fetchGit(`${served.url}/r.git`, context);
    expect(content.integrity).toBe(`git:${next}`);
    expect(served.sent - whole).toBeLessThan(40_000);
    expect(await described(content, context)).toEqual(await archived(repository.path, next));
    const requests = served.requests.length;
    await fetchGit(`${served.url}/r.git#${commit}`, context);
    expect(served.requests.length).toBe(requests);
  });

  it.each([
    ['', () => undefined],
    [', which is damaged', (file: string) => writeFileSync(file, readFileSync(file).fill(7, 60, 70))],
    [', which is gone', (file: string) => rmSync(file)],
  ])('knows the files of the commit before%s', async (_, harm) => {
    const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n';
    const spec = directory({ ...Object.fromEntries(SMALL.entries), pointer: file(pointer) });
    const { repository, commit } = await newRepository(spec);
    const context = await newContext();
    await fetchGit(repository.path, context);
    const cache = await context.cacheDirectory();
    harm(join(cache, readdirSync(cache)[0], 'repository/lazytree-known'));
    spec.entries.delete('run.sh');
    // What was a file becomes a link, and the other way round, with the same content.
    spec.entries.set('README.md', symlink('x'));
    spec.entries.set('other', file('# read me\n', true));
    const next = repository.commit(repository.treeOf(spec), { parents: [commit] });
    const content = await fetchGit(repository.path, context);
    const expected = await archived(repository.path, next);
    expect(await described(content, context)).toEqual(expected);
    expect(content.notes).toEqual([expect.stringContaining('"pointer"')]);
    // A store that has nothing of it.
    const empty = { ...(await newContext()), cacheDirectory: context.cacheDirectory };
    expect(await described(await fetchGit(repository.path, empty), empty)).toEqual(expected);
  });

  it('takes repositories with ids of 256 bits', async () => {
    const { repository, commit, server } = await newRepository(SMALL, 'sha256');
    const { url } = await server();
    const context = await newContext();
    const content = await fetchGit(`${url}/r.git`, context);
    expect(content.integrity).toBe(`git:${commit}`);
    expect(commit).toHaveLength(64);
    expect(await described(content, context)).toEqual(await archived(repository.path, commit));
  });

  it('honours attributes as git archive does', async () => {
    const { repository } = await newRepository();
    const spec = directory({
      '.gitattributes': file(
        [
          '*.bat text eol=crlf',
          '*.txt export-subst',
          'tests export-ignore',
          '/vendor/** export-ignore',
          '*.id ident',
          '*.bin filter=lfs',
          'u16 text working-tree-encoding=UTF-16LE',
        ].join('\n'),
      ),
      'a.bat': file('one\ntwo\n'),
      'v.txt': file('$Format:%H %an %s %d %P$\n'),
      tests: directory({ t: file('t') }),
      vendor: directory({ v: file('v') }),
      src: directory({
        '.gitattributes': file('secret export-ignore\n'),
        secret: file('s'),
        open: file('o'),
      }),
      'x.id': file('$Id$\n'),
      'b.bin': file('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'),
      u16: file('wide'),
      '\udcff': file('x'),
    });
    const first = repository.commit(repository.treeOf(directory()));
    const commit = repository.commit(repository.treeOf(spec), { parents: [first] });
    const context = await newContext();
    const content = await fetchGit(repository.path, context);
    const all = await described(content, context);
    // Which names a commit has in the repository at hand is no part of it: of those nothing is written.
    expect(all.filter((line) => !line.startsWith('v.txt'))).toEqual(
      (await archived(repository.path, commit)).filter((line) => !line.startsWith('v.txt')),
    );
    expect(all.map((line) => line.split(' ')[0])).not.toContain('src/secret');
    expect(content.notes).toEqual([expect.stringContaining('"b.bin"')]);
    const again = await newContext({
      environment: { GIT_DIR: '/tmp' },
    });
    expect((await fetchGit(`file://${repository.path}#${commit}`, again)).entry).toEqual(content.entry);
  });

  it('makes submodules origin entries, and leaves empty those that lead nowhere', async () => {
    const { root, repository, server } = await newRepository();
    const inner = makeRepository(join(root, 'inner.git'));
    const innerCommit = inner.commit(inner.treeOf(SMALL));
    const sub = { mode: '160000', id: innerCommit };
    const modules = (entries: Record<string, { path: string; url: string }>) =>
      Object.entries(entries)
        .map(([name, { path, url }]) => `[submodule "${name}"]\n\tpath = ${path}\n\turl = ${url}\n`)
        .join('');
    const tree = repository.tree([
      {
        mode: '100644',
        name: '.gitmodules',
        id: repository.blob(
          modules({
            one: { path: 'sub', url: '../inner.git' },
            'odd.git \\"name': { path: 'dir/other', url: 'https://example.org/x/../y.git' },
            local: { path: 'local', url: '/etc/secret.git' },
            file: { path: 'file', url: 'file:///etc/secret.git' },
            ext: { path: 'ext', url: 'ext::sh -c true' },
            dash: { path: 'dash', url: '--upload-pack=true' },
          }),
        ),
      },
      { name: 'dash', ...sub },
      { mode: '40000', name: 'dir', id: repository.tree([{ name: 'other', ...sub }]) },
      { name: 'ext', ...sub },
      { name: 'file', ...sub },
      { name: 'local', ...sub },
      { name: 'sub', ...sub },
      { name: 'unnamed', ...sub },
    ]);
    repository.commit(tree);
    const { url } = await server();
    const context = await newContext();
    const content = await fetchGit(`${url}/r.git`, context);
    expect(await listed(content, context)).toEqual([
      '.gitmodules file',
      'dash directory',
      'dir directory',
      `dir/other git:https://example.org/x/../y.git#${innerCommit} git:${innerCommit}`,
      'ext directory',
      'file directory',
      'local directory',
      `sub git:${url}/inner.git#${innerCommit} git:${innerCommit}`,
      'unnamed directory',
    ]);
    expect(content.notes).toHaveLength(5);
    const nested = await fetchGit(`${url}/inner.git#${innerCommit}`, context);
    expect(await described(nested, context)).toEqual(await archived(inner.path, innerCommit));
    repository.commit(
      repository.tree([
        { mode: '100644', name: '.gitmodules', id: repository.blob('[submodule "x') },
        { name: 'sub', ...sub },
      ]),
      { branch: 'broken' },
    );
    const broken = await fetchGit(`${url}/r.git#broken`, context);
    expect(await listed(broken, context)).toEqual(['.gitmodules file', 'sub directory']);
    expect(broken.notes).toHaveLength(2);
    // A repository of this machine may name others of it.
    const here = await newContext();
    expect(await listed(await fetchGit(repository.path, here), here)).toContain(
      `sub git:${inner.path}#${innerCommit} git:${innerCommit}`,
    );
  });

  it('takes an empty tree, and says of an empty repository that it is', async () => {
    const { repository } = await newRepository();
    const context = await newContext();
    expect(await errorOf(fetchGit(repository.path, context))).toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('no commit'),
    });
    repository.commit(repository.treeOf(directory()));
    const content = await fetchGit(repository.path, context);
    expect(content.entry).toMatchObject({ size: 0, files: 0 });
    // As git keeps none, and an archive has none.
    repository.commit(repository.treeOf(directory({ a: directory({ b: directory() }) })));
    expect(await described(await fetchGit(repository.path, context), context)).toEqual([]);
  });

  it.each([
    ['.git', '100644'],
    ['.GIT', '40000'],
    ['..', '40000'],
    ['.', '100644'],
    ['a/b', '100644'],
    ['x'.repeat(256), '100644'],
    ['odd', '110000'],
    ['link', '120000'],
  ])('refuses a tree with %j of mode %s', async (name, mode) => {
    const { repository } = await newRepository();
    const id = mode === '40000' ? repository.tree([]) : repository.blob(mode === '120000' ? '' : 'x');
    const commit = repository.commit(repository.tree([{ mode, name, id }]));
    const context = await newContext();
    const error = await errorOf(fetchGit(`${repository.path}#${commit}`, context));
    expect(error).toMatchObject({ code: expect.stringMatching(/^(CORRUPT|FAILED|UNSUPPORTED)$/) });
  });

  it('refuses a name that comes twice, and a tree where a file should be', async () => {
    const { repository } = await newRepository();
    const id = repository.blob('x');
    const entry = { mode: '100644', name: 'a', id };
    const context = await newContext();
    for (const tree of [
      repository.tree([entry, entry]),
      repository.tree([{ ...entry, id: repository.tree([entry]) }]),
    ]) {
      repository.commit(tree);
      expect(await errorOf(fetchGit(repository.path, context))).toMatchObject({
        code: expect.stringMatching(/^(CORRUPT|FAILED)$/),
      });
    }
  });

  it('notes pointers of Git LFS', async () => {
    const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n';
    const { repository } = await newRepository(
      directory({
        a: file(`${pointer}a`),
        b: file(`${pointer}b`),
        c: file(`${pointer}c`),
        d: file(`${pointer}d`),
      }),
    );
    const context = await newContext();
    const { notes } = await fetchGit(repository.path, context);
    expect(notes).toEqual([expect.stringMatching(/^4 files are pointers of Git LFS/)]);
  });

  it('stores large files without holding them', async () => {
    const { repository } = await newRepository();
    const content = pseudoRandom(12_000_000);
    const commit = repository.commit(
      repository.tree([{ mode: '100644', name: 'large', id: repository.blob(content) }]),
    );
    const context = await newContext();
    expect(await described(await fetchGit(repository.path, context), context)).toEqual(
      await archived(repository.path, commit),
    );
  });
});

describe('a reference of git', () => {
  const parsed = (text: string) => driver.parse(text, { directory: '/srv/here' });
  it.each([
    ['https://Example.ORG/a/b.git', 'https://example.org/a/b.git'],
    ['https://example.org/a/b.git/#main', 'https://example.org/a/b.git#main'],
    ['git+https://example.org/a.git#v1', 'https://example.org/a.git#v1'],
    ['git+ssh://git@example.org/a.git', 'ssh://git@example.org/a.git'],
    ['git@example.org:a/b.git#HEAD', 'git@example.org:a/b.git'],
    ['ssh://git@example.org:2222/a', 'ssh://git@example.org:2222/a'],
    ['../r.git', '/srv/r.git'],
    ['./a:b', '/srv/here/a:b'],
    ['.', '/srv/here'],
    ['file:///a/b/', 'file:///a/b'],
  ])('%s is %s', (text, canonical) => {
    expect(parsed(text)).toBe(canonical);
    expect(parsed(canonical)).toBe(canonical);
  });

  it.each([
    '',
    '--upload-pack=touch /tmp/x',
    'ext::sh -c id',
    'fd::3',
    'https::x',
    'ftp://example.org/x',
    'ssh://-oProxyCommand=id/x',
    '-oProxyCommand=id:x',
    'https://example.org/x#-b',
    'https://example.org/x#a b',
    'https://example.org/x#a..b',
    'https://example.org/x#a:b',
    'https://example.org/x\n',
    'https:///x',
    'file://relative',
  ])('refuses %j', async (text) => {
    expect(await errorOf(() => parsed(text))).toMatchObject({ code: 'USAGE' });
  });

  it.each([
    'https://ada:hunter2@example.org/x',
    'https://ghp_hunter2@example.org/x',
    'https://x-access-token:hunter2@example.org/x',
    'ssh://ada:hunter2@example.org/x',
  ])('does not repeat the secret in %j', async (text) => {
    const error = await errorOf(() => parsed(text));
    expect(error).toMatchObject({ code: 'USAGE', hint: expect.stringContaining('helper') });
    expect(`${error.message} ${error.hint}`).not.toContain('hunter2');
  });
});
