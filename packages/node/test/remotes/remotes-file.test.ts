import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addRemote, findRemote, listRemotes, removeRemote } from '@lazytree/node/remotes';
import { afterAll, expect, test } from 'vitest';

const directory = fs.mkdtempSync(join(tmpdir(), 'lazytree-remotes-'));
afterAll(() => fs.rmSync(directory, { recursive: true }));
let homes = 0;
const newHome = () => join(directory, `home${homes++}`);
const remote = (name: string, more = {}) => ({ name, url: 'file:///srv', created: 1, ...more });

test('remotes are added, found and removed, in a file for their owner alone', async () => {
  const home = newHome();
  expect(await listRemotes(home)).toEqual([]);
  await addRemote(home, remote('b', { endpoint: 'https://e', credentialsFile: '/f' }));
  await addRemote(home, remote('a'));
  expect((await listRemotes(home)).map(({ name }) => name)).toEqual(['b', 'a']);
  expect(await findRemote(home, 'b')).toEqual(remote('b', { endpoint: 'https://e', credentialsFile: '/f' }));
  expect(fs.statSync(join(home, 'remotes.json')).mode & 0o777).toBe(0o600);
  await expect(addRemote(home, remote('a'))).rejects.toMatchObject({ code: 'REFUSED' });
  expect(await removeRemote(home, 'a')).toEqual(remote('a'));
  await expect(removeRemote(home, 'a')).rejects.toMatchObject({ code: 'NOT_FOUND', hint: 'there are: b' });
  await expect(findRemote(home, 'a')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect(await listRemotes(home)).toHaveLength(1);
});

test.each(['', 'a/b', 'a@b', '.a', '-a', 'a b', 'ä', 'x'.repeat(101)])('%j is no name', async (name) => {
  await expect(addRemote(newHome(), remote(name))).rejects.toMatchObject({ code: 'USAGE' });
});

test.each([
  '{',
  'null',
  '[]',
  '{"remotes": {}}',
  '{"remotes": [null]}',
  '{"remotes": [{"name": "a"}]}',
  '{"remotes": [{"name": "a/b", "url": "file:///", "created": 1}]}',
])('a file of %j is damaged, and stays as it is', async (text) => {
  const home = newHome();
  fs.mkdirSync(home);
  fs.writeFileSync(join(home, 'remotes.json'), text);
  await expect(listRemotes(home)).rejects.toMatchObject({ code: 'CORRUPT' });
  await expect(addRemote(home, remote('new'))).rejects.toMatchObject({ code: 'CORRUPT' });
  expect(fs.readFileSync(join(home, 'remotes.json'), 'utf8')).toBe(text);
});
