import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../../../core/test/helpers.js';
import { createDrivers } from '../../src/origins/drivers.js';

describe('a path after a single slash', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await temporaryDirectory();
    for (const name of ['repo/.git', 'repo/sub', 'project'])
      await mkdir(join(directory, name), { recursive: true });
    for (const name of ['a.tgz', 'repo/sub/b', 'project/package-lock.json'])
      await writeFile(join(directory, name), '{}');
  });

  const digest = `sha512-${'A/B'.repeat(28)}AA==`;
  it.each([
    ['npm', 'react', ['react|']],
    ['npm', 'react@^18 || 17', ['react@^18 || 17|']],
    ['npm', 'react@18/lib/a.js', ['react@18|lib/a.js']],
    ['npm', 'react/package.json', ['react|package.json']],
    ['npm', 'react@18/', ['react@18|']],
    ['npm', '@s/n', ['@s/n|']],
    ['npm', '@s/n@latest/a', ['@s/n@latest|a']],
    ['npm', '@s/n/a/b', ['@s/n|a/b']],
    ['npm', 'x@npm:@s/n@1', ['x@npm:@s/n@1|']],
    ['npm', 'git+https://h/a/b.git#v1', ['git+https://h/a/b.git#v1|']],
    ['npm', 'x@github:a/b', ['x@github:a/b|']],
    ['npm', 'https://h/a/-/a-1.tgz', ['https://h/a/-/a-1.tgz|']],
    ['npm', './a/b.tgz', ['./a/b.tgz|']],
    ['npm', 'a/b.tgz', ['a/b.tgz|']],
    ['tar', 'a.tgz', ['a.tgz|']],
    ['tar', 'a.tgz/b/c', ['a.tgz/b/c|', 'a.tgz|b/c']],
    ['tar', 'none.tgz/b', ['none.tgz/b|']],
    ['tar', `a.tgz#${digest}&strip=1`, [`a.tgz#${digest}&strip=1|`]],
    ['tar', `a.tgz#${digest}&strip=1/b`, [`a.tgz#${digest}&strip=1|b`]],
    ['tar', 'https://h/a/b.tar.gz', ['https://h/a/b.tar.gz|']],
    ['tar', 'https://h/a.tgz/b/c', ['https://h/a.tgz/b/c|', 'https://h/a.tgz/b|c', 'https://h/a.tgz|b/c']],
    ['dir', 'repo/sub', ['repo/sub|']],
    ['dir', 'none/at/all', ['none/at/all|']],
    ['npm-lock', 'project', ['project|']],
    ['npm-lock', 'project/react/a', ['project/react/a|', 'project|react/a']],
    [
      'npm-lock',
      'project/package-lock.json/a',
      ['project/package-lock.json/a|', 'project/package-lock.json|a'],
    ],
    ['git', 'repo', ['repo|']],
    ['git', 'repo/sub/b', ['repo/sub/b|', 'repo|sub/b']],
    ['git', 'file:///none/a', ['file:///none/a|']],
    ['git', 'https://h/a/b', ['https://h/a/b|']],
    ['git', 'https://h/a.git/b/c', ['https://h/a.git/b/c|', 'https://h/a.git|b/c']],
    ['git', 'git@h:a.git/b', ['git@h:a.git/b|', 'git@h:a.git|b']],
    ['git', 'https://h/a#f/x/y', ['https://h/a#f/x/y|', 'https://h/a#f/x|y', 'https://h/a#f|x/y']],
    ['github', 'a/b', ['a/b|']],
    ['github', 'a/b/c/d', ['a/b|c/d']],
    ['github', 'a/b@v1/c', ['a/b@v1/c|', 'a/b@v1|c']],
    ['unpkg', 'a@1/b', ['a@1/b|']],
  ])('%s:%s', async (name, text, expected) => {
    const driver = await createDrivers().get(name, []);
    const found = driver.readings?.(text, { directory }) ?? [{ reference: text, path: '' }];
    expect(found.map(({ reference, path }) => `${reference}|${path}`)).toEqual(expected);
  });

  it('dir: of a file is a path in its directory, and the directories above what is not there are left alone', async () => {
    const driver = await createDrivers().get('dir', []);
    expect(driver.readings?.('repo/sub/b', { directory })).toEqual([
      { reference: join(directory, 'repo/sub'), path: 'b' },
    ]);
  });
});
