import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  formatLink,
  listImports,
  listPins,
  listRefs,
  nameFromBytes,
  openLocalStore,
  toFsPath,
} from '@lazytree/core';
import { afterAll, expect, type TestContext } from 'vitest';

export const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
/** The command as users run it. */
export const BIN = join(ROOT, 'packages', 'cli', 'bin', 'lazytree.js');

/** Someone who is not root and owns nothing. */
export const NOBODY = 65534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];

const leftovers: (() => unknown)[] = [];

/** Runs `task` when the tests of this file are done, the last one registered first. */
export function afterwards(task: () => unknown): void {
  leftovers.push(task);
}

afterAll(async () => {
  for (const task of leftovers.reverse()) await task();
});

/** A new directory that every user can enter, removed at the end. */
function temporaryDirectory(): string {
  const directory = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'lazytree-e2e-')));
  fs.chmodSync(directory, 0o755);
  afterwards(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export interface Result {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: Buffer;
  /** stdout and stderr as text. */
  out: string;
  err: string;
}

export interface RunOptions {
  home: string;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  asNobody?: boolean;
  /** A command that runs the one which follows as its arguments: elsewhere, or in another way. */
  enter?: readonly string[];
  /** What it can read: nothing, unless the test writes to it. */
  stdin?: 'pipe';
}

function environment({ home, env }: RunOptions): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, LAZYTREE_DEBUG: __, ...inherited } = process.env;
  return { ...inherited, LAZYTREE_HOME: home, ...env };
}

/** Starts a command with both outputs on pipes; `ended` resolves when it has ended and they are read. */
export function start(
  command: readonly string[],
  options: RunOptions,
): { child: ChildProcess; ended: Promise<Result> } {
  const [program, ...args] = [...(options.enter ?? []), ...(options.asNobody ? AS_NOBODY : []), ...command];
  const child = spawn(program, args, {
    cwd: options.cwd ?? tmpdir(),
    env: environment(options),
    stdio: [options.stdin ?? 'ignore', 'pipe', 'pipe'],
  });
  const parts: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (part: Buffer) => parts[name].push(part));
  const ended = once(child, 'close').then(([code, signal]) => {
    const stdout = Buffer.concat(parts.stdout);
    const stderr = Buffer.concat(parts.stderr);
    return { code, signal, stdout, stderr, out: stdout.toString(), err: stderr.toString() };
  });
  return { child, ended };
}

/** Whether commands go through a daemon, one for each home, wherever there is a home. */
let daemonsWanted = false;

/** Makes the tests that are registered from here on run their commands through daemons. */
export function runThroughDaemons(): void {
  daemonsWanted = true;
}

const daemons = new Map<string, Daemon>();
let served = 0;

/** How many commands the daemons that have ended by now have carried out. */
export async function commandsServed(): Promise<number> {
  for (const home of [...daemons.keys()]) await beAlone(home);
  return served;
}

export interface Daemon {
  child: ChildProcess;
  pid: number;
  /** Everything it has said on stderr: its log. */
  log(): string;
  /** Ends it in order, and returns how it ended. */
  stop(): Promise<Result>;
  ended: Promise<Result>;
}

/** Runs `lazytree daemon run` and waits till it is ready; undefined when it cannot be. */
export async function runDaemon(options: RunOptions): Promise<Daemon | undefined> {
  const daemon = await launchDaemon(options);
  return 'pid' in daemon ? daemon : undefined;
}

/**
 * Runs `lazytree daemon run` and waits till it is ready.
 * @param args more arguments
 * @returns how it ended, when it did before it was ready
 */
export async function launchDaemon(
  options: RunOptions,
  args: readonly string[] = [],
): Promise<Daemon | Result> {
  const { child, ended } = start([process.execPath, BIN, 'daemon', 'run', ...args], options);
  let log = '';
  const ready = new Promise<boolean>((resolve) => {
    child.stderr?.on('data', (part: Buffer) => {
      log += part;
      if (log.includes('"msg":"ready"')) resolve(true);
    });
    void ended.then(() => resolve(false));
  });
  if (!(await ready)) return ended;
  const daemon: Daemon = {
    child,
    pid: child.pid as number,
    log: () => log,
    stop() {
      child.kill('SIGTERM');
      return ended;
    },
    ended,
  };
  afterwards(() => daemon.stop());
  return daemon;
}

/** Has commands on this home go through a daemon, if that is what this run of the tests is for. */
async function beThere(options: RunOptions): Promise<void> {
  const { home } = options;
  if (!daemonsWanted || daemons.has(home) || !fs.existsSync(join(home, 'store', 'format'))) return;
  const daemon = await runDaemon(options);
  if (!daemon) return;
  daemons.set(home, daemon);
  void daemon.ended.then(() => {
    served += daemon.log().match(/"msg":"command"/g)?.length ?? 0;
    if (daemons.get(home) === daemon) daemons.delete(home);
  });
}

