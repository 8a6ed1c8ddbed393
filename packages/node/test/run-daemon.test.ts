import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog, runDaemon } from '@lazytree/node/daemon';
import {
  type CommandSink,
  daemonStatus,
  type ExecuteCommand,
  runThroughDaemon,
  stopDaemon,
} from '@lazytree/node/daemon-client';
import { afterAll, expect, test } from 'vitest';

const directory = fs.mkdtempSync(join(tmpdir(), 'lazytree-daemon-'));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));
let homes = 0;

/** A daemon in this process whose commands are `execute`, and its log. */
async function daemon(execute: ExecuteCommand) {
  const home = join(directory, `home${homes++}`);
  const log: { msg: string; level: string }[] = [];
  const ready = Promise.withResolvers<void>();
  const ended = runDaemon({
    home,
    version: '1.2.3',
    log: createLog({ write: (line) => log.push(JSON.parse(line)) }, 'info'),
    execute: () => execute,
    stays: true,
    onReady: () => ready.resolve(),
  });
  await Promise.race([ready.promise, ended]);
  return { home, log, ended };
}

function sink() {
  const got = { out: '', err: '', progress: [] as unknown[] };
  const to: CommandSink = {
    async stdout(bytes) {
      got.out += Buffer.from(bytes);
      return true;
    },
    stderr: (text) => {
      got.err += Buffer.from(text);
    },
    async progress(event) {
      got.progress.push(event);
    },
  };
  return { got, to };
}

const request = (...argv: string[]) => ({ argv, terminal: { stdout: false, progress: true }, env: {} });
const signal = new AbortController().signal;

test('output, progress and exit code come through', async () => {
  const { home, ended } = await daemon(async ({ argv, terminal }, output) => {
    output.stderr('a warning\n');
    output.progress({ bar: 1, label: 'work' });
    for (let files = 1; files <= 100; files++)
      output.progress({ bar: 1, state: { files, bytes: files * 10 } });
    output.progress({ bar: 1, stop: true });
    output.outcome(3);
    await output.stdout(Buffer.from(`${argv.join(' ')} ${terminal.progress}\n`));
    return 3;
  });
  const { got, to } = sink();
  expect(await runThroughDaemon(home, request('x', 'y'), { version: '1.2.3', sink: to, signal })).toBe(3);
  expect(got).toMatchObject({ out: 'x y true\n', err: 'a warning\n' });
  // The first state, some in between, and the last one whatever happens.
  expect(got.progress.length).toBeLessThan(20);
  expect(got.progress[0]).toEqual({ bar: 1, label: 'work' });
  expect(got.progress.slice(-2)).toEqual([
    { bar: 1, state: { files: 100, bytes: 1000 } },
    { bar: 1, stop: true },
  ]);
  expect(await stopDaemon(home)).toMatchObject({ pid: process.pid });
  await ended;
  expect(await daemonStatus(home)).toBeUndefined();
  expect(await runThroughDaemon(home, request('x'), { version: '1.2.3', sink: to, signal })).toBeUndefined();
});

test('a command that throws is one line for its caller, and the daemon lives on', async () => {
  const { home, log, ended } = await daemon(async ({ argv }) => {
    if (argv[0] === 'bad') throw new Error('what nobody expected\nand more');
    void Promise.reject(new Error('that nobody waits for'));
    return 0;
  });
  const { got, to } = sink();
  const options = { version: '1.2.3', sink: to, signal };
  expect(await runThroughDaemon(home, request('bad'), options)).toBe(1);
  expect(got.err).toBe('lazytree: bad failed in the daemon: Error: what nobody expected\n');
  expect(await runThroughDaemon(home, request('careless'), options)).toBe(0);
  expect(await runThroughDaemon(home, request('again'), options)).toBe(0);
  await stopDaemon(home);
  await ended;
  const errors = log.filter(({ level }) => level === 'error').map(({ msg }) => msg);
  expect(errors).toContain('a command failed in a way that it should not');
  expect(errors).toContain('a promise failed that nobody waited for');
});

test('no more is made than the reader takes', async () => {
  let made = 0;
  const { home, ended } = await daemon(async (_, output) => {
    const part = Buffer.alloc(256 << 10);
    while (made < 400 && (await output.stdout(part))) made += 1;
    return 0;
  });
  const reading = Promise.withResolvers<void>();
  let read = 0;
  const slow: CommandSink = {
    ...sink().to,
    async stdout(bytes) {
      await reading.promise;
      read += bytes.length;
      return true;
    },
  };
  const done = runThroughDaemon(home, request('much'), { version: '1.2.3', sink: slow, signal });
  let before = -1;
  while (made === 0 || made !== before) {
    before = made;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect(made).toBeLessThan(40);
  reading.resolve();
  expect(await done).toBe(0);
  expect(read).toBe(400 * (256 << 10));
  await stopDaemon(home);
  await ended;
});

test('another version is refused, with what to do', async () => {
  const { home, ended } = await daemon(async () => 0);
  const asked = runThroughDaemon(home, request('x'), { version: '1.2.4', sink: sink().to, signal });
  await expect(asked).rejects.toMatchObject({
    code: 'FAILED',
    message: `the daemon (process ${process.pid}) is lazytree 1.2.3, not 1.2.4`,
    hint: 'run `lazytree daemon stop`',
  });
  await stopDaemon(home);
  await ended;
});

test('a command that comes while the daemon ends waits till it has gone', async () => {
  const go = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const { home, log, ended } = await daemon(async () => {
    begun.resolve();
    await go.promise;
    return 7;
  });
  const options = { version: '1.2.3', sink: sink().to, signal };
  const first = runThroughDaemon(home, request('first'), options);
  await begun.promise;
  const stopped = stopDaemon(home);
  while (!log.some(({ msg }) => msg === 'ending')) await new Promise((resolve) => setTimeout(resolve, 5));
  const late = runThroughDaemon(home, request('late'), options);
  go.resolve();
  expect(await first).toBe(7);
  expect(await late).toBeUndefined();
  await stopped;
  await ended;
});
