import { once } from 'node:events';
import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { expectSameTree, pseudoRandom, type Sandbox, sandbox, start, writeFiles } from '../helpers.ts';
import { stopDaemon, unlessMountable } from './mountable.ts';
import { daemonPid, killDaemon, mountedOn, mounts, sh, shOk } from './mounted.ts';

const CONNECTIONS = '/sys/fs/fuse/connections';
const DAMAGED = pseudoRandom(9000, 'damaged');
const FILES = {
  'README.md': 'hello\n',
  'src/index.js': 'console.log(1);\n',
  'src/other.js': 'console.log(2);\n',
  'data/random': DAMAGED,
  'data/large': pseudoRandom(900_000),
};

describe.skipIf(unlessMountable('mounts that fail'))('a mount', () => {
  let box: Sandbox;
  let root: string;

  beforeEach(async () => {
    box = sandbox();
    writeFiles(box.path('source'), FILES);
    root = await box.ok('import', 'source', '--name', 'base');
  });

  afterEach(async () => {
    await stopDaemon(box);
    expect(mountedOn(`${box.directory}/`, true)).toEqual([]);
  });

  const log = () =>
    fs
      .readFileSync(join(box.home, 'daemon.log'), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  describe('whose daemon was killed, and that nobody keeps,', () => {
    beforeEach(() => {
      box = sandbox(box.directory, { env: { LAZYTREE_KEEP_SECONDS: '0' } });
    });

    test('fails at once, and is back with the next command', async () => {
      await box.ok('mount', 'base', 'one');
      await box.ok('mount', 'base/src', 'two');
      await killDaemon(box);
      for (const command of ['ls one', 'cat two/index.js', 'stat one/README.md']) {
        const { code, err } = await sh(box, command);
        expect(code).not.toBe(0);
        expect(err).toMatch(/Transport endpoint is not connected|Software caused connection abort/);
      }
      expect((await mounts(box)).map(({ target, state }) => [target, state])).toEqual([
        [box.path('one'), 'mounted'],
        [box.path('two'), 'mounted'],
      ]);
      expectSameTree(box.path('source'), box.path('one'));
      expectSameTree(box.path('source/src'), box.path('two'));
      for (const name of ['one', 'two']) {
        expect(mountedOn(box.path(name))).toHaveLength(1);
        await box.ok('unmount', name);
        expect(fs.existsSync(box.path(name))).toBe(false);
      }
    });

    test('keeps no command waiting, whatever it does there', async () => {
      await box.ok('mount', 'base', 'mount');
      await killDaemon(box);
      // Of another home, which knows nothing of it.
      const other = { home: box.path('other-home') };
      expect((await box.run(['import', 'source'], other)).code).toBe(0);
      for (const args of [
        ['import', 'mount'],
        ['mount', root, 'mount'],
        ['unmount', 'mount'],
        ['export', root, 'mount'],
        ['mount', root, 'mount/below'],
      ]) {
        const { code } = await box.run(args, other);
        expect([args, code]).not.toEqual([args, 0]);
      }
      await box.run(['daemon', 'stop'], other);
      expect((await box.run(['unmount', 'mount'])).code).toBe(0);
    });

    test('is back although somebody still holds the old one', async () => {
      await box.ok('mount', 'base', 'mount');
      const holder = start(['sleep', '600'], { home: box.home, cwd: box.path('mount/src') });
      await killDaemon(box);
      expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted']);
      expect(await shOk(box, 'cat mount/README.md')).toBe('hello\n');
      holder.child.kill('SIGKILL');
      await holder.ended;
    });

    test('leaves alone what was mounted there since', async () => {
      await box.ok('mount', 'base', 'mount');
      await killDaemon(box);
      await shOk(box, 'umount -l mount; mount -t tmpfs tmpfs mount; echo mine > mount/file');
      expect((await mounts(box)).map(({ state }) => state)).toEqual(['failed']);
      expect(await shOk(box, 'cat mount/file')).toBe('mine\n');
      await box.ok('unmount', 'mount');
      expect(await mounts(box)).toEqual([]);
      expect(await shOk(box, 'cat mount/file; umount mount')).toBe('mine\n');
    });

    test('is told to have failed when what it needs is gone, and the others are back', async () => {
      await box.ok('save', 'base', 'file.image');
      const home = box.path('empty-home');
      const run = async (...args: string[]) => {
        const { code, out, err } = await box.run(args, { home });
        expect({ args, code, err }).toEqual({ args, code: 0, err: '' });
        return out;
      };
      await run('import', 'source/src', '--name', 'src');
      await run('mount', 'image:file.image', 'from-image', '--no-prefetch');
      await run('mount', 'src', 'from-store');
      const { pid } = JSON.parse(await run('daemon', 'status', '--json')) as { pid: number };
      process.kill(pid, 'SIGKILL');
      fs.renameSync(box.path('file.image'), box.path('moved.image'));
      const listed = JSON.parse(await run('mounts', '--json')) as {
        mounts: { target: string; state: string }[];
      };
      expect(listed.mounts.map(({ target, state }) => [target, state])).toEqual([
        [box.path('from-image'), 'failed'],
        [box.path('from-store'), 'mounted'],
      ]);
      await run('unmount', 'from-image');
      await run('unmount', 'from-store');
      await run('daemon', 'stop');
    });
  });

  test('whose daemon is stopped waits for it, and whoever waits can be killed', async () => {
    await box.ok('mount', 'base', 'mount');
    const pid = await daemonPid(box);
    process.kill(pid, 'SIGSTOP');
    try {
      const waiting = start(['cat', 'mount/data/large'], { home: box.home, cwd: box.directory });
      const doomed = start(['ls', '-l', 'mount/src'], { home: box.home, cwd: box.directory });
      // Nothing tells that they wait in the kernel but that they do not end.
      await sleep(300);
      expect([waiting.child.exitCode, doomed.child.exitCode]).toEqual([null, null]);
      doomed.child.kill('SIGKILL');
      expect((await doomed.ended).signal).toBe('SIGKILL');
      process.kill(pid, 'SIGCONT');
      expect((await waiting.ended).stdout.equals(FILES['data/large'])).toBe(true);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    expect(await shOk(box, 'ls mount/src')).toBe('index.js\nother.js\n');
  });

  test('that somebody has unmounted is told to be so, and can be mounted again', async () => {
    await box.ok('mount', 'base', 'mount');
    await shOk(box, 'umount mount');
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['unmounted']);
    await box.ok('unmount', 'mount');
    await box.ok('mount', 'base', 'mount');
    // Something else in its place is not ours to take away.
    await shOk(box, 'umount mount; mount -t tmpfs tmpfs mount');
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['unmounted']);
    await box.ok('unmount', 'mount');
    expect(mountedOn(box.path('mount'))).toEqual(['tmpfs']);
    await shOk(box, 'umount mount');
    await box.ok('mount', 'base', 'mount');
    // Nor is what lies over it.
    await shOk(box, 'mount -t tmpfs tmpfs mount');
    const { code, err } = await box.run(['unmount', 'mount']);
    expect({ code, err }).toEqual({ code: 8, err: expect.stringContaining('tmpfs') });
    await shOk(box, 'umount mount');
    expect(await shOk(box, 'cat mount/README.md')).toBe('hello\n');
  });

  test('works on when what it was bound from is unmounted, and keeps no command waiting', async () => {
    await box.ok('mount', 'base', 'mount');
    await shOk(box, `umount -l ${box.home}/mnt/trees`);
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted']);
    expect(await shOk(box, 'cat mount/README.md')).toBe('hello\n');
    await box.ok('mount', 'base', 'another');
    expect(await shOk(box, 'cat another/README.md mount/README.md')).toBe('hello\nhello\n');
    await box.ok('daemon', 'stop');
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted', 'mounted']);
    expect(await shOk(box, 'cat mount/README.md')).toBe('hello\n');
    await box.ok('unmount', 'mount');
  });

  test('does not keep the daemon from ending, and is back with the next', async () => {
    await box.ok('mount', 'base', 'mount');
    const holder = start(['bash', '-c', 'exec 3< README.md; echo ready; read; cat <&3'], {
      home: box.home,
      cwd: box.path('mount'),
      stdin: 'pipe',
    });
    await once(holder.child.stdout as NodeJS.ReadableStream, 'data');
    await box.ok('daemon', 'stop');
    expect(mountedOn(box.path('mount'))).toEqual([]);
    holder.child.stdin?.end('\n');
    expect((await holder.ended).code).toBe(1);
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted']);
    expect(await shOk(box, 'cat mount/README.md')).toBe('hello\n');
  });

  test('whose connection was aborted keeps no command waiting, and the next has a new one', async () => {
    await box.ok('mount', 'base', 'mount');
    const line = fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((one) => one.split(' ')[4] === box.path('mount')) as string;
    const { code: isMounted } = await sh(box, `mountpoint -q ${CONNECTIONS}`);
    if (isMounted !== 0) await shOk(box, `mount -t fusectl fusectl ${CONNECTIONS}`);
    fs.writeFileSync(`${CONNECTIONS}/${line.split(' ')[2].split(':')[1]}/abort`, '1');
    if (isMounted !== 0) await shOk(box, `umount ${CONNECTIONS}`);
    // It fails, or finds what the daemon has mounted meanwhile; it does not wait.
    const { code, out } = await sh(box, 'cat mount/README.md');
    expect([code, out]).toEqual(code === 0 ? [0, 'hello\n'] : [1, '']);
    await mounts(box);
    await box.ok('mount', 'base', 'another');
    expect(await shOk(box, 'cat another/README.md')).toBe('hello\n');
    await box.ok('unmount', 'mount');
  });

  /** Flips a byte of the block of `data/random`, whose bytes stand in a segment as they are. */
  function damage(): void {
    const segments = join(box.home, 'store', 'segments');
    for (const name of fs.readdirSync(segments)) {
      const bytes = fs.readFileSync(join(segments, name));
      const at = bytes.indexOf(DAMAGED);
      if (at < 0) continue;
      const fd = fs.openSync(join(segments, name), 'r+');
      fs.writeSync(fd, Buffer.of(bytes[at + 5000] ^ 1), 0, 1, at + 5000);
      fs.closeSync(fd);
      return;
    }
    throw new Error('the block is not there');
  }

  test('with a damaged block fails for that file, says so, and is repaired by who has it', async () => {
    const { cid } = await box.json<{ cid: string }>('stat', 'base/data/random');
    await box.ok('save', 'base', 'file.image');
    await box.ok('mount', 'base', 'mount');
    damage();
    const { code, err } = await sh(box, 'cat mount/data/random');
    expect({ code, err }).toEqual({ code: 1, err: 'cat: mount/data/random: Input/output error\n' });
    expect(await shOk(box, 'cat mount/README.md mount/src/*')).toBe(
      'hello\nconsole.log(1);\nconsole.log(2);\n',
    );
    const failure = log().find(({ msg }) => msg === 'EIO');
    expect(failure).toMatchObject({ root, path: 'data/random', cid, providers: [] });

    await box.ok('mount', 'image:file.image', 'from-image', '--no-prefetch');
    expect((await sh(box, 'cat mount/data/random')).stdout.equals(DAMAGED)).toBe(true);
    expect(log().find(({ msg }) => msg === 'a damaged block was replaced')).toMatchObject({
      cid,
      provider: expect.stringContaining('file.image'),
    });
    await box.ok('unmount', 'mount');
    await box.ok('unmount', 'from-image');
    expect(await box.json('verify', 'base')).toMatchObject({ sound: true });
  });

  test('says which providers were tried for what nobody has', async () => {
    await box.ok('save', 'base/src', 'src.image');
    const { cid } = await box.json<{ cid: string }>('stat', 'base/data/random');
    await box.ok('mount', 'image:src.image', 'provider', '--no-prefetch');
    await box.ok('mount', 'base', 'mount');
    damage();
    expect((await sh(box, 'cat mount/data/random')).code).toBe(1);
    expect(log().find(({ msg }) => msg === 'EIO')).toMatchObject({
      root,
      path: 'data/random',
      cid,
      providers: [expect.stringContaining('src.image')],
    });
  });

  test('that the daemon itself looks into never keeps it waiting for itself', async () => {
    await box.ok('save', 'base', 'file.image');
    const lazy = { home: box.path('lazy-home') };
    expect((await box.run(['mount', 'image:file.image', 'mount', '--no-prefetch'], lazy)).code).toBe(0);
    const { code, err } = await box.run(['import', 'mount'], lazy);
    expect(code).not.toBe(0);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect((await box.run(['prefetch', 'image:file.image'], lazy)).code).toBe(0);
    const whole = await box.run(['import', 'mount'], lazy);
    expect(whole).toMatchObject({ code: 0, out: `${root}\n` });
    expect((await box.run(['unmount', 'mount'], lazy)).code).toBe(0);
    await box.run(['daemon', 'stop'], lazy);
  });

  test('of an image brings what is read, and nothing else', async () => {
    await box.ok('save', 'base', 'file.image');
    const lazy = { home: box.path('lazy-home') };
    const json = async <T>(...args: string[]) => {
      const { code, out, err } = await box.run([...args, '--json'], lazy);
      expect({ args, code, err }).toEqual({ args, code: 0, err: '' });
      return JSON.parse(out) as T;
    };
    /** As the daemon leaves them behind; with the next command there is another. */
    const blocks = async () => {
      await json('daemon', 'stop');
      return (await json<{ blocks: number }>('status')).blocks;
    };
    await json('mount', 'image:file.image', 'mount', '--no-prefetch');
    await json('mounts');
    expect(await shOk(box, 'find mount -type f -printf "%s\\n" | sort -n | tail -1')).toBe('900000\n');
    // The directories, and no content.
    expect(await blocks()).toBe(3);
    await json('mounts');
    expect(await shOk(box, 'cat mount/README.md')).toBe('hello\n');
    expect(await blocks()).toBe(4);
    await json('mounts');
    await shOk(box, 'cat mount/README.md mount/data/large > /dev/null');
    const { mounts: listed } = await json<{ mounts: { use: { fetched: number; hits: number } }[] }>('mounts');
    expect(listed[0].use.fetched).toBeGreaterThan(0);
    expect(listed[0].use.hits).toBeGreaterThanOrEqual(0);
    // Everything is here: without the image it works as well.
    await shOk(box, 'cat mount/src/* mount/data/* > /dev/null');
    await json('unmount', 'mount');
    const all = await blocks();
    await json('mount', root, 'again');
    fs.rmSync(box.path('file.image'));
    expectSameTree(box.path('source'), box.path('again'));
    expect(await blocks()).toBe(all);
    await json('unmount', 'again');
    await box.run(['daemon', 'stop'], lazy);
  });
});
