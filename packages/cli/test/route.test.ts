import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LazytreeError } from '@lazytree/core';
import { NotHereError, remotesFile } from '@lazytree/node';
import { daemonStatus, stopDaemon } from '@lazytree/node/daemon-client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Caller } from '../dist/caller.js';
import type { Action } from '../dist/command.js';
import { isForDaemon, performAnywhere } from '../dist/route.js';

const home = fs.mkdtempSync(join(tmpdir(), 'lazytree-route-'));
beforeAll(() => {
  process.env.LAZYTREE_HOME = home;
});
afterAll(async () => {
  await stopDaemon(home);
  fs.rmSync(home, { recursive: true });
});

function callerOf(): { caller: Caller; printed: () => string } {
  let printed = '';
  const caller: Caller = {
    terminal: {
      isRead: false,
      async write(part) {
        printed += Buffer.from(part as string);
        return true;
      },
      writeError: () => undefined,
      progress: async () => ({ update: () => undefined, stop: () => undefined }),
      endless: () => undefined,
      outcome: () => undefined,
    },
    signal: new AbortController().signal,
    directory: '/',
    env: {},
    debug: false,
  };
  return { caller, printed: () => printed };
}

const action = (where: Action['where']): Action => ({
  arguments: '',
  summary: '',
  ...(where ? { where } : {}),
  run: async () => ({ data: {} }),
});

test('an action runs here when it is to, and when no daemon runs', async () => {
  const { caller, printed } = callerOf();
  for (const where of ['here', 'anywhere', undefined] as const) {
    const run = async () => 77;
    expect(await performAnywhere(action(where), { args: ['status'], caller, run })).toBe(77);
  }
  expect(printed()).toBe('');
  expect(await daemonStatus(home)).toBeUndefined();
});

test('one that needs a daemon starts it, once for many; then others go through it, too', async () => {
  const run = async () => {
    throw new Error('not here');
  };
  const needing = Array.from({ length: 3 }, async () => {
    const { caller, printed } = callerOf();
    const exitCode = await performAnywhere(action('daemon'), { args: ['status', '--json'], caller, run });
    return { exitCode, ...JSON.parse(printed()) };
  });
  for (const result of await Promise.all(needing))
    expect(result).toMatchObject({ exitCode: 0, home, blocks: 0 });
  const daemon = await daemonStatus(home);
  // It may have ended, having had nothing to do; another is as good.
  if (daemon) expect(daemon).toMatchObject({ stays: false, busy: false });
  const log = fs.readFileSync(join(home, 'daemon.log'), 'utf8');
  expect(log).toContain('"stays":false,"msg":"ready"');
});

test.each<[string[], boolean]>([
  [['ls', 'x'], true],
  [['--json', 'ref', 'list'], true],
  [['import', '-m', 'text', '.'], true],
  [['ls', '--help'], false],
  [['ls', '-h'], false],
  [['-V'], false],
  [['help', 'ls'], false],
  [['daemon', 'stop'], false],
  [['unknown'], false],
  [[], false],
])('%j is for the daemon: %j', (args, expected) => {
  expect(isForDaemon(args)).toBe(expected);
});

test('what is not here is for a daemon only where somebody else may have it', async () => {
  const own = fs.mkdtempSync(join(tmpdir(), 'lazytree-route-'));
  process.env.LAZYTREE_HOME = own;
  const notHere = new NotHereError("there is no ref 'nothing'");
  const perform = (error: Error) =>
    performAnywhere(action('anywhere'), {
      args: ['status'],
      caller: callerOf().caller,
      run: () => Promise.reject(error),
    });
  try {
    await expect(perform(notHere)).rejects.toBe(notHere);
    fs.writeFileSync(remotesFile(own), '{}');
    const other = new LazytreeError('NOT_FOUND', 'a file');
    await expect(perform(other)).rejects.toBe(other);
    expect(fs.existsSync(join(own, 'daemon.log'))).toBe(false);
    expect(await perform(notHere)).toBe(0);
    expect(fs.readFileSync(join(own, 'daemon.log'), 'utf8')).toContain('"msg":"ready"');
  } finally {
    await stopDaemon(own);
    process.env.LAZYTREE_HOME = home;
    fs.rmSync(own, { recursive: true });
  }
});
