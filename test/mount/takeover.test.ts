import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  BIN,
  expectSameTree,
  mounted,
  pseudoRandom,
  type Result,
  type RunOptions,
  type Sandbox,
  sandbox,
  sandboxOfNobody,
  start,
  whyNotNobody,
  writeFiles,
} from '../helpers.ts';
import { stopDaemon, unlessMountable } from './mountable.ts';
import { daemonPid, killDaemon, mountedOn, mounts, readsOf, sh, shOk } from './mounted.ts';

const FILES = {
  'README.md': 'hello\n',
  'src/index.js': 'console.log(1);\n',
  'src/lines': Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join(''),
  'src/deep/er/file': 'deep\n',
  'other/one': 'one\n',
  'other/two': 'two\n',
  'bin/tool': { executable: '#!/bin/sh\necho tool\n' },
};
/** What a command is to take at the most after the new daemon is there; nothing waits for a time to be over. */
const PATIENCE_MS = 20_000;

/** Processes whose command line has `text` in it. */
function processesWith(text: string): number[] {
  return fs
    .readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && commandLine(pid).includes(text));
}

function commandLine(pid: number): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

const keeperSocket = (home: string) => join(home, 'keeper.sock');
const keepers = (home: string) => processesWith(keeperSocket(home));

/** Waits till what is mounted by then would outlive the daemon. */
async function untilKept(home: string): Promise<void> {
  while (!fs.existsSync(keeperSocket(home))) await sleep(10);
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(20);
}

interface Shell {
  /** Runs a command, and returns what it printed. */
  ask(command: string): Promise<string>;
  end(): Promise<Result>;
}

/** A shell that stays where it is. */
function shell(options: RunOptions): Shell {
  const { child, ended } = start(['bash', '--norc'], { ...options, stdin: 'pipe' });
  let text = '';
  let told = () => {};
  for (const output of [child.stdout, child.stderr]) {
    output?.on('data', (part: Buffer) => {
      text += part;
      told();
    });
  }
  return {
    async ask(command) {
      text = '';
      const done = new Promise<void>((resolve) => {
        told = () => text.endsWith('<done>\n') && resolve();
      });
      child.stdin?.write(`${command}\necho '<done>'\n`);
      await Promise.race([
        done,
        sleep(PATIENCE_MS, undefined, { ref: false }).then(() => {
          throw new Error(`it hangs: ${command}: ${text}`);
        }),
      ]);
      return text.replace(/<done>\n$/, '');
    },
    end() {
      child.stdin?.end();
      return ended;
    },
  };
}