/** Ends the home's daemon, if there is one: the store is to be looked at, or harmed, behind its back. */
export async function beAlone(home: string): Promise<void> {
  const result = await daemons.get(home)?.stop();
  daemons.delete(home);
  if (result) expect({ code: result.code, signal: result.signal }).toEqual({ code: 0, signal: null });
}

export function lazytree(args: readonly string[], options: RunOptions): Promise<Result> {
  return start([process.execPath, BIN, ...args], options).ended;
}

/** As {@link lazytree}, with arguments that need not be UTF-8: Node cannot pass those, a shell can. */
export function lazytreeBytes(args: readonly (string | Buffer)[], options: RunOptions): Promise<Result> {
  const lines: string[] = [];
  const names = args.map((arg, i) => {
    const octal = [...Buffer.from(arg as string)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`);
    // Command substitution drops newlines at the end, hence the x.
    lines.push(`a${i}=$(printf '${octal.join('')}x')`);
    return `"\${a${i}%x}"`;
  });
  const script = `${lines.join('; ')}; exec "$0" "$1" ${names.join(' ')}`;
  return start(['sh', '-c', script, process.execPath, BIN], options).ended;
}

/** A sandbox of somebody who is not root. */
export function sandboxOfNobody(): Sandbox {
  const directory = temporaryDirectory();
  fs.chownSync(directory, NOBODY, NOBODY);
  return sandbox(directory, { asNobody: true, env: { HOME: directory } });
}

/** A home, a directory for anything else, and the command running with them. */
export interface Sandbox {
  directory: string;
  home: string;
  path(name: string): string;
  run(args: readonly string[], options?: Partial<RunOptions>): Promise<Result>;
  /** Runs a command that has to succeed in silence, and returns its stdout without the last newline. */
  ok(...args: string[]): Promise<string>;
  /** Runs a command with `--json`; it has to print one document and nothing else. */
  json<T = Record<string, unknown>>(...args: string[]): Promise<T>;
}

/** @param defaults options of every command in it */
export function sandbox(directory = temporaryDirectory(), defaults: Partial<RunOptions> = {}): Sandbox {
  const home = join(directory, 'home');
  const run = async (args: readonly string[], options: Partial<RunOptions> = {}) => {
    const all = { home, cwd: directory, ...defaults, ...options };
    await beThere({ ...all, cwd: undefined });
    return lazytree(args, all);
  };
  return {
    directory,
    home,
    path: (name) => join(directory, name),
    run,
    async ok(...args) {
      const { code, out, err } = await run(args);
      expect({ code, err }).toEqual({ code: 0, err: '' });
      return out.replace(/\n$/, '');
    },
    async json(...args) {
      const result = await run([...args, '--json']);
      expect(result.err).toBe('');
      expect(result.code).toBe(0);
      return oneDocument(result);
    },
  };
}

/** What a command with `--json` has printed: one document, on one line. */
export function oneDocument<T = Record<string, unknown>>({ out }: Result): T {
  expect(out).toMatch(/^[^\n]+\n$/);
  return JSON.parse(out);
}

/** Makes files by path: content, or a mode and content, or `{ symlink }`, or null for an empty directory. */
export type Files = Record<string, string | Buffer | { executable: string } | { symlink: string } | null>;

export function writeFiles(directory: string, files: Files): string {
  fs.mkdirSync(toFsPath(directory), { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    const path = `${directory}/${name}`;
    const fsPath = toFsPath(path);
    fs.mkdirSync(toFsPath(path.slice(0, path.lastIndexOf('/'))), { recursive: true });
    if (content === null) fs.mkdirSync(fsPath);
    else if (typeof content === 'string' || Buffer.isBuffer(content)) fs.writeFileSync(fsPath, content);
    else if ('symlink' in content) fs.symlinkSync(content.symlink, fsPath);
    else {
      fs.writeFileSync(fsPath, content.executable);
      fs.chmodSync(fsPath, 0o755);
    }
  }
  return directory;
}

/** Bytes that are the same on every run and do not compress. */
export function pseudoRandom(size: number, seed: string | number = 0): Buffer {
  const key = createHash('sha256').update(`lazytree ${seed}`).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

/** `diff -r --no-dereference`, which has to find nothing; and as much for the executable bits. */
export function expectSameTree(a: string, b: string): void {
  const { status, stdout } = spawnSync('diff', ['-r', '--no-dereference', a, b], { encoding: 'buffer' });
  expect(stdout.toString().slice(0, 2000)).toBe('');
  expect(status).toBe(0);
  expect(modes(b)).toBe(modes(a));
}

function modes(directory: string): string {
  const find = spawnSync(
    'find',
    ['.', '(', '-type', 'f', '-perm', '-u+x', '-o', '-type', 'd', ')', '-print0'],
    { cwd: directory, encoding: 'latin1', maxBuffer: 1 << 28 },
  );
  return find.stdout.split('\0').sort().join('\n');
}

/** Bytes that a directory takes on disk. */
export function diskUsage(directory: string): number {
  const du = spawnSync('du', ['-s', '-B1', directory], { encoding: 'utf8' });
  return Number.parseInt(du.stdout, 10);
}

/** Everything below a path that is not in `except`: kind, mode, and content or target. */
export function listing(path: string, except: (path: string) => boolean = () => false): string[] {
  const lines: string[] = [];
  visit(path, '.');
  return lines;

  function visit(full: string, name: string): void {
    const stat = fs.lstatSync(toFsPath(full), { throwIfNoEntry: false });
    if (!stat) {
      lines.push(`${name} is not there`);
      return;
    }
    const mode = stat.mode.toString(8);
    if (stat.isDirectory()) {
      lines.push(`${name}/ ${mode}`);
      const names = fs.readdirSync(toFsPath(full), { encoding: 'buffer' });
      for (const inner of names.map((bytes) => nameFromBytes(bytes)).sort()) {
        if (!except(`${full}/${inner}`)) visit(`${full}/${inner}`, `${name}/${inner}`);
      }
    } else if (stat.isSymbolicLink()) lines.push(`${name} -> ${fs.readlinkSync(toFsPath(full))}`);
    else if (stat.isFile()) {
      const digest = createHash('sha256')
        .update(fs.readFileSync(toFsPath(full)))
        .digest('hex');
      lines.push(`${name} ${mode} ${stat.size} ${digest}`);
    } else lines.push(`${name} ${mode} special`);
  }
}

/**
 * All that a home says: its files byte for byte, and in place of those of LevelDB, which change whenever it is
 * opened, what they hold. A home that cannot be opened is compared by its bytes alone.
 */
export async function describeHome(home: string): Promise<unknown> {
  await beAlone(home);
  const index = join(home, 'store', 'index');
  const files = listing(home, (path) => path === index);
  if (!fs.existsSync(index)) return { files };
  const store = await openLocalStore(join(home, 'store'), { create: false }).catch(() => undefined);
  if (!store) return { files, index: listing(index) };
  try {
    const blocks: string[] = [];
    for await (const [digest, location] of store.index.entries()) {
      blocks.push(`${Buffer.from(digest, 'latin1').toString('hex')} ${JSON.stringify(location)}`);
    }
    const text = (value: unknown) =>
      JSON.stringify(value, (key, link) => (key === 'root' || key === 'snapshot' ? formatLink(link) : link));
    return {
      files,
      blocks,
      refs: (await listRefs(store)).map(text),
      pins: (await listPins(store)).map(text),
      imports: (await listImports(store)).map(text),
    };
  } finally {
    await store.close();
  }
}

/** Why a test that needs root cannot run here, or undefined when it can. */
function whyNotRoot(): string | undefined {
  if (process.platform !== 'linux') return 'it is for Linux';
  if (process.getuid?.() !== 0) return 'it needs root';
  return undefined;
}

/** Why the command cannot be run as somebody else here, or undefined when it can. */
export function whyNotNobody(): string | undefined {
  const reason = whyNotRoot();
  if (reason) return reason;
  const [program, ...args] = [...AS_NOBODY, process.execPath, BIN, '--version'];
  const { error, status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (error) return `there is no setpriv: ${error.message}`;
  return status === 0 ? undefined : `uid ${NOBODY} cannot run ${BIN}: ${stderr.trim().split('\n')[0]}`;
}

/** Why nothing can be mounted here, or undefined when it can. */
export function whyNotMount(): string | undefined {
  const reason = whyNotRoot();
  if (reason) return reason;
  const directory = fs.mkdtempSync(join(tmpdir(), 'lazytree-mount-'));
  try {
    const { status, stderr, error } = mount(['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory]);
    if (error) return `there is no mount: ${error.message}`;
    if (status !== 0) return `mount fails: ${stderr.trim()}`;
    spawnSync('umount', [directory]);
    return undefined;
  } finally {
    fs.rmdirSync(directory);
  }
}

function mount(args: string[]) {
  return spawnSync('mount', args, { encoding: 'utf8' });
}

/** Mounts on a new directory until the tests of this file are done. */
export function mounted(directory: string, ...args: string[]): string {
  fs.mkdirSync(directory, { recursive: true });
  const { status, stderr } = mount([...args, directory]);
  if (status !== 0) throw new Error(`mount ${args.join(' ')}: ${stderr}`);
  afterwards(() => spawnSync('umount', [directory]));
  return directory;
}

export function remount(directory: string, options: string): void {
  const { status, stderr } = mount(['-o', `remount,${options}`, directory]);
  if (status !== 0) throw new Error(`remount of ${directory}: ${stderr}`);
}

/** Skips a test with its reason in the report and on the terminal. */
export function loudly(context: TestContext, reason: string | undefined): void {
  if (!reason) return;
  console.warn(`skipped '${context.task.name}': ${reason}`);
  context.skip(reason);
}
