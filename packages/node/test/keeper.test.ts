import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../../core/test/helpers.ts';
import { type Keeper, openKeeper } from '../dist/keeper/keeper.js';

const SOCKET = 'keeper.sock';

describe.skipIf(process.platform !== 'linux')('a keeper', () => {
  let home: string;
  const keepers: Keeper[] = [];
  const warnings: string[] = [];

  beforeEach(async () => {
    home = await temporaryDirectory();
    warnings.length = 0;
  });

  afterEach(async () => {
    for (const keeper of keepers.splice(0)) keeper.close();
    while (running()) await sleep(10);
    expect(fs.readdirSync(home).filter((name) => name.includes('keeper'))).toEqual([]);
  });

  /** Two in one process are as two daemons of which one is dead: the later one is the daemon. */
  function open({ version = '1', milliseconds = 60_000 } = {}): Keeper {
    const warn = (_: object, message: string) => warnings.push(message);
    const keeper = openKeeper({ home, version, milliseconds, log: { warn } });
    keepers.push(keeper);
    return keeper;
  }

  const running = () => processes().length > 0;

  function processes(): number[] {
    const lines = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).split('\n');
    return lines.filter((line) => line.includes(join(home, SOCKET))).map((line) => Number.parseInt(line, 10));
  }

  /** What the process has open of what it was given. */
  function kept(): string[] {
    const directory = `/proc/${processes()[0]}/fd`;
    const files = fs.readdirSync(directory).map((name) => fs.readlinkSync(join(directory, name)));
    return files.filter((file) => file.startsWith(home) && file.endsWith(' (deleted)'));
  }

  async function untilThere(): Promise<void> {
    while (!fs.existsSync(join(home, SOCKET))) await sleep(10);
  }

  function fileOf(text: string): number {
    const path = join(home, text);
    fs.writeFileSync(path, text);
    const descriptor = fs.openSync(path, 'r');
    fs.rmSync(path);
    return descriptor;
  }

  const isName = (name: string) => (about: object) => (about as { name?: string }).name === name;
  const contentOf = (descriptor: number) => {
    const bytes = Buffer.alloc(100);
    return bytes.toString('utf8', 0, fs.readSync(descriptor, bytes, 0, 100, 0));
  };

  it('gives the next daemon what it was given, before it was started and after', async () => {
    const first = open();
    first.keep({ name: 'a' }, [fileOf('one'), fileOf('two')]);
    await untilThere();
    for (let i = 0; i < 300; i++) first.keep({ name: `more ${i}` }, [fileOf(`more ${i}`)]);
    const dropped = first.keep({ name: 'b' }, [fileOf('three')]);
    dropped.drop();
    while (kept().length !== 302) await sleep(10);
    const second = open();
    const found = second.claim(isName('a'));
    expect(found?.descriptors.map(contentOf)).toEqual(['one', 'two']);
    expect(second.claim(isName('more 299'))?.descriptors.map(contentOf)).toEqual(['more 299']);
    expect(second.claim(isName('a'))).toBeUndefined();
    expect(second.claim(isName('b'))).toBeUndefined();
    second.settle();
    const third = open();
    expect(third.claim(isName('a'))?.about).toEqual({ name: 'a' });
    // Nobody had wanted it.
    expect(third.claim(isName('more 1'))).toBeUndefined();
    expect(warnings).toEqual([]);
  });

  it('has nothing for a daemon of another version', async () => {
    open().keep({ name: 'a' }, [fileOf('one')]);
    await untilThere();
    const second = open({ version: '2' });
    expect(second.claim(isName('a'))).toBeUndefined();
    second.settle();
    second.keep({ name: 'b' }, [fileOf('two')]);
    const third = open({ version: '2' });
    expect(third.claim(isName('a'))).toBeUndefined();
    expect(third.claim(isName('b'))?.descriptors.map(contentOf)).toEqual(['two']);
  });

  it('is not started for what has gone by then, nor when none is wanted', async () => {
    open()
      .keep({ name: 'a' }, [fileOf('one')])
      .drop();
    open({ milliseconds: 0 }).keep({ name: 'b' }, [fileOf('two')]);
    await sleep(300);
    expect([running(), fs.existsSync(join(home, SOCKET))]).toEqual([false, false]);
  });

  it('whose socket is all that is left is none', async () => {
    const first = open();
    first.keep({ name: 'a' }, [fileOf('one')]);
    await untilThere();
    for (const pid of processes()) process.kill(pid, 'SIGKILL');
    while (running()) await sleep(10);
    const second = open();
    expect(second.claim(() => true)).toBeUndefined();
    expect(fs.existsSync(join(home, SOCKET))).toBe(false);
    second.keep({ name: 'b' }, [fileOf('two')]);
    await untilThere();
    expect(open().claim(isName('b'))?.descriptors.map(contentOf)).toEqual(['two']);
  });
});
