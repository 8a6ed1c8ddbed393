import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Block,
  type BlockSource,
  type BlockStore,
  type Codec,
  compareNames,
  exportTree,
  importTree,
  type Link,
  type LocalStore,
  type LocalStoreOptions,
  linkTo,
  nameFromBytes,
  openLocalStore,
  RAW,
  toFsPath,
} from '@lazytree/core';
import fc from 'fast-check';
import { afterAll, expect } from 'vitest';

const leftovers: (() => unknown)[] = [];

/** Runs `task` when the tests of this file are done, the last one registered first. */
export function afterwards(task: () => unknown): void {
  leftovers.push(task);
}

afterAll(async () => {
  for (const task of leftovers.reverse()) await task();
});

export async function temporaryDirectory(parent = tmpdir()): Promise<string> {
  const directory = fs.realpathSync(await mkdtemp(join(parent, 'lazytree-test-')));
  afterwards(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Where files are made quickly: in memory, if that is to be had. */
export const FAST = fs.existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A store in a new directory, or in `directory`; closed at the end if the test has not done so. */
export async function temporaryStore(
  options: LocalStoreOptions & { directory?: string } = {},
): Promise<LocalStore> {
  const { directory = join(await temporaryDirectory(), 'home'), ...rest } = options;
  const store = await openLocalStore(directory, rest);
  afterwards(() => store.close().catch(() => undefined));
  return store;
}

/** Bytes that are the same on every run and do not compress. */
export function pseudoRandom(size: number, seed = 0): Buffer {
  const key = createHash('sha256').update(`lazytree test ${seed}`).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function block(bytes: Uint8Array | string, codec: Codec = RAW): Block {
  const content = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
  return { link: linkTo(codec, content), bytes: content };
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** The error that `task` ends with; fails when it does not. */
export async function errorOf(
  task: Promise<unknown> | (() => unknown),
): Promise<Error & { code?: string; hint?: string }> {
  try {
    const value = await (typeof task === 'function' ? task() : task);
    expect.fail(`expected an error, got ${String(value)}`);
  } catch (error) {
    if (error instanceof Error && error.name === 'AssertionError') throw error;
    return error as Error & { code?: string };
  }
}

export type TreeNode =
  | { kind: 'file'; content: Buffer; executable: boolean }
  | { kind: 'symlink'; target: string }
  | { kind: 'directory'; entries: Map<string, TreeNode> };

export type DirectorySpec = TreeNode & { kind: 'directory' };

export const file = (content: Uint8Array | string, executable = false): TreeNode => ({
  kind: 'file',
  content: Buffer.from(content as string),
  executable,
});
export const symlink = (target: string): TreeNode => ({ kind: 'symlink', target });
export const directory = (
  entries: Record<string, TreeNode> | Iterable<[string, TreeNode]> = {},
): DirectorySpec => ({
  kind: 'directory',
  entries: new Map(Symbol.iterator in entries ? entries : Object.entries(entries)),
});

/** Makes `node` at `path`, which does not exist yet. */
export function writeTree(
  path: string,
  node: TreeNode,
  order: (names: string[]) => string[] = (names) => names,
): void {
  const fsPath = toFsPath(path);
  if (node.kind === 'symlink') fs.symlinkSync(toFsPath(node.target), fsPath);
  else if (node.kind === 'file') {
    fs.writeFileSync(fsPath, node.content, { flag: 'wx' });
    fs.chmodSync(fsPath, node.executable ? 0o755 : 0o644);
  } else {
    fs.mkdirSync(fsPath);
    for (const name of order([...node.entries.keys()])) {
      writeTree(`${path}/${name}`, node.entries.get(name) as TreeNode, order);
    }
  }
}

export interface DescribeOptions {
  /** All permission bits and modification times, not just the executable bit. */
  metadata?: boolean;
}

/** Text without lone surrogates, so that it prints. */
export const printable = (name: string) => JSON.stringify(name).slice(1, -1);

/** What is below `root`, one line for each entry in order of path: comparable and readable. */
export function describeDirectory(root: string, options: DescribeOptions = {}): string[] {
  const lines: string[] = [];
  walk(root, '');
  return lines;

  function walk(path: string, prefix: string): void {
    const names = fs.readdirSync(toFsPath(path), { encoding: 'buffer' }).map((bytes) => nameFromBytes(bytes));
    for (const name of names.sort(compareNames)) {
      const inner = `${path}/${name}`;
      const fsPath = toFsPath(inner);
      const stat = fs.lstatSync(fsPath, { bigint: true });
      const label = printable(prefix + name);
      const mode = (Number(stat.mode) & 0o7777).toString(8);
      const extra = options.metadata
        ? ` mode ${stat.isSymbolicLink() ? '-' : mode} mtime ${stat.mtimeNs}`
        : '';
      if (stat.isSymbolicLink()) {
        lines.push(
          `${label} -> ${printable(nameFromBytes(fs.readlinkSync(fsPath, { encoding: 'buffer' })))}${extra}`,
        );
      } else if (stat.isDirectory()) {
        lines.push(`${label}/${extra}`);
        walk(inner, `${prefix}${name}/`);
      } else if (stat.isFile()) {
        const executable = Number(stat.mode) & 0o100 ? ' x' : '';
        lines.push(`${label} ${stat.size} ${sha256(fs.readFileSync(fsPath))}${executable}${extra}`);
      } else lines.push(`${label} special${extra}`);
    }
  }
}

/** The lines of {@link describeDirectory} that a tree on disk would have. */
export function describeSpec(node: DirectorySpec, prefix = ''): string[] {
  return [...node.entries.keys()].sort(compareNames).flatMap((name) => {
    const entry = node.entries.get(name) as TreeNode;
    const label = printable(prefix + name);
    if (entry.kind === 'symlink') return [`${label} -> ${printable(entry.target)}`];
    if (entry.kind === 'directory') return [`${label}/`, ...describeSpec(entry, `${prefix}${name}/`)];
    return [`${label} ${entry.content.length} ${sha256(entry.content)}${entry.executable ? ' x' : ''}`];
  });
}

/** Names as Linux allows them, often odd ones. */
export const nameArbitrary: fc.Arbitrary<string> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      'a',
      'b',
      'A',
      'file.txt',
      'ä',
      '日本',
      '😀',
      ' ',
      '\n',
      '-rf',
      '...',
      '\\',
      '"',
      '*',
    ),
  },
  { weight: 2, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 12 }).map(legalName) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '\udcff',
      'caf\udce9',
      '\udcc3(',
      'x'.repeat(255),
      '\uffee',
      '\ufffd',
      '__proto__',
    ),
  },
);

