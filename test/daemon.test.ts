import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import type { Duplex, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import {
  afterwards,
  BIN,
  type Daemon,
  listing,
  pseudoRandom,
  ROOT,
  runDaemon,
  type Sandbox,
  sandbox,
  start,
  writeFiles,
} from './helpers.ts';

const VERSION: string = JSON.parse(fs.readFileSync(join(ROOT, 'packages/cli/package.json'), 'utf8')).version;

/** Until something holds; the test's own time limit ends it when it never does. */
async function until<T>(what: () => T | Promise<T>): Promise<NonNullable<Awaited<T>>> {
  for (;;) {
    const found = await what();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A sandbox with a tree named `work`, and a daemon. */
async function withDaemon(): Promise<{ box: Sandbox; daemon: Daemon }> {
  const box = sandbox();
  writeFiles(box.path('w'), { 'a.txt': 'hello\n', 'dir/big': pseudoRandom(3 << 20, 'big') });
  const daemon = await runDaemon({ home: box.home });
  if (!daemon) throw new Error('no daemon');
  await box.ok('import', 'w', '--name', 'work');
  return { box, daemon };
}

/** Ends what `daemon start` or a command has started in the background, when the tests are done. */
function stopAfterwards(box: Sandbox): void {
  afterwards(() => box.run(['daemon', 'stop']));
}

interface Status {
  running: boolean;
  pid: number;
  stays: boolean;
  commands: { id: number; name: string }[];
}

const status = async (box: Sandbox) =>
  JSON.parse((await box.run(['daemon', 'status', '--json'])).out) as Status;
const running = async (box: Sandbox) => (await status(box)).commands.map(({ name }) => name);

/** A directory whose import takes a while. */
function makeLarge(box: Sandbox, name: string): void {
  fs.mkdirSync(box.path(name));
  const large = fs.openSync(box.path(`${name}/file`), 'w');
  fs.ftruncateSync(large, 8 * 2 ** 30);
  fs.closeSync(large);
}

function background(box: Sandbox, ...args: string[]) {
  return start([process.execPath, BIN, ...args], { home: box.home, cwd: box.directory });
}

/** One HTTP request on the socket, as text. */
async function ask(box: Sandbox, head: string, body = ''): Promise<string> {
  const socket = connect({ path: join(box.home, 'daemon.sock') });
  socket.write(`${head} HTTP/1.1\r\nhost: x\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part);
  return Buffer.concat(parts).toString('latin1');
}

describe('start, status and stop', () => {
  test('a command line in which something is wrong leaves no daemon, and nothing of one but its log', async () => {
    const box = sandbox();
    writeFiles(box.path('w'), { a: 'a' });
    await box.ok('import', 'w', '--name', 'work');
    const before = listing(box.home);
    for (const wrong of [
      ['mount', 'work'],
      ['mount', 'work', 'm', '--not-an-option'],
      ['workspace', 'create'],
    ])
      expect(await box.run(wrong)).toMatchObject({ code: 2, out: '' });
    expect(await status(box)).toMatchObject({ running: false });
    expect(listing(box.home, (path) => path.endsWith('/daemon.log'))).toEqual(before);
    expect(fs.readFileSync(join(box.home, 'daemon.log'), 'utf8')).toBe('');
    // Nor does one come later.
    expect(await box.ok('ls', 'work')).toContain('a');
  });

  test('a process that is to be a daemon ends with the one that has started it, unless it was told to go on', async () => {
    const box = sandbox();
    fs.mkdirSync(box.home);
    const child = spawn(process.execPath, [BIN, 'daemon', 'run'], {
      env: { ...process.env, LAZYTREE_HOME: box.home, LAZYTREE_DAEMON_STARTED_FOR: 'command' },
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    const told = child.stdio[3] as Readable;
    let said = '';
    told.on('data', (bytes) => {
      said += bytes;
    });
    expect(
      await Promise.race([once(told, 'data'), new Promise((resolve) => setTimeout(resolve, 1500))]),
    ).toBe(undefined);
    told.destroy();
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(said).toBe('');
  });

  test('one that is told to listen where it cannot says so, and is not there', async () => {
    const box = sandbox();
    stopAfterwards(box);
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    afterwards(() => void server.close());
    const taken = `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`;
    expect(await box.run(['daemon', 'start', '--listen', taken])).toMatchObject({
      code: 7,
      out: '',
      err: expect.stringContaining(`cannot listen on ${taken}: something listens there already`),
    });
    for (const option of ['--listen', '--peer']) {
      expect(await box.run(['daemon', 'start', option, '127.0.0.1:4001'])).toMatchObject({
        code: 2,
        err: expect.stringContaining("'127.0.0.1:4001' is no multiaddr"),
      });
    }
    expect((await status(box)).running).toBe(false);
    await box.ok('daemon', 'start', '--listen', '/ip4/127.0.0.1/tcp/0', '--peer', taken);
  });

  test('a cluster that cannot be begun where the daemon was told to listen is not begun', async () => {
    const box = sandbox();
    stopAfterwards(box);
    await box.ok('daemon', 'start', '--listen', '/dns4/nobody.invalid/tcp/0');
    const failed = await box.run(['cluster', 'init']);
    expect(failed).toMatchObject({ code: 7, out: '' });
    expect(failed.err).toMatch(/^lazytree: cannot listen on \/dns4\/nobody\.invalid\/tcp\/0: .* \(.*\)\n$/);
    expect((await box.run(['cluster', 'peers'])).code).toBe(4);
    await box.ok('daemon', 'stop');
    await box.ok('cluster', 'init');
  });

  test('in the background, once', async () => {
    const box = sandbox();
    stopAfterwards(box);
    expect(await box.run(['daemon', 'status'])).toMatchObject({
      code: 4,
      out: 'no daemon is running\n',
      err: '',
    });
    expect(fs.existsSync(box.home)).toBe(false);
    const first = await box.json<{ pid: number }>('daemon', 'start');
    expect(first).toEqual({ pid: expect.any(Number), started: true, home: box.home });
    expect(await box.json('daemon', 'start')).toEqual({ ...first, started: false });
    expect(await box.ok('daemon', 'start')).toBe(`the daemon is running already: process ${first.pid}`);
    expect(await box.json('daemon', 'status')).toMatchObject({
      running: true,
      pid: first.pid,
      version: VERSION,
      home: box.home,
      stays: true,
      busy: false,
      commands: [],
    });
    expect(await box.ok('daemon', 'status')).toMatch(new RegExp(`^process +${first.pid}$`, 'm'));
    // A session of its own: nothing that ends with a terminal.
    const stat = fs.readFileSync(`/proc/${first.pid}/stat`, 'latin1').split(') ')[1].split(' ');
    expect(stat[3]).toBe(String(first.pid));
    expect(fs.readlinkSync(`/proc/${first.pid}/cwd`)).toBe('/');
    expect(await box.json('daemon', 'stop')).toEqual({ stopped: true, pid: first.pid, home: box.home });
    expect(await box.json('daemon', 'stop')).toEqual({ stopped: false, home: box.home });
    expect(fs.readdirSync(box.home).sort()).toEqual(['daemon.log', 'store']);
    expect(fs.readdirSync(join(box.home, 'store'))).not.toContain('lock');
  });

  test('many at once start one', async () => {
    const box = sandbox();
    stopAfterwards(box);
    const started = await Promise.all(
      Array.from({ length: 5 }, () => box.json<{ pid: number; started: boolean }>('daemon', 'start')),
    );
    expect(new Set(started.map(({ pid }) => pid)).size).toBe(1);
    expect(started.filter(({ started }) => started)).toHaveLength(1);
  });

  test('the socket is its owner’s alone, and nothing else is left beside it', async () => {
    const { box } = await withDaemon();
    const stat = fs.statSync(join(box.home, 'daemon.sock'));
    expect(stat.isSocket()).toBe(true);
    expect((stat.mode & 0o777).toString(8)).toBe('600');
    expect(fs.readdirSync(box.home).sort()).toEqual(['daemon.sock', 'store']);
  });

  test('a second daemon on the same home is refused, and one without a home to be made', async () => {
    const { box, daemon } = await withDaemon();
    for (const args of [['daemon', 'run']]) {
      const { code, out, err } = await box.run(args);
      expect({ code, out }).toEqual({ code: 6, out: '' });
      expect(err).toMatch(new RegExp(`^lazytree: [^\\n]*process ${daemon.pid} [^\\n]*\\n$`));
    }
    expect(await box.ok('cat', 'work/a.txt')).toBe('hello');
    fs.writeFileSync(box.path('file'), '');
    for (const action of ['start', 'run']) {
      const result = await box.run(['daemon', action], { env: { LAZYTREE_HOME: box.path('file/home') } });
      expect({ ...result, err: result.err.split('\n').length }).toMatchObject({ code: 4, out: '', err: 2 });
    }
  });

  test('why it cannot start is said by `daemon start`, with the exit code for it', async () => {
    const box = sandbox();
    writeFiles(box.path('w'), { file: 'x' });
    await box.ok('import', 'w');
    fs.writeFileSync(join(box.home, 'store', 'format'), 'lazytree store 2\n');
    const other = await box.run(['daemon', 'start']);
    expect(other).toMatchObject({ code: 1, out: '' });
    expect(other.err).toMatch(/^lazytree: [^\n]*lazytree store 2[^\n]*\n$/);
    const json = await box.run(['daemon', 'start', '--json']);
    expect(JSON.parse(json.err)).toMatchObject({ error: { code: 'UNSUPPORTED' } });
  });

  test('SIGTERM lets what is under way end', async () => {
    const { box, daemon } = await withDaemon();
    fs.mkdirSync(box.path('pipe'));
    // A reader that is slow keeps its command under way.
    const script = '"$@" | { sleep 1; sha256sum; }';
    const reading = start(['sh', '-c', script, 'sh', process.execPath, BIN, 'cat', 'work/dir/big'], {
      home: box.home,
    });
    await until(async () => (await running(box)).includes('cat'));
    const { code, signal } = await daemon.stop();
    expect({ code, signal }).toEqual({ code: 0, signal: null });
    const { out, err } = await reading.ended;
    expect(err).toBe('');
    const sum = spawnSync('sha256sum', { input: pseudoRandom(3 << 20, 'big'), encoding: 'utf8' }).stdout;
    expect(out).toBe(sum);
    expect(fs.existsSync(join(box.home, 'daemon.sock'))).toBe(false);
    expect(await box.ok('cat', 'work/a.txt')).toBe('hello');
  });

  test('after kill -9 commands work on the store, and a new daemon takes over', async () => {
    const { box, daemon } = await withDaemon();
    daemon.child.kill('SIGKILL');
    await daemon.ended;
    expect(fs.existsSync(join(box.home, 'daemon.sock'))).toBe(true);
    expect(await box.run(['daemon', 'status'])).toMatchObject({ code: 4 });
    expect(await box.ok('cat', 'work/a.txt')).toBe('hello');
    stopAfterwards(box);
    const { pid } = await box.json<{ pid: number }>('daemon', 'start');
    expect(await box.ok('cat', 'work/a.txt')).toBe('hello');
    expect(await status(box)).toMatchObject({ pid });
  });

  test('a daemon that does not answer stops no command for ever', async () => {
    const { box, daemon } = await withDaemon();
    daemon.child.kill('SIGSTOP');
    try {
      for (const args of [
        ['ls', 'work'],
        ['daemon', 'stop'],
        ['daemon', 'status'],
        ['daemon', 'start'],
      ]) {
        const { code, out, err } = await box.run(args);
        expect({ args, code, out }).toEqual({ args, code: 1, out: '' });
        expect(err).toMatch(
          new RegExp(`^lazytree: [^\\n]*does not answer[^\\n]*process ${daemon.pid}[^\\n]*\\n$`),
        );
      }
      const interrupted = background(box, 'ls', 'work');
      setTimeout(() => interrupted.child.kill('SIGINT'), 1000);
      expect(await interrupted.ended).toMatchObject({ code: 130, err: 'lazytree: interrupted\n' });
      expect(await box.run(['ls', '--help'])).toMatchObject({ code: 0, err: '' });
    } finally {
      daemon.child.kill('SIGCONT');
    }
    expect(await box.ok('cat', 'work/a.txt')).toBe('hello');
  });

  test('a home whose path is longer than a socket’s address', async () => {
    const box = sandbox();
    const long = sandbox(join(box.directory, 'x'.repeat(120), 'y'.repeat(120)));
    fs.mkdirSync(long.directory, { recursive: true });
    writeFiles(long.path('w'), { file: 'far away' });
    stopAfterwards(long);
    const { pid } = await long.json<{ pid: number }>('daemon', 'start');
    await long.ok('import', 'w', '--name', 'work');
    expect(await long.ok('cat', 'work/file')).toBe('far away');
    expect(await status(long)).toMatchObject({ pid });
    expect((fs.statSync(join(long.home, 'daemon.sock')).mode & 0o777).toString(8)).toBe('600');
    await long.ok('daemon', 'stop');
    expect(fs.readdirSync(long.home).sort()).toEqual(['daemon.log', 'store']);
  });

  test('the log has a line for each command, and none of what a command was told', async () => {
    const box = sandbox();
    stopAfterwards(box);
    writeFiles(box.path('w'), { file: 'x' });
    await box.ok('daemon', 'start');
    await box.ok('import', 'w', '--name', 'private');
    await box.run(['ls', 'missing']);
    await box.ok('daemon', 'stop');
    const log = join(box.home, 'daemon.log');
    expect((fs.statSync(log).mode & 0o777).toString(8)).toBe('600');
    const text = fs.readFileSync(log, 'utf8');
    expect(text).not.toContain('private');
    const lines = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toMatchObject([
      { level: 'info', msg: 'ready', version: VERSION, home: box.home, stays: true },
      { level: 'info', msg: 'command', command: 'import', exitCode: 0, ms: expect.any(Number) },
      { level: 'info', msg: 'command', command: 'ls', exitCode: 4 },
      { level: 'info', msg: 'ending', reason: 'asked to', commands: 0 },
      { level: 'info', msg: 'ended' },
    ]);
    for (const { time, pid } of lines)
      expect({ time, pid }).toEqual({ time: expect.stringMatching(/Z$/), pid: lines[0].pid });
    const wrong = await box.run(['daemon', 'start'], { env: { LAZYTREE_LOG_LEVEL: 'loud' } });
    expect(wrong).toMatchObject({ code: 2, err: expect.stringMatching(/^lazytree: [^\n]*loud[^\n]*\n$/) });
  });

  test('the log is for people when that is asked for, or when it is seen at once', async () => {
    const box = sandbox();
    stopAfterwards(box);
    await box.ok('daemon', 'start', '--log-format', 'text');
    await box.ok('status');
    await box.ok('daemon', 'stop');
    const lines = fs.readFileSync(join(box.home, 'daemon.log'), 'utf8').trimEnd().split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[0]).toMatch(/^\[\d{4}-\d\d-\d\d [\d:.]+\] INFO: ready \{"version":"/);
    expect(lines[1]).toMatch(/INFO: command \{"id":1,"command":"status","exitCode":0,"ms":\d+\}$/);

    /** What the daemon says on a terminal, until it is told to end. */
    const onTerminal = async (...options: string[]) => {
      const command = [process.execPath, BIN, 'daemon', 'run', ...options].join(' ');
      const { child, ended } = start(['script', '-qec', command, '/dev/null'], { home: box.home });
      await until(async () => (await status(box)).running);
      await box.ok('daemon', 'stop');
      expect((await ended).code).toBe(0);
      expect(child.exitCode).toBe(0);
      return (await ended).out;
    };
    expect(await onTerminal()).toMatch(/INFO\S*: \S*ready/);
    const [first] = (await onTerminal('--log-format', 'json')).split('\r\n');
    expect(JSON.parse(first)).toMatchObject({ level: 'info', msg: 'ready' });
  });

  test.each([
    ['--log-format', ['--log-format', 'xml'], {}],
    ['LAZYTREE_KEEP_SECONDS', [], { LAZYTREE_KEEP_SECONDS: 'long' }],
    ['LAZYTREE_KEEP_SECONDS', [], { LAZYTREE_KEEP_SECONDS: '-1' }],
  ])('a wrong %s is an error of usage', async (name, options, env) => {
    const box = sandbox();
    for (const action of ['start', 'run']) {
      const { code, out, err } = await box.run(['daemon', action, ...options], { env });
      expect({ code, out }).toEqual({ code: 2, out: '' });
      expect(err).toMatch(new RegExp(`^lazytree: ${name} is .*\\n$`));
    }
  });

  test('the unit for systemd is one, and starts what there is', async () => {
    const unit = fs.readFileSync(join(ROOT, 'packages/cli/systemd/lazytree.service'), 'utf8');
    const command = /^ExecStart=\/usr\/bin\/env lazytree (.*)$/m.exec(unit)?.[1].split(' ');
    const box = sandbox();
    const daemon = start([process.execPath, BIN, ...(command as string[])], { home: box.home });
    await until(async () => (await status(box)).running);
    daemon.child.kill('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
    const {
      error,
      status: code,
      stderr,
    } = spawnSync(
      'systemd-analyze',
      ['verify', '--user', join(ROOT, 'packages/cli/systemd/lazytree.service')],
      { encoding: 'utf8', env: { ...process.env, XDG_RUNTIME_DIR: box.directory } },
    );
    if (!error) expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  test('one that was started for a command ends when it has nothing to do, unless told to stay', async () => {
    const box = sandbox();
    fs.mkdirSync(box.home);
    const startFor = async () => {
      const child = spawn(process.execPath, [BIN, 'daemon', 'run'], {
        env: { ...process.env, LAZYTREE_HOME: box.home, LAZYTREE_DAEMON_STARTED_FOR: 'command' },
        stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
      });
      const ended = once(child, 'close');
      (child.stdio[3] as Duplex).write('go\n');
      const [ready] = await once(child.stdio[3] as Readable, 'data');
      expect(JSON.parse(ready)).toEqual({ ready: true });
      return { pid: child.pid, ended, leave: () => child.stdio[3]?.destroy() };
    };
    const idle = await startFor();
    // Who started it has not come yet: on a machine with much to do that takes longer than nothing to do may last.
    await new Promise((resolve) => setTimeout(resolve, 4000));
    expect((await status(box)).pid).toBe(idle.pid);
    idle.leave();
    expect(await idle.ended).toEqual([0, null]);
    const log = fs.readFileSync(join(box.home, 'daemon.log'), 'utf8');
    expect(log).toContain('"stays":false');
    expect(log).toContain('"reason":"nothing to do"');
    const kept = await startFor();
    kept.leave();
    expect(await ask(box, 'POST /v1/stay')).toContain('"stays":true');
    // Longer than one that may go does stay.
    await new Promise((resolve) => setTimeout(resolve, 4000));
    expect(await box.json('daemon', 'start')).toMatchObject({ pid: kept.pid, started: false });
    await box.ok('daemon', 'stop');
    expect(await kept.ended).toEqual([0, null]);
  });
});

describe('commands', () => {
  test('at the same time, in one store', async () => {
    const { box } = await withDaemon();
    const names = Array.from({ length: 8 }, (_, i) => `tree${i}`);
    for (const name of names) {
      writeFiles(
        box.path(name),
        Object.fromEntries(
          Array.from({ length: 60 }, (_, i) => [
            `d${i % 5}/f${i}`,
            i % 3 === 0 ? `shared ${i}` : pseudoRandom(2000 + i * 50, `${name} ${i}`),
          ]),
        ),
      );
    }
    const collecting = Promise.all([box.run(['gc']), box.run(['gc'])]);
    const roots = await Promise.all([
      ...names.map((name) => box.ok('import', name, '--name', name)),
      ...names.map((name) => box.ok('import', name)),
      box.ok('verify').then(() => ''),
    ]);
    const collections = await collecting;
    // Of two collections at once one may be refused.
    for (const { code } of collections) expect([0, 1]).toContain(code);
    expect(roots.slice(0, 8)).toEqual(roots.slice(8, 16));
    expect(await box.json('verify')).toMatchObject({ sound: true });
    await Promise.all(
      names.map((name) => box.ok('export', name, `out/../${name}.out`).catch(() => undefined)),
    );
    fs.mkdirSync(box.path('out'));
    await Promise.all(names.map((name) => box.ok('export', name, `out/${name}`)));
    for (const name of names) expect(listing(box.path(`out/${name}`))).toEqual(listing(box.path(name)));
  });

  test('changes of one ref follow one another', async () => {
    const { box } = await withDaemon();
    const { root } = await box.json<{ root: string }>('stat', 'work');
    await Promise.all(Array.from({ length: 12 }, () => box.ok('ref', 'set', 'many', root)));
    expect(await box.json('ref', 'get', 'many')).toMatchObject({ sequence: 12 });
    expect((await box.json<{ snapshots: unknown[] }>('log', 'many')).snapshots).toHaveLength(12);
  });

  test('gc takes nothing away from those who read', async () => {
    const { box } = await withDaemon();
    writeFiles(box.path('loose'), { big: pseudoRandom(24 << 20, 'loose') });
    const root = await box.ok('import', 'loose');
    const script = '"$@" | { sleep 2; sha256sum; }';
    const reading = start(['sh', '-c', script, 'sh', process.execPath, BIN, 'cat', `${root}/big`], {
      home: box.home,
    });
    await until(async () => (await running(box)).includes('cat'));
    await box.ok('gc');
    const sum = spawnSync('sha256sum', { input: pseudoRandom(24 << 20, 'loose'), encoding: 'utf8' }).stdout;
    expect(await reading.ended).toMatchObject({ out: sum, err: '' });
    await box.ok('gc');
    expect((await box.run(['ls', root])).code).toBe(4);
  });

  test('paths begin at the caller’s directory', async () => {
    const { box } = await withDaemon();
    fs.mkdirSync(box.path('here/below'), { recursive: true });
    const cwd = box.path('here');
    const ok = async (...args: string[]) =>
      expect(await box.run(args, { cwd })).toMatchObject({ code: 0, err: '' });
    await ok('export', 'work', 'out');
    await ok('export', 'work/dir', './below/dir');
    await ok('save', 'work', '../work.image');
    await ok('save', 'work', 'work.car');
    await ok('load', '../work.image');
    await ok('load', './work.car', '--name', 'car');
    await ok('import', '.', '--name', 'here');
    await ok('import', '..//w', '--name', 'again');
    expect(listing(box.path('here/out'))).toEqual(listing(box.path('w')));
    expect(fs.existsSync(box.path('here/below/dir/big'))).toBe(true);
    expect((await box.run(['cat', 'image:../work.image/a.txt'], { cwd })).out).toBe('hello\n');
    expect(await box.ok('ls', 'here')).toBe('below/\nout/\nwork.car');
    expect((await box.json<{ snapshots: unknown[] }>('log', 'again')).snapshots).toMatchObject([
      { source: box.path('w') },
    ]);
    const { root } = await box.json('stat', 'work');
    expect(await box.json('stat', 'again')).toMatchObject({ root });
    expect(await box.json('stat', 'car')).toMatchObject({ root });
  });

  test('from a directory that is gone, whole paths work', async () => {
    const { box } = await withDaemon();
    const script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"';
    const run = (...args: string[]) =>
      start(['sh', '-c', script, 'sh', process.execPath, BIN, ...args], {
        home: box.home,
        cwd: box.directory,
      }).ended;
    expect(await run('cat', 'work/a.txt')).toMatchObject({ code: 0, out: 'hello\n', err: '' });
    expect(await run('export', 'work', box.path('whole'))).toMatchObject({ code: 0, err: '' });
    expect(await run('export', 'work', 'relative')).toMatchObject({
      code: 4,
      err: expect.stringMatching(/^lazytree: 'relative': the current directory is gone[^\n]*\n$/),
    });
  });

  test('files that are made get the caller’s umask', async () => {
    const { box } = await withDaemon();
    const made = async (umask: string, name: string) => {
      const script = 'umask "$1"; shift; exec "$@"';
      for (const args of [
        ['export', 'work', name],
        ['save', 'work', `${name}.image`],
      ]) {
        const command = ['sh', '-c', script, 'sh', umask, process.execPath, BIN, ...args];
        expect(await start(command, { home: box.home, cwd: box.directory }).ended).toMatchObject({
          code: 0,
          err: '',
        });
      }
      return [name, `${name}/dir`, `${name}/a.txt`, `${name}.image`].map((path) =>
        (fs.statSync(box.path(path)).mode & 0o777).toString(8),
      );
    };
    const [open, closed, group] = await Promise.all([
      made('000', 'open'),
      made('077', 'closed'),
      made('027', 'group'),
    ]);
    expect(open).toEqual(['777', '777', '666', '666']);
    expect(closed).toEqual(['700', '700', '600', '600']);
    expect(group).toEqual(['750', '750', '640', '640']);
  });

  test('Ctrl-C ends the command in the daemon, too, before it ends here', async () => {
    const { box, daemon } = await withDaemon();
    makeLarge(box, 'large');
    for (const json of [[], ['--json']]) {
      const { child, ended } = background(box, 'import', 'large', '--name', 'large', ...json);
      await until(async () => (await running(box)).includes('import'));
      child.kill('SIGINT');
      const { code, out, err } = await ended;
      expect({ code, out }).toEqual({ code: 130, out: json.length > 0 ? err : '' });
      expect(err).toMatch(/^[^\n]*interrupted[^\n]*\n$/);
      expect(await running(box)).toEqual([]);
    }
    expect(daemon.log()).toMatch(/"command":"import","exitCode":130,[^\n]*"cancelled":true/);
    expect(await box.ok('cat', 'work/a.txt')).toBe('hello');
    expect(await box.json('ref', 'list')).toMatchObject({ refs: [{ name: 'work' }] });
  });

  test('so does the end of whoever gave it', async () => {
    const { box, daemon } = await withDaemon();
    makeLarge(box, 'large');
    const { child, ended } = background(box, 'import', 'large');
    await until(async () => (await running(box)).includes('import'));
    child.kill('SIGKILL');
    await ended;
    await until(async () => (await running(box)).length === 0);
    expect(daemon.log()).toMatch(/"command":"import","exitCode":130,[^\n]*"cancelled":true/);
    await box.ok('daemon', 'stop');
    expect((await daemon.ended).code).toBe(0);
  });

  test('a daemon that is killed under a command is one line, and exit code 1', async () => {
    const { box, daemon } = await withDaemon();
    makeLarge(box, 'large');
    const { ended } = background(box, 'import', 'large');
    await until(async () => (await running(box)).includes('import'));
    daemon.child.kill('SIGKILL');
    expect(await ended).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringMatching(/^lazytree: the daemon of [^\n]* ended before the command did[^\n]*\n$/),
    });
  });

  test('a reader that goes away in mid-`cat`, or does not read, costs the daemon nothing', async () => {
    const { box, daemon } = await withDaemon();
    fs.mkdirSync(box.path('huge'));
    const huge = fs.openSync(box.path('huge/file'), 'w');
    fs.ftruncateSync(huge, 2 ** 30);
    fs.closeSync(huge);
    await box.ok('import', 'huge', '--name', 'huge');
    const resident = () =>
      Number(/VmRSS:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) / 1024;
    const before = resident();
    const slow = Array.from({ length: 5 }, () => {
      const child = spawn(process.execPath, [BIN, 'cat', 'huge/file'], {
        env: { ...process.env, LAZYTREE_HOME: box.home },
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      afterwards(() => child.kill('SIGKILL'));
      return child;
    });
    await until(async () => (await running(box)).length === 5);
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(resident() - before).toBeLessThan(150);
    for (const child of slow) child.kill('SIGKILL');
    await until(async () => (await running(box)).length === 0);
    const script = '{ "$@"; echo "code $?" >&2; } | head -c 1 >/dev/null';
    const command = ['sh', '-c', script, 'sh', process.execPath, BIN, 'cat', 'huge/file'];
    expect(await start(command, { home: box.home }).ended).toMatchObject({ err: 'code 0\n' });
    await until(async () => (await running(box)).length === 0);
  });

  test('stdout that cannot be written is an error of the caller', async () => {
    const { box } = await withDaemon();
    const script = 'exec "$@" > /dev/full';
    const command = ['sh', '-c', script, 'sh', process.execPath, BIN, 'cat', 'work/a.txt'];
    const { code, err } = await start(command, { home: box.home }).ended;
    expect(code).toBe(1);
    expect(err).toMatch(/^lazytree: [^\n]*ENOSPC[^\n]*\n$/);
  });

  test('a progress bar on the caller’s terminal', async () => {
    const { box } = await withDaemon();
    writeFiles(
      box.path('many'),
      Object.fromEntries(
        Array.from({ length: 300 }, (_, i) => [`d${i % 9}/f${i}`, pseudoRandom(5000 + i, `tty ${i}`)]),
      ),
    );
    const command = `${process.execPath} ${BIN} import ${box.path('many')} > ${box.path('out')}`;
    const env = { ...process.env, LAZYTREE_HOME: box.home };
    const child = spawn('script', ['-qec', command, '/dev/null'], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let shown = '';
    child.stdout.on('data', (part) => {
      shown += part;
    });
    const [code] = await once(child, 'close');
    expect({ code, root: fs.readFileSync(box.path('out'), 'utf8') }).toEqual({
      code: 0,
      root: expect.stringMatching(/^baf[a-z2-7]{56}\n$/),
    });
    expect(shown).toMatch(/import [^\r\n]*■[^\r\n]* 300 of 300 files +1\.4\d MiB/);
  });
});

describe('the API', () => {
  test('refuses what it does not know, in one line of JSON, and lives on', async () => {
    const { box, daemon } = await withDaemon();
    const error = async (head: string, body?: string) => {
      const [top, text] = (await ask(box, head, body)).split('\r\n\r\n');
      return { status: Number(top.split(' ')[1]), ...JSON.parse(text) };
    };
    expect(await error('GET /v2/status')).toMatchObject({
      status: 404,
      error: { code: 'NOT_FOUND' },
      pid: daemon.pid,
    });
    expect(await error('DELETE /v1/commands/99')).toMatchObject({
      status: 404,
      error: { code: 'NOT_FOUND' },
    });
    for (const body of [
      '',
      '{',
      '[]',
      '{}',
      '{"argv":"ls"}',
      '{"argv":["ls"],"cwd":"relative"}',
      '{"argv":["ls"],"env":{"PATH":"/"}}',
    ]) {
      expect(await error('POST /v1/commands', body)).toMatchObject({
        status: 400,
        error: { code: 'USAGE', message: expect.stringMatching(/^the body /) },
      });
    }
    expect(await ask(box, 'nonsense')).toMatch(/^HTTP\/1\.1 400 /);
    expect(await box.ok('cat', 'work/a.txt')).toBe('hello');
  });

  test('answers a command with frames', async () => {
    const { box } = await withDaemon();
    const body = JSON.stringify({ argv: ['cat', 'work/a.txt'] });
    const [head, frames] = (await ask(box, 'POST /v1/commands', body)).split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 200 /);
    expect(head).toMatch(/^lazytree-command: \d+$/m);
    const end = '{"exitCode":0}';
    expect(frames).toBe(`\x04\x0e\0\0\0${end}\x01\x06\0\0\0hello\n\x05\x0e\0\0\0${end}`);
  });

  test('another version of the command is told to stop the daemon', async () => {
    const { box, daemon } = await withDaemon();
    const answer = await ask(
      box,
      `POST /v1/commands HTTP/1.1\r\nlazytree-version: 0.0.1\r\nx:`,
      '{"argv":["ls"]}',
    );
    expect(answer).toMatch(/^HTTP\/1\.1 409 /);
    expect(answer).toContain(`the daemon (process ${daemon.pid}) is lazytree ${VERSION}, not 0.0.1`);
  });
});
