import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  BIN,
  oneDocument,
  type Result,
  runDaemon,
  type Sandbox,
  sandbox,
  start,
  writeFiles,
} from './helpers.ts';
import { unlessMountable } from './mount/mountable.ts';

interface Report {
  ok: boolean;
  checks: { name: string; status: 'ok' | 'unused' | 'limited' | 'failed'; detail: string; hint?: string }[];
}

/** What `doctor` says, by the names of what it has looked at. */
function byName(result: Result) {
  const { checks } = oneDocument<Report>(result);
  return Object.fromEntries(checks.map(({ name, ...check }) => [name, check]));
}

const doctor = (box: Sandbox, options?: Parameters<Sandbox['run']>[1]) =>
  box.run(['doctor', '--json'], options);

describe('doctor', () => {
  test('says of each thing whether it works, and leaves nothing behind', async () => {
    const box = sandbox();
    const before = fs.readdirSync(box.directory);
    const fresh = byName(await doctor(box));
    expect(fresh).toMatchObject({
      home: { status: 'ok' },
      store: { status: 'unused' },
      node: { status: 'ok' },
    });
    expect(fs.readdirSync(box.directory)).toEqual(before);

    await box.ok('import', writeFiles(box.path('w'), { file: 'x' }));
    const inHome = fs.readdirSync(box.home);
    const text = await box.run(['doctor']);
    for (const name of ['home', 'store', 'space', 'daemon', 'fuse', 'overlayfs', 'user namespaces', 'git'])
      expect(text.out).toMatch(new RegExp(`^(?:ok|-|limited) +${name} `, 'm'));
    expect(text.err).toBe('');
    expect(byName(await doctor(box)).store).toEqual({ status: 'ok', detail: 'format 1, opens' });
    expect(fs.readdirSync(box.home)).toEqual(inHome);
    expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(box.directory);
  });

  test.skipIf(unlessMountable('what doctor says of mounts'))('is content where mounts work', async () => {
    const box = sandbox();
    const checks = byName(await doctor(box));
    expect(checks.fuse).toMatchObject({ status: 'ok' });
    expect(checks.overlayfs).toMatchObject({ status: 'ok' });
  });

  test.skipIf(unlessMountable('what doctor says of no device'))(
    'says what to install, with exit code 3',
    async () => {
      const box = sandbox();
      const hide = 'mount -t tmpfs tmpfs /dev; PATH=/nonexistent; exec "$0" "$@"';
      const command = ['unshare', '--mount', 'sh', '-c', hide, process.execPath, BIN, 'doctor', '--json'];
      const result = await start(command, { home: box.home, cwd: box.directory }).ended;
      expect(result.code).toBe(3);
      expect(byName(result)).toMatchObject({
        fuse: { status: 'limited', hint: expect.stringContaining('modprobe fuse') },
        fusermount3: { status: 'unused' },
        git: { status: 'limited', hint: expect.stringContaining('git') },
        overlayfs: { status: 'ok' },
      });
      expect(oneDocument(result).ok).toBe(false);
    },
  );

  test('a home that cannot be is exit code 1', async () => {
    const box = sandbox();
    fs.writeFileSync(box.home, '');
    const result = await doctor(box);
    expect(result.code).toBe(1);
    expect(byName(result).home).toMatchObject({
      status: 'failed',
      hint: expect.stringContaining('LAZYTREE_HOME'),
    });
  });

  test('a store of another version, and one that is broken, are exit code 1', async () => {
    const box = sandbox();
    await box.ok('import', writeFiles(box.path('w'), { file: 'x' }));
    const format = join(box.home, 'store', 'format');
    fs.writeFileSync(format, 'lazytree store 2\n');
    const other = await doctor(box);
    expect(other.code).toBe(1);
    expect(byName(other).store).toMatchObject({
      status: 'failed',
      detail: expect.stringContaining('store 2'),
    });
    fs.writeFileSync(format, 'lazytree store 1\n');
    fs.rmSync(join(box.home, 'store', 'index'), { recursive: true });
    expect(byName(await doctor(box)).store).toMatchObject({ status: 'failed', hint: expect.any(String) });
  });

  test('the daemon, its cluster and remotes are asked', async () => {
    const box = sandbox();
    await box.ok('import', writeFiles(box.path('w'), { file: 'x' }));
    const daemon = await runDaemon({ home: box.home, cwd: box.directory });
    await box.ok('remote', 'add', 'gone', `file://${box.path('gone')}`);
    await box.ok('remote', 'add', 'there', `file://${box.directory}`);
    await box.ok('remote', 'add', 'cloud', 'azure://account/container');
    const key = { AZURE_STORAGE_KEY: 'no key' };
    const result = await doctor(box, { env: key });
    expect(result.code).toBe(3);
    expect(byName(result)).toMatchObject({
      daemon: { status: 'ok', detail: expect.stringContaining(String(daemon?.pid)) },
      store: { status: 'ok', detail: expect.stringContaining(String(daemon?.pid)) },
      cluster: { status: 'unused' },
      'remote gone': { status: 'limited', detail: expect.stringContaining(box.path('gone')) },
      'remote there': { status: 'ok' },
      'remote cloud': { status: 'limited', detail: expect.stringContaining('AZURE_STORAGE_KEY') },
    });
    expect(result.out).not.toContain(key.AZURE_STORAGE_KEY);
    await daemon?.stop();
  });

  test('a member of a cluster whose daemon does not run is told so', async () => {
    const box = sandbox();
    await box.ok('cluster', 'init');
    const running = byName(await doctor(box)).cluster;
    expect(running).toMatchObject({ status: 'ok', detail: expect.stringMatching(/0 of 0 peers/) });
    await box.ok('daemon', 'stop');
    expect(byName(await doctor(box)).cluster).toMatchObject({
      status: 'limited',
      hint: expect.stringContaining('daemon start'),
    });
  });

  test('a store that somebody else has is no fault of it', async () => {
    const box = sandbox();
    await box.ok('import', writeFiles(box.path('w'), { file: 'x' }));
    const core = new URL('../packages/core/dist/index.js', import.meta.url).href;
    const hold = `const { openLocalStore } = await import('${core}');
      await openLocalStore(${JSON.stringify(join(box.home, 'store'))});
      console.log('held'); setInterval(() => {}, 1000);`;
    const { child, ended } = start([process.execPath, '--input-type=module', '-e', hold], { home: box.home });
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    const result = await doctor(box);
    child.kill();
    await ended;
    expect(byName(result).store).toMatchObject({
      status: 'limited',
      detail: expect.stringContaining(`process ${child.pid}`),
    });
  });
});
