import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  BIN,
  mounted,
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

const FILES = {
  big: Buffer.alloc(3 << 20, 'big file '),
  link: { symlink: 'src/index.js' },
  'src/deep/er/file': 'deep\n',
  'src/index.js': 'console.log(1);\n',
  'bin/tool': { executable: '#!/bin/sh\n' },
  'README.md': 'hello\n',
};
const DEVICE = '/dev/fuse';

interface Listed {
  name: string;
  state: string;
  saved: string;
  holder: { pid: number; namespace: string } | null;
}

const reason = whyNotNobody();
if (reason) console.warn(`skipped all tests of mounts without root: ${reason}`);

describe.skipIf(reason !== undefined || unlessMountable('mounts without root'))('without root', () => {
  let box: Sandbox;
  let root: string;
  let deviceMode: number;
  let control: string;

  beforeAll(() => {
    // As udev has it; without udev, it is root's.
    deviceMode = fs.statSync(DEVICE).mode & 0o777;
    fs.chmodSync(DEVICE, 0o666);
    control = mounted(sandbox().path('connections'), '-t', 'fusectl', 'none');
  });

  afterAll(() => fs.chmodSync(DEVICE, deviceMode));

  beforeEach(async () => {
    box = sandboxOfNobody();
    writeFiles(box.path('source'), FILES);
    root = await box.ok('import', 'source', '--name', 'base');
  });

  afterEach(() => stopDaemon(box));

  test('install scripts run where the workspace is seen', async () => {
    const modules = {
      '.package-lock.json': JSON.stringify({
        lockfileVersion: 3,
        packages: { 'node_modules/built': { version: '1.0.0', hasInstallScript: true } },
      }),
      'built/package.json': JSON.stringify({ name: 'built', scripts: { install: 'echo $PWD > where' } }),
    };
    writeFiles(box.path('installed/node_modules'), modules);
    await box.ok('import', 'installed', '--name', 'installed');
    await box.run(['workspace', 'create', 'app', '--from', 'installed']);
    expect(await box.ok('workspace', 'run-scripts', 'app')).toBe(box.path('app'));
    await box.ok('workspace', 'save', 'app');
    expect(await box.ok('cat', 'app/node_modules/built/where')).toBe(box.path('app/node_modules/built'));
  });

  const options = (more: Partial<RunOptions> = {}): RunOptions => ({
    home: box.home,
    cwd: box.directory,
    asNobody: true,
    env: { HOME: box.directory },
    ...more,
  });
  const asNobody = async (...command: string[]): Promise<Result> => start(command, options()).ended;
  const workspaces = async () => (await box.json<{ workspaces: Listed[] }>('workspace', 'list')).workspaces;
  const daemon = async () => (await box.json<{ pid: number }>('daemon', 'status')).pid;

  const inside = (name: string, script: string, more?: Partial<RunOptions>) =>
    box.run(['workspace', 'exec', name, '--', 'sh', '-ec', script], { ...options(), ...more });
  async function insideOk(name: string, script: string, more?: Partial<RunOptions>): Promise<string> {
    const { code, out, err } = await inside(name, script, more);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    return out;
  }

  async function create(name: string, ...args: string[]): Promise<void> {
    const { code, out, err } = await box.run(['workspace', ...args]);
    expect({ code, out }).toEqual({ code: 0, out: `${box.path(name)}\n` });
    expect(err).toBe(
      `lazytree: warning: without root, only what \`lazytree workspace exec ${name}\` runs sees the workspace\n`,
    );
  }

  /** What an import by itself, with a home of its own, makes of what the workspace shows. */
  const importInside = async (name: string) =>
    (
      await insideOk(
        name,
        `LAZYTREE_HOME=${box.path('other')} ${process.execPath} ${BIN} import ${box.path(name)}`,
      )
    ).trim();

  /** Ends the FUSE connection of a mount, as fusectl lets its owner do. */
  async function abort(target: string): Promise<void> {
    const line = fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((one) => one.split(' ')[4] === target);
    const number = line?.split(' ')[2].split(':')[1];
    fs.writeFileSync(join(control, String(number), 'abort'), '1');
  }

  async function untilGone(pid: number): Promise<void> {
    while (fs.existsSync(`/proc/${pid}`)) await sleep(20);
  }

  describe('a mount', () => {
    test('shows the tree, tells CIDs, and goes again', async () => {
      expect(await box.ok('mount', 'base', 'm')).toBe(box.path('m'));
      await box.ok('export', 'base', 'exported');
      expect(await asNobody('diff', '-r', '--no-dereference', 'm', 'exported')).toMatchObject({
        code: 0,
        out: '',
      });
      const { cid } = await box.json<{ cid: string }>('stat', 'base/README.md');
      const { out } = await asNobody('getfattr', '--only-values', '-n', 'user.lazytree.cid', 'm/README.md');
      expect(out).toBe(cid);
      const { err } = await asNobody('touch', 'm/new');
      expect(err).toContain('Read-only file system');
      const { mounts } = await box.json<{ mounts: object[] }>('mounts');
      expect(mounts).toMatchObject([{ target: box.path('m'), state: 'mounted', root }]);
      await box.ok('unmount', 'm');
      expect(fs.existsSync(box.path('m'))).toBe(false);
    });

    test('several at once, each a connection of its own', async () => {
      const names = ['a', 'b', 'c'];
      await Promise.all(names.map((name) => box.ok('mount', 'base', name)));
      for (const name of names) expect((await asNobody('cat', `${name}/README.md`)).out).toBe('hello\n');
      await box.ok('unmount', 'b');
      expect((await asNobody('cat', 'c/src/index.js')).out).toBe('console.log(1);\n');
      const { mounts } = await box.json<{ mounts: { target: string }[] }>('mounts');
      expect(mounts.map(({ target }) => target).sort()).toEqual([box.path('a'), box.path('c')]);
    });

    test('that is busy is not unmounted, unless lazily', async () => {
      await box.ok('mount', 'base', 'm');
      const user = start(['sh', '-c', 'cd m && echo ready && exec sleep 60'], options());
      await new Promise((resolve) => user.child.stdout?.once('data', resolve));
      const { code, err } = await box.run(['unmount', 'm']);
      expect(code).toBe(8);
      expect(err).toContain(`process ${user.child.pid}, working directory ${box.path('m')}`);
      await box.ok('unmount', '--lazy', 'm');
      user.child.kill();
      await user.ended;
    });

    test('that nobody keeps comes back with the daemon after the one that was killed', async () => {
      const { HOME } = options().env as NodeJS.ProcessEnv;
      const { code } = await box.run(['mount', 'base', 'm'], { env: { HOME, LAZYTREE_KEEP_SECONDS: '0' } });
      expect(code).toBe(0);
      const pid = await daemon();
      process.kill(pid, 'SIGKILL');
      await untilGone(pid);
      expect((await asNobody('ls', 'm')).code).not.toBe(0);
      const { mounts } = await box.json<{ mounts: object[] }>('mounts');
      expect(mounts).toMatchObject([{ target: box.path('m'), state: 'mounted' }]);
      expect((await asNobody('cat', 'm/README.md')).out).toBe('hello\n');
    });

    test('is mounted again when its connection dies, unless somebody has unmounted it', async () => {
      await box.ok('mount', 'base', 'm');
      await abort(box.path('m'));
      while ((await asNobody('cat', 'm/README.md')).out !== 'hello\n') await sleep(50);
      expect(await asNobody('fusermount3', '-u', 'm')).toMatchObject({ code: 0 });
      const { mounts } = await box.json<{ mounts: object[] }>('mounts');
      expect(mounts).toMatchObject([{ target: box.path('m'), state: 'unmounted' }]);
      await box.ok('unmount', 'm');
    });

    test('that another mount namespace has, too, ends all the same', async () => {
      await box.ok('mount', 'base', 'm');
      const keeper = start(
        ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', 'echo; exec sleep 60'],
        {
          home: box.home,
        },
      );
      await new Promise((resolve) => keeper.child.stdout?.once('data', resolve));
      const pid = await daemon();
      await box.ok('unmount', 'm');
      await box.ok('mount', 'base', 'm');
      await box.ok('daemon', 'stop');
      await untilGone(pid);
      keeper.child.kill();
      await keeper.ended;
    });
  });

  describe('a workspace', () => {
    test('is seen by what `exec` runs, and saved as an import of it would be', async () => {
      await create('app', 'create', 'app', '--from', 'base');
      expect(fs.readdirSync(box.path('app'))).toEqual([]);
      expect((await asNobody('touch', 'app/beside')).code).toBe(1);
      expect(await box.ok('workspace', 'save', 'app')).toBe(root);
      await insideOk(
        'app',
        `echo more >> README.md; rm src/index.js; mkdir new; echo x > new/x; mv src/deep src/deeper
         chmod +x src/deeper/er/file; ln -sf README.md link; rm -r bin; echo file > bin
         rm -r src; mkdir src; echo again > src/again; truncate -s 5M big; mkfifo pipe; ln bin hard`,
      );
      const { code, out } = await box.run(['workspace', 'save', 'app', '-m', 'changed']);
      expect(code).toBe(3);
      await insideOk('app', 'rm pipe');
      const saved = await box.ok('workspace', 'save', 'app');
      expect(out.trim()).toBe(saved);
      expect(saved).not.toBe(root);
      expect(await importInside('app')).toBe(saved);
      expect(await box.ok('workspace', 'save', 'app')).toBe(saved);
    });

    test('has users who stay who they are, without privileges', async () => {
      await create('app', 'create', 'app', '--from', 'base');
      const who = 'id; grep -E "^(Cap(Prm|Eff|Amb)|SigIgn)" /proc/self/status';
      const { out } = await asNobody('sh', '-c', who);
      expect(await insideOk('app', who)).toBe(out);
      expect(await insideOk('app', 'stat -c %u:%g . README.md')).toBe('65534:65534\n65534:65534\n');
    });

    test('takes git, and a package manager at work', async () => {
      await create('app', 'create', 'app');
      await insideOk(
        'app',
        `git init -q .; git config user.name a; git config user.email b; echo 1 > file; git add -A
         git commit -qm one; echo 2 >> file; git commit -qam two; git checkout -q HEAD~1; git gc -q --prune=now
         git fsck 2>/dev/null; test -z "$(git status --porcelain)"`,
      );
      const install = `for p in $(seq 60); do mkdir -p node_modules/p$p/lib node_modules/.bin
          for f in 1 2 3 4 5; do echo "$p $f $RUN" > node_modules/p$p/lib/$f.js; done
          ln -sf ../p$p/lib/1.js node_modules/.bin/p$p; done
        mv node_modules/p1 node_modules/.p1-old; mv node_modules/p2 node_modules/p1; rm -rf node_modules/.p1-old`;
      await insideOk('app', `RUN=1; ${install}`);
      await box.ok('workspace', 'save', 'app');
      await insideOk(
        'app',
        `rm -rf node_modules; RUN=2; ${install}; rm -rf node_modules/p7; mkdir node_modules/p7`,
      );
      const saved = await box.ok('workspace', 'save', 'app');
      expect(await importInside('app')).toBe(saved);
      expect(await box.ok('cat', 'app/node_modules/p1/lib/3.js')).toBe('2 3 2');
    });

    test('is forked, restored and removed', async () => {
      await create('app', 'create', 'app', '--from', 'base');
      await insideOk(
        'app',
        'echo mine > mine; mkdir -p locked/deep; touch locked/deep/f; chmod 500 locked/deep locked',
      );
      await create('two', 'fork', 'app', 'two');
      await insideOk('two', 'test "$(cat mine)" = mine; echo two > mine; rm -r src');
      expect(await insideOk('app', 'cat mine; ls src')).toBe('mine\ndeep\nindex.js\n');
      await box.ok('workspace', 'restore', 'app', 'base');
      expect(await insideOk('app', 'ls')).toBe('README.md\nbig\nbin\nlink\nsrc\n');
      const { snapshots } = await box.json<{ snapshots: { root: string }[] }>('log', 'app');
      expect(await box.ok('cat', `${snapshots[1].root}/mine`)).toBe('mine');
      await box.ok('workspace', 'remove', 'app');
      await box.ok('workspace', 'remove', 'two');
      expect(await workspaces()).toEqual([]);
      expect(await box.ok('cat', 'two/mine')).toBe('two');
      expect(fs.existsSync(box.path('app'))).toBe(false);
      await box.ok('daemon', 'stop');
      expect(fs.readdirSync(join(box.home, 'workspaces'), { recursive: true })).toEqual(['.trash']);
    });

    test('that is busy is not taken away', async () => {
      await create('app', 'create', 'app', '--from', 'base');
      const user = start(
        [process.execPath, BIN, 'workspace', 'exec', 'app', 'sh', '-c', 'echo ready; exec sleep 60'],
        options(),
      );
      await new Promise((resolve) => user.child.stdout?.once('data', resolve));
      const { code, err } = await box.run(['workspace', 'remove', 'app']);
      expect(code).toBe(8);
      expect(err).toContain(`sleep (process ${user.child.pid}, working directory ${box.path('app')})`);
      user.child.kill();
      await user.ended;
      await box.ok('workspace', 'remove', 'app');
    });

    test('that nobody keeps loses nothing when the daemon is killed, and is there with the next one', async () => {
      const { HOME } = options().env as NodeJS.ProcessEnv;
      const env = { HOME, LAZYTREE_KEEP_SECONDS: '0' };
      expect((await box.run(['daemon', 'start'], { env })).code).toBe(0);
      await create('app', 'create', 'app', '--from', 'base');
      await insideOk('app', 'echo unsaved > unsaved; rm README.md');
      const [{ holder }] = await workspaces();
      const pid = await daemon();
      process.kill(pid, 'SIGKILL');
      await untilGone(holder?.pid as number);
      expect(await insideOk('app', 'cat unsaved; ls')).toBe('unsaved\nbig\nbin\nlink\nsrc\nunsaved\n');
      expect(await box.ok('cat', `${await box.ok('workspace', 'save', 'app')}/unsaved`)).toBe('unsaved');
    });

    test('loses nothing when its holder is killed', async () => {
      await create('app', 'create', 'app', '--from', 'base');
      await insideOk('app', 'echo unsaved > unsaved');
      const [{ holder }] = await workspaces();
      process.kill(holder?.pid as number, 'SIGKILL');
      await untilGone(holder?.pid as number);
      while ((await workspaces())[0].state !== 'unmounted') await sleep(20);
      const { code, err } = await inside('app', 'true');
      expect(code).toBe(1);
      expect(err).toContain("the workspace 'app' is not mounted");
      expect(await box.ok('cat', `${await box.ok('workspace', 'save', 'app')}/unsaved`)).toBe('unsaved');
      await box.ok('daemon', 'stop');
      expect(await insideOk('app', 'cat unsaved')).toBe('unsaved\n');
    });

    test('is mounted again when what it lies over dies', async () => {
      await create('app', 'create', 'app', '--from', 'base');
      await insideOk('app', 'echo unsaved > unsaved');
      await abort(join(box.home, 'mnt/lower'));
      while ((await inside('app', 'cat README.md unsaved')).out !== 'hello\nunsaved\n') await sleep(50);
    });

    test('is not read through the daemon, which would see an empty directory', async () => {
      await create('app', 'create', 'app', '--from', 'base');
      const commands = [
        ['import', '.'],
        ['export', 'base', 'exported'],
        ['save', 'base', 'image'],
      ];
      for (const args of commands) {
        const { code, err } = await inside('app', `cd src; ${process.execPath} ${BIN} ${args.join(' ')}`);
        expect(code).toBe(8);
        expect(err).toContain("is in the workspace 'app', which the daemon cannot see");
      }
      expect((await box.run(['mount', 'base', 'app'])).code).toBe(2);
    });
  });

  describe('`workspace exec`', () => {
    beforeEach(() => create('app', 'create', 'app', '--from', 'base'));

    const exec = (args: string[], more?: Partial<RunOptions>) =>
      box.run(['workspace', 'exec', 'app', ...args], { ...options(), ...more });

    test('passes arguments, the environment, exit codes and signals', async () => {
      const dashes = await exec(['printf', '<%s>', '--json', '--help', '', 'a b', '--', '-x']);
      expect(dashes).toMatchObject({ code: 0, out: '<--json><--help><><a b><--><-x>', err: '' });
      expect(
        await exec(['--', 'sh', '-c', 'echo $GREETING >&2; exit 42'], {
          env: { HOME: box.directory, GREETING: 'hi' },
        }),
      ).toMatchObject({ code: 42, err: 'hi\n' });
      expect(await exec(['sh', '-c', 'kill -TERM $$'])).toMatchObject({ signal: 'SIGTERM' });
      expect(await exec(['no-such-program'])).toMatchObject({ out: '' });
    });

    test('without a command it is $SHELL', async () => {
      const env = { HOME: box.directory, SHELL: '/bin/pwd' };
      expect(await exec([], { env })).toMatchObject({ code: 0, out: `${box.path('app')}\n` });
    });

    test('begins where the caller is when that is inside', async () => {
      const nested = `cd src/deep; ${process.execPath} ${BIN} workspace exec app -- pwd`;
      expect(await insideOk('app', nested)).toBe(`${box.path('app/src/deep')}\n`);
      expect(await insideOk('app', 'pwd', { cwd: box.path('source') })).toBe(`${box.path('app')}\n`);
    });

    test('enters another workspace from inside', async () => {
      await create('two', 'create', 'two', '--from', 'base');
      const nested = `${process.execPath} ${BIN} workspace exec two -- sh -c 'pwd; ls README.md'`;
      expect(await insideOk('app', nested)).toBe(`${box.path('two')}\nREADME.md\n`);
    });

    test('becomes the command: what is sent to it arrives there', async () => {
      const running = start(
        [
          process.execPath,
          BIN,
          'workspace',
          'exec',
          'app',
          'sh',
          '-c',
          'trap "echo got; exit 7" INT; echo; while :; do sleep 0.05; done',
        ],
        options(),
      );
      await new Promise((resolve) => running.child.stdout?.once('data', resolve));
      running.child.kill('SIGINT');
      expect(await running.ended).toMatchObject({ code: 7, out: '\ngot\n' });
    });

    test('an unknown workspace is one line', async () => {
      const { code, err } = await box.run(['workspace', 'exec', 'nothing', 'true']);
      expect(code).toBe(4);
      expect(err).toBe("lazytree: there is no workspace 'nothing' (`lazytree workspace list` lists them)\n");
    });
  });

  describe('what is not here is said in one line', () => {
    /** A directory with these programs alone. */
    function only(...programs: string[]): string {
      const directory = box.path('programs');
      fs.mkdirSync(directory);
      for (const program of programs) {
        const found = (process.env.PATH ?? '').split(':').map((path) => join(path, program));
        fs.symlinkSync(found.find((path) => fs.existsSync(path)) ?? '/nowhere', join(directory, program));
      }
      return directory;
    }

    const env = (path: string) => ({ env: { HOME: box.directory, PATH: `${path}:/nowhere` } });
    /** Shell words of the command, as nobody. */
    const NOBODYS = `setpriv --reuid=65534 --regid=65534 --clear-groups ${process.execPath} ${BIN}`;
    /** Runs a script as root, with another view of the machine, and ends the daemon that has seen it. */
    const elsewhere = (prelude: string, command: string) =>
      start(
        [
          'unshare',
          '--mount',
          'sh',
          '-ec',
          `${prelude}\ncode=0; ${command} || code=$?; ${NOBODYS} daemon stop >&2; exit $code`,
        ],
        { ...options(), asNobody: false },
      ).ended;

    function expectOneLine({ code, err }: Result, ...parts: string[]): void {
      const [line] = err.split('\n');
      expect(line).toMatch(/^lazytree: .* \(.*\)$/);
      for (const part of parts) expect(line).toContain(part);
      expect(code).toBe(1);
    }

    test('fusermount3', async () => {
      // The daemon needs setpriv no more than its own programs.
      const path = only('setpriv');
      const { ended } = start(
        [
          join(path, 'setpriv'),
          '--reuid=65534',
          '--regid=65534',
          '--clear-groups',
          process.execPath,
          BIN,
          'mount',
          'base',
          'm',
        ],
        {
          ...options(env(path)),
          asNobody: false,
        },
      );
      expectOneLine(await ended, 'the package fuse3', '`lazytree export`');
      expect(fs.existsSync(box.path('m'))).toBe(false);
    });

    test('unshare, nsenter', async () => {
      const path = only('setpriv', 'fusermount3');
      expectOneLine(
        await box.run(['workspace', 'create', 'app', '--from', 'base'], env(path)),
        'needs unshare',
        'the package util-linux',
      );
      await box.ok('daemon', 'stop');
      await create('app', 'create', 'app', '--from', 'base');
      expectOneLine(
        await box.run(['workspace', 'exec', 'app', 'true'], env(path)),
        'nsenter',
        'the package util-linux',
      );
    });

    test('user namespaces, forbidden in a chroot', async () => {
      const view = box.path('view');
      fs.mkdirSync(view);
      const result = await elsewhere(
        `mount --rbind / ${view}; exec 3>&1`,
        `chroot ${view} sh -c 'cd ${box.directory}; exec ${NOBODYS} workspace create app --from base'`,
      );
      expectOneLine(result, 'needs a user namespace', '`lazytree export`');
    });

    test('user namespaces, all used up', async () => {
      const limited = start(['unshare', '--user', 'sh', '-c', 'echo; exec sleep 60'], { home: box.home });
      await new Promise((resolve) => limited.child.stdout?.once('data', resolve));
      const { pid } = limited.child;
      for (const map of ['uid_map', 'gid_map']) fs.writeFileSync(`/proc/${pid}/${map}`, '0 0 100000');
      const result = await start(
        [
          ...[
            'nsenter',
            '--user',
            '--setuid=0',
            '--setgid=0',
            `--target=${pid}`,
            'unshare',
            '--mount',
            'sh',
            '-ec',
          ],
          `echo 0 > /proc/sys/user/max_user_namespaces; code=0
           ${NOBODYS} workspace create app --from base || code=$?
           ${NOBODYS} daemon stop >&2; exit $code`,
        ],
        { ...options(), asNobody: false },
      ).ended;
      limited.child.kill();
      await limited.ended;
      expectOneLine(result, 'needs a user namespace', 'sysctl user.max_user_namespaces=10000');
    });

    test('/dev/fuse', async () => {
      const hide = `mkdir ${box.path('dev')}; mount -t tmpfs none ${box.path('dev')}
        for node in null zero random urandom; do
          touch ${box.path('dev')}/$node; mount --bind /dev/$node ${box.path('dev')}/$node; done
        mount --move ${box.path('dev')} /dev`;
      expectOneLine(await elsewhere(hide, `${NOBODYS} mount base m`), 'modprobe fuse', '`lazytree export`');
    });

    test('/dev/fuse, for root alone', async () => {
      fs.mkdirSync('/dev/lazytree-test');
      try {
        const guard = `mknod -m 600 /dev/lazytree-test/fuse c 10 229; mount --bind /dev/lazytree-test/fuse ${DEVICE}`;
        expectOneLine(
          await elsewhere(guard, `${NOBODYS} mount base m`),
          'chmod 666 /dev/fuse',
          '`lazytree export`',
        );
      } finally {
        fs.rmSync('/dev/lazytree-test', { recursive: true });
      }
    });

    test('a file system that can carry the changes', async () => {
      const home = box.path('ram');
      fs.mkdirSync(home);
      const result = await elsewhere(
        `mount -t ramfs none ${home}; chmod 777 ${home}; export LAZYTREE_HOME=${home}/home`,
        `${NOBODYS} workspace create app`,
      );
      expectOneLine(result, 'LAZYTREE_HOME', '`lazytree export`');
    });

    test('the right to mount there', async () => {
      fs.mkdirSync(box.path('roots'), { mode: 0o755 });
      expectOneLine(await box.run(['mount', 'base', 'roots']), 'no write access to mountpoint');
    });
  });
});

describe.skipIf(unlessMountable('workspaces of root'))('`workspace exec` with root', () => {
  test('runs in the workspace, where everybody sees it', async () => {
    const box = sandbox();
    try {
      writeFiles(box.path('source'), FILES);
      await box.ok('import', 'source', '--name', 'base');
      await box.ok('workspace', 'create', 'app', '--from', 'base');
      const run = (cwd: string) =>
        box.run(['workspace', 'exec', 'app', 'sh', '-c', 'pwd; id -u; exit 5'], { cwd });
      expect(await run(box.directory)).toMatchObject({ code: 5, out: `${box.path('app')}\n0\n`, err: '' });
      expect(await run(box.path('app/src'))).toMatchObject({ code: 5, out: `${box.path('app/src')}\n0\n` });
      const { workspaces } = await box.json<{ workspaces: Listed[] }>('workspace', 'list');
      expect(workspaces).toMatchObject([{ name: 'app', holder: null }]);
    } finally {
      await stopDaemon(box);
    }
  });
});
