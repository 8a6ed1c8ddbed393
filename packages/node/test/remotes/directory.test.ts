import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openDirectoryStorage } from '../../dist/remotes/storage/directory.js';

const root = fs.mkdtempSync(join(tmpdir(), 'lazytree-directory-'));
afterAll(() => fs.rmSync(root, { recursive: true }));
const signal = new AbortController().signal;
const bytes = (text: string) => [Buffer.from(text)];

let directories = 0;
function newDirectory(): string {
  const directory = join(root, `directory${directories++}`);
  fs.mkdirSync(directory);
  return directory;
}

const open = (directory: string, staleLockMs?: number) =>
  openDirectoryStorage(directory, { url: `file://${directory}`, staleLockMs });

const lockOf = (directory: string, name: string) =>
  join(directory, '.lazytree', `${createHash('sha256').update(name).digest('hex')}.lock`);

test('a directory that is not there is not made', async () => {
  const directory = join(root, 'none');
  const storage = open(directory);
  const failure = {
    code: 'NOT_FOUND',
    message: expect.stringContaining(directory),
    hint: expect.stringMatching(/mount/),
  };
  await expect(storage.get('x', { signal })).rejects.toMatchObject(failure);
  await expect(storage.put('x', bytes('x'), { signal })).rejects.toMatchObject(failure);
  await expect(storage.put('x/y', bytes('x'), { signal, expected: 'nothing' })).rejects.toMatchObject(
    failure,
  );
  await expect(storage.delete('x', { signal })).rejects.toMatchObject(failure);
  await expect(storage.now({ signal })).rejects.toMatchObject(failure);
  await expect(storage.list('', { signal })[Symbol.asyncIterator]().next()).rejects.toMatchObject(failure);
  expect(fs.existsSync(directory)).toBe(false);
  fs.mkdirSync(directory);
  expect(await storage.put('x', bytes('x'), { signal })).toBeDefined();
});

test('nothing is left but the objects', async () => {
  const directory = newDirectory();
  const storage = open(directory);
  const first = (await storage.put('a/b/c', bytes('1'), { signal }))!;
  await storage.put('a/b/c', bytes('2'), { signal, expected: first });
  await storage.put('a/b/c', bytes('3'), { signal, expected: first });
  await storage.put('a/b/c', bytes('4'), { signal, expected: 'nothing' });
  await storage.put('new', bytes('5'), { signal, expected: 'nothing' });
  await storage.delete('new', { signal });
  await storage.now({ signal });
  expect(fs.readdirSync(join(directory, '.lazytree'))).toEqual([]);
  expect(fs.readdirSync(directory)).toEqual(['.lazytree', 'a']);
  expect(fs.readFileSync(join(directory, 'a/b/c'), 'utf8')).toBe('2');
});

test('what somebody has left who died goes away, and what is young stays', async () => {
  const directory = newDirectory();
  const own = join(directory, '.lazytree');
  fs.mkdirSync(own);
  for (const name of ['old.draft', 'young.draft']) fs.writeFileSync(join(own, name), 'x');
  const long = Date.now() / 1000 - 25 * 3600;
  fs.utimesSync(join(own, 'old.draft'), long, long);
  await open(directory).put('x', bytes('x'), { signal });
  expect(fs.readdirSync(own)).toEqual(['young.draft']);
});

test('links that lie there lead nowhere', async () => {
  const directory = newDirectory();
  const outside = newDirectory();
  fs.writeFileSync(join(outside, 'secret'), 'secret');
  fs.symlinkSync(join(outside, 'secret'), join(directory, 'link'));
  const storage = open(directory);
  await expect(storage.get('link', { signal })).rejects.toMatchObject({ code: 'FAILED' });
  const listed: string[] = [];
  for await (const { name } of storage.list('', { signal })) listed.push(name);
  expect(listed).toEqual([]);
  await storage.put('link', bytes('mine'), { signal });
  expect(fs.readFileSync(join(outside, 'secret'), 'utf8')).toBe('secret');
});