describe.skipIf(unlessMountable('daemons that take over'))('the daemon after one that was killed', () => {
  let box: Sandbox;

  beforeEach(async () => {
    box = sandbox();
    writeFiles(box.path('source'), FILES);
    await box.ok('import', 'source', '--name', 'base');
  });

  afterEach(async () => {
    await stopDaemon(box);
    expect(mountedOn(`${box.directory}/`, true)).toEqual([]);
    await until(() => keepers(box.home).length === 0);
    expect(fs.readdirSync(box.home).filter((name) => /keeper|\.sock/.test(name))).toEqual([]);
  });

  const shellIn = (directory: string) => shell({ home: box.home, cwd: box.path(directory) });

  async function killAndStart(): Promise<void> {
    await killDaemon(box);
    await box.ok('daemon', 'start');
  }

  /** What says that these are the mounts that there were. */
  const devices = () =>
    fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(box.directory))
      .map((line) => line.split(' ').slice(0, 6).join(' '))
      .sort();

  test('has all that was mounted, and shells that stand in it go on', async () => {
    await box.ok('mount', 'base', 'mount');
    await box.ok('mount', 'base/src', 'bound');
    await box.ok('workspace', 'create', 'app', '--from', 'base');
    await untilKept(box.home);
    const before = devices();
    const inMount = shellIn('mount/src');
    const inBound = shellIn('bound/deep');
    const inWorkspace = shellIn('app/src');
    expect(await inMount.ask('exec 3< lines; read -r a <&3; echo $a')).toBe('line 0\n');
    expect(
      await inWorkspace.ask('exec 3< lines; read -r a <&3; echo $a; echo kept > kept; echo x >> index.js'),
    ).toBe('line 0\n');

    for (let round = 0; round < 3; round++) {
      await killAndStart();
      // A directory that nobody had listed, and one in which they stand; files read before, and never.
      expect(await inMount.ask('ls; pwd -P')).toBe(`deep\nindex.js\nlines\n${box.path('mount/src')}\n`);
      expect(await inMount.ask('cat index.js ../other/one deep/er/file')).toBe(
        'console.log(1);\none\ndeep\n',
      );
      expect(await inMount.ask('read -r a <&3; echo $a')).toBe(`line ${round + 1}\n`);
      expect(await inMount.ask('../bin/tool')).toBe('tool\n');
      expect(await inBound.ask('cat er/file; cd ..; ls; cd deep')).toBe('deep\ndeep\nindex.js\nlines\n');
      expect(await inWorkspace.ask('ls; cat kept; tail -n 1 index.js')).toBe(
        'deep\nindex.js\nkept\nlines\nkept\nx\n',
      );
      expect(await inWorkspace.ask('read -r a <&3; echo $a')).toBe(`line ${round + 1}\n`);
      expect(
        await inWorkspace.ask(
          `echo ${round} > new${round}; echo more >> deep/er/file; cat new${round}; rm new${round}`,
        ),
      ).toBe(`${round}\n`);
      expect(devices()).toEqual(before);
    }

    expect(await inMount.ask('cat <&3 | tail -n 1')).toBe('line 19999\n');
    expect(await inMount.ask('cd ..; mv src x')).toContain('Read-only file system');
    expectSameTree(box.path('source'), box.path('mount'));
    const saved = await box.ok('workspace', 'save', 'app');
    expect(await box.ok('cat', `${saved}/src/deep/er/file`)).toBe('deep\nmore\nmore\nmore');
    for (const one of [inMount, inBound, inWorkspace]) expect((await one.end()).code).toBe(0);
    await box.ok('unmount', 'bound');
    await box.ok('workspace', 'remove', 'app');
    expect(await box.ok('gc')).toContain('kept');
    expect(await shOk(box, 'cat mount/other/two')).toBe('two\n');
    await box.ok('unmount', 'mount');
    expect(fs.existsSync(box.path('mount'))).toBe(false);
  });

  test('finds it in a home with a long name, whatever is in it', async () => {
    const directory = box.path(`a, b: c\\d ${'long '.repeat(20)}`);
    fs.mkdirSync(directory);
    const other = sandbox(directory);
    writeFiles(other.path('source'), FILES);
    await other.ok('import', 'source', '--name', 'base');
    await other.ok('mount', 'base', 'mount');
    await other.ok('workspace', 'create', 'app', '--from', 'base');
    await untilKept(other.home);
    const inWorkspace = shell({ home: other.home, cwd: other.path('app/src') });
    const inMount = shell({ home: other.home, cwd: other.path('mount/src') });
    await killDaemon(other);
    await other.ok('daemon', 'start');
    expect(await inWorkspace.ask('ls; cat deep/er/file')).toBe('deep\nindex.js\nlines\ndeep\n');
    expect(await inMount.ask('ls; cat deep/er/file')).toBe('deep\nindex.js\nlines\ndeep\n');
    for (const one of [inWorkspace, inMount]) await one.end();
    await stopDaemon(other);
  });

  test('keeps what had been read, and reads nothing twice', async () => {
    await box.ok('mount', 'base', 'mount');
    await shOk(box, 'find mount -type f -exec cat {} + | md5sum');
    await untilKept(box.home);
    await killAndStart();
    await shOk(box, 'find mount -type f -exec cat {} + | md5sum');
    expect(await readsOf(box)).toBe(0);
  });

  test('serves what is mounted and taken away from then on', async () => {
    await box.ok('mount', 'base', 'mount');
    await untilKept(box.home);
    await killAndStart();
    await box.ok('mount', 'base/src', 'later');
    await box.ok('workspace', 'create', 'app', '--from', 'base');
    await box.ok('unmount', 'mount');
    const inWorkspace = shellIn('app');
    const inLater = shellIn('later');
    await killAndStart();
    expect(await inWorkspace.ask('cat README.md; echo mine > mine; ls')).toBe(
      'hello\nREADME.md\nbin\nmine\nother\nsrc\n',
    );
    expect(await inLater.ask('cat index.js')).toBe('console.log(1);\n');
    expect((await mounts(box)).map(({ target, state }) => [target, state])).toEqual([
      [box.path('later'), 'mounted'],
      [box.path('app'), 'mounted'],
    ]);
    for (const one of [inWorkspace, inLater]) await one.end();
  });

  test('answers whoever was waiting when it happened', async () => {
    // Content comes from an image that lies in a mount of another home, whose daemon can be stopped.
    const large = pseudoRandom(9_000_000, 'far');
    writeFiles(box.path('images'), {});
    writeFiles(box.path('far'), {
      'a/first': pseudoRandom(5_000_000, 'near'),
      'b/large': large,
      'c/small': 'small\n',
    });
    await box.ok('import', 'far', '--name', 'far');
    await box.ok('save', 'far', 'images/far.image');
    const provider = sandbox(undefined, { cwd: box.directory });
    const lazy = sandbox();
    try {
      await provider.ok('import', box.path('images'), '--name', 'images');
      await provider.ok('mount', 'images', provider.path('images'));
      await lazy.ok('mount', `image:${provider.path('images/far.image')}`, 'mount', '--no-prefetch');
      await shOk(lazy, 'ls -R mount');
      await untilKept(lazy.home);
      const [stopped, killed] = [await daemonPid(provider), await daemonPid(lazy)];
      process.kill(stopped, 'SIGSTOP');
      const reader = start(['cat', 'mount/b/large'], { home: lazy.home, cwd: lazy.directory });
      await untilBothWait(killed, reader.child.pid as number);
      process.kill(killed, 'SIGKILL');
      process.kill(stopped, 'SIGCONT');
      await until(() => commandLine(killed) === '');
      const other = start(['cat', 'mount/c/small'], { home: lazy.home, cwd: lazy.directory });
      await sleep(100);
      expect([reader.child.exitCode, other.child.exitCode]).toEqual([null, null]);
      await lazy.ok('daemon', 'start');
      expect((await other.ended).out).toBe('small\n');
      const { code, stdout } = await reader.ended;
      expect(code).toBe(0);
      expect(stdout.equals(large)).toBe(true);
    } finally {
      await stopDaemon(lazy);
      await stopDaemon(provider);
    }
  });

  /** Waits till a process waits for an answer of `daemon`, and that for one itself. */
  async function untilBothWait(daemon: number, reader: number): Promise<void> {
    const waits = (task: string) =>
      /request_wait_answer|folio_wait/.test(fs.readFileSync(`/proc/${task}/stack`, 'utf8'));
    const threads = () => fs.readdirSync(`/proc/${daemon}/task`).map((thread) => `${daemon}/task/${thread}`);
    while (!waits(String(reader)) || !threads().some(waits)) await sleep(20);
  }

  test('finds nothing when it comes too late, and mounts anew', async () => {
    const impatient = { env: { LAZYTREE_KEEP_SECONDS: '1' } };
    expect((await box.run(['mount', 'base', 'mount'], impatient)).code).toBe(0);
    await untilKept(box.home);
    const inMount = shellIn('mount/src');
    await killDaemon(box);
    const { code, err } = await sh(box, 'cat mount/README.md');
    expect(code).toBe(1);
    expect(err).toMatch(/Transport endpoint is not connected|Software caused connection abort/);
    await until(() => keepers(box.home).length === 0);
    expect(fs.existsSync(keeperSocket(box.home))).toBe(false);
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted']);
    expect(await shOk(box, 'cat mount/README.md')).toBe('hello\n');
    expect(await inMount.ask('cat index.js')).toMatch(/not connected|Stale|No such file/);
    expect(await inMount.ask(`cd ${box.path('mount/src')}; cat index.js`)).toBe('console.log(1);\n');
    await inMount.end();
  });

  test('mounts anew when what kept the old mounts was killed, too', async () => {
    await box.ok('mount', 'base', 'mount');
    await box.ok('workspace', 'create', 'app', '--from', 'base');
    await untilKept(box.home);
    await shOk(box, 'echo mine > app/mine');
    const [keeper, ...others] = keepers(box.home);
    expect(others).toEqual([]);
    process.kill(keeper, 'SIGKILL');
    // The daemon does without.
    expect(await shOk(box, 'cat mount/README.md app/mine')).toBe('hello\nmine\n');
    await killAndStart();
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted', 'mounted']);
    expect(await shOk(box, 'cat mount/src/index.js app/mine')).toBe('console.log(1);\nmine\n');
    // And is kept again.
    await untilKept(box.home);
    await until(() => keepers(box.home).length === 1);
    const inMount = shellIn('mount');
    await killAndStart();
    expect(await inMount.ask('cat other/one')).toBe('one\n');
    await inMount.end();
  });

  test('mounts anew what was aborted meanwhile', async () => {
    await box.ok('mount', 'base', 'mount');
    await box.ok('workspace', 'create', 'app', '--from', 'base');
    await untilKept(box.home);
    await shOk(box, 'echo mine > app/mine');
    await killDaemon(box);
    const control = mounted(box.path('connections'), '-t', 'fusectl', 'none');
    for (const line of devices().filter((one) => one.includes('/mnt/'))) {
      const number = line.split(' ')[2].split(':')[1];
      fs.writeFileSync(join(control, number, 'abort'), '1');
    }
    spawnSync('umount', [control]);
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted', 'mounted']);
    expect(await shOk(box, 'cat mount/src/index.js app/mine app/README.md')).toBe(
      'console.log(1);\nmine\nhello\n',
    );
  });

  test('finds the keeper although all of the daemon’s group and session was killed', async () => {
    await box.ok('mount', 'base', 'mount');
    await untilKept(box.home);
    const inMount = shellIn('mount');
    process.kill(-(await daemonPid(box)), 'SIGKILL');
    await box.ok('daemon', 'start');
    expect(await inMount.ask('cat other/one')).toBe('one\n');
    await inMount.end();
  });

  test('comes with the next command, whatever that is', async () => {
    await box.ok('mount', 'base', 'mount');
    await untilKept(box.home);
    await killDaemon(box);
    const reader = start(['cat', 'mount/README.md', 'mount/src/index.js'], {
      home: box.home,
      cwd: box.directory,
    });
    expect(await box.ok('import', 'mount')).toBe(await box.ok('ref', 'get', 'base'));
    expect((await reader.ended).out).toBe('hello\nconsole.log(1);\n');
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted']);
  });

  test('takes nothing over when that is not wanted', async () => {
    const off = { env: { LAZYTREE_KEEP_SECONDS: '0' } };
    expect((await box.run(['mount', 'base', 'mount'], off)).code).toBe(0);
    await sleep(300);
    expect([keepers(box.home), fs.existsSync(keeperSocket(box.home))]).toEqual([[], false]);
    await killDaemon(box);
    expect((await sh(box, 'cat mount/README.md')).code).toBe(1);
    expect((await mounts(box)).map(({ state }) => state)).toEqual(['mounted']);
    expect(await shOk(box, 'cat mount/README.md')).toBe('hello\n');
  });

  test('leaves nothing behind of what was unmounted', async () => {
    await box.ok('mount', 'base', 'mount');
    await box.ok('workspace', 'create', 'app', '--from', 'base');
    await untilKept(box.home);
    const [keeper] = keepers(box.home);
    const files = (of: string) =>
      fs
        .readdirSync(`/proc/${keeper}/fd`)
        .map((fd) => fs.readlinkSync(`/proc/${keeper}/fd/${fd}`))
        .filter((path) => path.includes(of)).length;
    await until(() => files('/dev/fuse') === 2 && files('memfd:lazytree') === 2);
    await killAndStart();
    expect([files('/dev/fuse'), files('memfd:lazytree')]).toEqual([2, 2]);
    // What others lie over is replaced when somebody has taken it away, and another one is kept.
    await shOk(box, `umount -l ${box.home}/mnt/lower`);
    await box.ok('workspace', 'create', 'another', '--from', 'base');
    await until(() => files('/dev/fuse') === 3);
    await killAndStart();
    expect(await shOk(box, 'cat app/README.md another/README.md')).toBe('hello\nhello\n');
    await until(() => files('/dev/fuse') === 2 && files('memfd:lazytree') === 2);
    // And what nobody needs any more goes with the next daemon.
    await box.ok('unmount', 'mount');
    expect(mountedOn(join(box.home, 'mnt/trees'))).toEqual(['fuse.lazytree']);
    await killAndStart();
    expect(mountedOn(join(box.home, 'mnt/trees'))).toEqual([]);
    await until(() => files('/dev/fuse') === 1 && files('memfd:lazytree') === 1);
  });
});