function legalName(bytes: Uint8Array): string {
  const legal = bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x5f : byte));
  const name = nameFromBytes(legal);
  return name === '.' || name === '..' ? `${name}_` : name;
}

const contentArbitrary = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom(16384, 65536, 262144, 262145, 400_000)
    .chain((size) => fc.nat(5).map((seed) => pseudoRandom(size, seed))),
);

const leafArbitrary: fc.Arbitrary<TreeNode> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(contentArbitrary, fc.boolean()).map(([content, x]) => file(content, x)) },
  {
    weight: 2,
    arbitrary: fc
      .oneof(nameArbitrary, fc.constantFrom('/etc/passwd', '../..', 'a/b', '/nowhere', '.'))
      .map(symlink),
  },
);

/** Directories of a few entries and a few levels. */
export function treeArbitrary(depth = 3): fc.Arbitrary<DirectorySpec> {
  const entry =
    depth === 0
      ? leafArbitrary
      : fc.oneof({ weight: 3, arbitrary: leafArbitrary }, { weight: 1, arbitrary: treeArbitrary(depth - 1) });
  return fc
    .array(fc.tuple(nameArbitrary, entry), { maxLength: 8 })
    .map((entries) => directory(new Map(entries)));
}

/** A tree of many small files in some directories, all different. */
export function manyFiles(count: number, { perDirectory = 100, size = 200, seed = 0 } = {}): DirectorySpec {
  const root = directory();
  for (let i = 0; i < count; i++) {
    const name = `d${Math.floor(i / perDirectory)}`;
    const below = (root.entries.get(name) ?? directory()) as DirectorySpec;
    root.entries.set(name, below);
    below.entries.set(`f${i}`, file(pseudoRandom(size, seed * 1_000_003 + i)));
  }
  return root;
}

export const CORE = new URL('../dist/index.js', import.meta.url).href;

export interface Script {
  child: ChildProcess;
  /** Resolves with the first line of stdout that begins with `text`, less that. */
  line(text: string): Promise<string>;
  /** Resolves when the process has ended. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string }>;
}

/** Runs an ES module in a process of its own; `core` is the built package, `argv` its arguments. */
export function startScript(
  source: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
): Script {
  // A file, not --eval: threads inherit that option, and cannot have it.
  const home = fs.mkdtempSync(join(tmpdir(), 'lazytree-script-'));
  fs.chmodSync(home, 0o755);
  afterwards(() => rm(home, { recursive: true, force: true }));
  const script = join(home, 'script.mjs');
  fs.writeFileSync(
    script,
    `import * as core from ${JSON.stringify(CORE)};\nconst argv = process.argv.slice(2);\n${source}\n`,
  );
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  let stdout = '';
  let stderr = '';
  const watchers = new Set<() => void>();
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (const watch of watchers) watch();
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, stdout, stderr }));
  return {
    child,
    ended,
    line(text) {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const watch = () => {
        const found = stdout
          .split('\n')
          .slice(0, -1)
          .find((line) => line.startsWith(text));
        if (found !== undefined) resolve(found.slice(text.length));
      };
      watchers.add(watch);
      watch();
      ended.then(() => reject(new Error(`no '${text}' before the end: ${stdout}${stderr}`)));
      return promise.finally(() => watchers.delete(watch));
    },
  };
}

/** Runs a script to its end and returns what it printed. @throws Error when it fails */
export async function runScript(
  source: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
): Promise<string> {
  const { code, signal, stdout, stderr } = await startScript(source, args, options).ended;
  if (code !== 0) throw new Error(`script ended with ${code ?? signal}: ${stdout}${stderr}`);
  return stdout;
}

/** A writable store around a source, for wrappers that only read. */
export function writableThrough(
  source: Pick<BlockStore, 'describe' | 'get' | 'has' | 'close'>,
  writer: BlockStore,
): BlockStore {
  return {
    ...source,
    put: (item, options) => writer.put(item, options),
    flush: () => writer.flush(),
  };
}

export function shuffled<T>(items: readonly T[], seed: number): T[] {
  const keyed = items.map((item, i) => [sha256(`${seed} ${i}`), item] as const);
  return keyed.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item);
}

export const linkOf = (bytes: Uint8Array | string, codec: Codec = RAW): Link => block(bytes, codec).link;

export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** Imports what a description describes. */
export async function importSpec(store: BlockStore, spec: DirectorySpec): Promise<Link> {
  const source = join(await temporaryDirectory(), 'source');
  writeTree(source, spec);
  return (await importTree(store, source)).root;
}

/** Reads a tree to its last byte, by an export, and describes it. */
export async function exportDescription(store: BlockSource, root: Link): Promise<string[]> {
  const target = join(await temporaryDirectory(), 'out');
  await exportTree(store, root, target);
  return describeDirectory(target);
}