test('a lock is waited for, and taken away when it is old', async () => {
  const directory = newDirectory();
  const storage = open(directory, 600);
  const version = (await storage.put('x', bytes('1'), { signal }))!;
  fs.writeFileSync(lockOf(directory, 'x'), 'somebody who died');
  const began = performance.now();
  expect(await storage.put('x', bytes('2'), { signal, expected: version })).toBeDefined();
  expect(performance.now() - began).toBeGreaterThan(400);
  expect(fs.existsSync(lockOf(directory, 'x'))).toBe(false);
  // Others are not held up, and who gives up need not wait.
  fs.writeFileSync(lockOf(directory, 'x'), 'somebody who lives');
  await storage.put('y', bytes('1'), { signal });
  const given = new AbortController();
  setTimeout(() => given.abort(new Error('given up')), 50);
  await expect(storage.put('x', bytes('3'), { signal: given.signal })).rejects.toThrow('given up');
  expect((await storage.get('x', { signal }))?.bytes.toString()).toBe('2');
});

test('processes that update one object at the same time lose no update, also when some are killed', async () => {
  const directory = newDirectory();
  const storage = open(directory, 1000);
  await storage.put('counter', bytes('0'), { signal });
  const module = new URL('../../dist/remotes/storage/directory.js', import.meta.url).href;
  const code = `
    import { openDirectoryStorage } from ${JSON.stringify(module)};
    const signal = new AbortController().signal;
    const storage = openDirectoryStorage(${JSON.stringify(directory)}, { url: 'file:///x', staleLockMs: 1000 });
    for (let done = 0; done < 25; ) {
      const { bytes, version } = await storage.get('counter', { signal });
      const next = [Buffer.from(String(Number(bytes) + 1))];
      if (!(await storage.put('counter', next, { signal, expected: { version } }))) continue;
      done++;
      process.stdout.write('.');
    }`;
  const start = () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let updates = 0;
    child.stdout.on('data', (part: Buffer) => {
      updates += part.length;
    });
    return { child, updates: () => updates };
  };
  const all = Array.from({ length: 5 }, start);
  const killed = all[0];
  while (killed.updates() < 5) await new Promise((resolve) => setTimeout(resolve, 5));
  killed.child.kill('SIGKILL');
  await Promise.all(
    all.map(({ child }) => (child.exitCode ?? child.signalCode) === null && once(child, 'close')),
  );
  for (const { child, updates } of all.slice(1)) expect([child.exitCode, updates()]).toEqual([0, 25]);
  const count = Number((await storage.get('counter', { signal }))?.bytes);
  // The one that was killed may have made an update that it did not live to tell of.
  expect(count - all.reduce((sum, { updates }) => sum + updates(), 0)).toBeOneOf([0, 1]);
});

const isRoot = process.getuid?.() === 0;

test.runIf(isRoot)('a full disk, and one that may not be written to', async (context) => {
  const directory = newDirectory();
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory]);
  if (status !== 0) context.skip('nothing can be mounted here');
  try {
    const storage = open(directory);
    const full = {
      code: 'NO_SPACE',
      message: expect.stringContaining(`writing large to file://${directory}`),
    };
    await expect(storage.put('large', [Buffer.alloc(2 << 20)], { signal })).rejects.toMatchObject(full);
    expect(fs.readdirSync(join(directory, '.lazytree'))).toEqual([]);
    expect(await storage.get('large', { signal })).toBeUndefined();
    await storage.put('small', bytes('x'), { signal });
    spawnSync('mount', ['-o', 'remount,ro', directory]);
    await expect(storage.put('small', bytes('y'), { signal })).rejects.toMatchObject({ code: 'REFUSED' });
    expect((await storage.get('small', { signal }))?.bytes.toString()).toBe('x');
  } finally {
    spawnSync('umount', [directory]);
  }
});

test('writes within one step of the clock have different times in their versions', async () => {
  const storage = open(newDirectory());
  const names = Array.from({ length: 60 }, (_, at) => `object-${at}`);
  const puts = await Promise.all(names.map((name) => storage.put(name, bytes('x'), { signal })));
  const times = puts.map((put) => BigInt(Number.parseInt(put!.version.split('-')[2].slice(-6), 36)));
  // Of a million values each, two may be the same.
  expect(new Set(times).size).toBeGreaterThan(names.length - 3);
});