const reason = whyNotNobody();

describe.skipIf(reason !== undefined || unlessMountable('daemons that take over'))('without root', () => {
  const DEVICE = '/dev/fuse';
  let box: Sandbox;
  let deviceMode: number;

  beforeEach(async () => {
    deviceMode = fs.statSync(DEVICE).mode & 0o777;
    fs.chmodSync(DEVICE, 0o666);
    box = sandboxOfNobody();
    writeFiles(box.path('source'), FILES);
    await box.ok('import', 'source', '--name', 'base');
  });

  afterEach(async () => {
    await stopDaemon(box);
    fs.chmodSync(DEVICE, deviceMode);
  });

  const options = (): RunOptions => ({
    home: box.home,
    cwd: box.directory,
    asNobody: true,
    env: { HOME: box.directory },
  });
  const exec = (script: string) => box.run(['workspace', 'exec', 'app', '--', 'sh', '-ec', script]);
  const holder = async () =>
    (await box.json<{ workspaces: { holder: { pid: number } }[] }>('workspace', 'list')).workspaces[0].holder;

  test('shells in a mount and in a workspace go on', async () => {
    await box.ok('mount', 'base', 'mount');
    expect((await box.run(['workspace', 'create', 'app', '--from', 'base'])).code).toBe(0);
    expect((await exec('echo mine > mine')).code).toBe(0);
    await untilKept(box.home);
    const first = await holder();
    const inMount = shell(options());
    const inWorkspace = shell(options());
    expect(await inMount.ask('cd mount/src; exec 3< lines; read -r a <&3; echo $a')).toBe('line 0\n');
    expect(
      await inWorkspace.ask(
        `exec ${process.execPath} ${BIN} workspace exec app -- bash --norc\ncd src; exec 3< lines; read -r a <&3; echo $a`,
      ),
    ).toBe('line 0\n');
    for (let round = 0; round < 3; round++) {
      await killDaemon(box);
      await box.ok('daemon', 'start');
      expect(await inMount.ask('cat index.js; ls deep/er; read -r a <&3; echo $a')).toBe(
        `console.log(1);\nfile\nline ${round + 1}\n`,
      );
      expect(await inWorkspace.ask('cat index.js ../mine; ls deep/er; read -r a <&3; echo $a')).toBe(
        `console.log(1);\nmine\nfile\nline ${round + 1}\n`,
      );
      expect(await inWorkspace.ask(`echo ${round} > new${round}; ls`)).toContain(`new${round}\n`);
      expect((await exec('cat mine other/two; ls src | tail -n 1')).out).toBe(`mine\ntwo\nnew${round}\n`);
      expect(await holder()).toEqual(first);
    }
    expect(await box.ok('cat', `${await box.ok('workspace', 'save', 'app')}/src/new2`)).toBe('2');
    for (const one of [inMount, inWorkspace]) await one.end();
    await box.ok('unmount', 'mount');
    await box.ok('workspace', 'remove', 'app');
    await box.ok('daemon', 'stop');
    await until(() => !fs.existsSync(`/proc/${first.pid}`));
  });

  test('a workspace whose holder was killed as well is mounted again, and what is left of the old one has nothing', async () => {
    expect((await box.run(['workspace', 'create', 'app', '--from', 'base'])).code).toBe(0);
    expect((await exec('echo mine > mine')).code).toBe(0);
    await untilKept(box.home);
    const { pid } = await holder();
    const inWorkspace = shell(options());
    await inWorkspace.ask(`exec ${process.execPath} ${BIN} workspace exec app -- bash --norc\ntrue`);
    await killDaemon(box);
    process.kill(pid, 'SIGKILL');
    await until(() => commandLine(pid) === '');
    await box.ok('daemon', 'start');
    expect((await exec('cat mine other/two')).out).toBe('mine\ntwo\n');
    expect(await inWorkspace.ask('cat other/one')).toMatch(/not connected|software caused|aborted/i);
    await inWorkspace.end();
  });
});
