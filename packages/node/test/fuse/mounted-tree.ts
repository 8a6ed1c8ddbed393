import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Entry, type Link, type LocalStore, openLocalStore } from '@lazytree/core';
import { afterEach } from 'vitest';
import { type DirectorySpec, temporaryDirectory } from '../../../core/test/helpers.ts';
import { mountFuse } from '../../dist/fuse/device/mount-fuse.js';
import { mountAt, readMountInfo } from '../../dist/fuse/device/mount-info.js';
import { unmount } from '../../dist/fuse/device/unmount.js';
import { type FetchRequest, type Session, startSession } from '../../dist/fuse/session/session.js';
import { endConnection } from '../../dist/mounts/connection.js';
import { type BlockMap, encodeSpec } from './tree-model.ts';

/** Why nothing can be mounted here with FUSE, or undefined when it can. */
export function whyNotFuse(): string | undefined {
  if (process.platform !== 'linux') return 'FUSE mounts are for Linux';
  if (process.getuid?.() !== 0) return 'it needs root';
  if (!fs.existsSync('/dev/fuse')) return 'there is no /dev/fuse';
  return undefined;
}

export interface Failure {
  root: string;
  path: string;
  error: unknown;
}

export interface MountedTree {
  directory: string;
  path(name: string): string;
  root: Link;
  blocks: BlockMap;
  store: LocalStore;
  session: Session;
  failures: Failure[];
}

export interface MountTreeOptions {
  /** Whether the store has a block. */
  has?(link: Link): boolean;
  /** Brings what the store does not have. */
  fetch?(request: FetchRequest, blocks: BlockMap): Promise<{ link: Link; bytes: Uint8Array }[]>;
  push?: boolean;
  /** Entries of the root that no import makes, and their blocks. */
  extra?(blocks: BlockMap): Entry[];
}

const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Mounts a tree until the end of the test. Nothing in this process may touch it: whoever does may wait for us. */
export async function mountTree(
  spec: DirectorySpec,
  { has = () => true, fetch, push = false, extra }: MountTreeOptions = {},
): Promise<MountedTree> {
  const home = await temporaryDirectory();
  const directory = join(home, 'mount');
  await mkdir(directory);
  const blocks: BlockMap = new Map();
  const root = encodeSpec(spec, blocks, '', extra?.(blocks)).link;
  const store = await openLocalStore(join(home, 'store'));
  cleanups.push(() => store.close());
  for (const [link, bytes] of blocks) if (has(link)) await store.put({ link, bytes });
  await store.flush();
  const failures: Failure[] = [];
  const device = await mountFuse(directory);
  const session = startSession({
    device,
    target: directory,
    storeDirectory: store.directory,
    view: { root },
    xattrs: true,
    push,
    fetch: (request) => (fetch ? fetch(request, blocks) : Promise.reject(new Error('there is no provider'))),
    resolveOrigin: () => Promise.reject(new Error('nobody knows of origins')),
    onFailure: (failure) => failures.push(failure),
  });
  cleanups.push(() => end(directory, session));
  await session.serving;
  return { directory, path: (name) => join(directory, name), root, blocks, store, session, failures };
}

/** Also when somebody still waits for an answer. */
async function end(directory: string, session: Session): Promise<void> {
  const mount = mountAt(await readMountInfo(), directory);
  if (mount) await unmount(directory, { lazy: true });
  await endConnection({ session, number: mount?.minor ?? 0 });
}

export interface Finished {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
}

/** Runs a program that may touch mounts of this process, with its messages in English. */
export function launch(
  program: string,
  ...args: string[]
): { child: ChildProcess; ended: Promise<Finished> } {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  });
  cleanups.push(async () => child.kill('SIGKILL'));
  const stdout: Buffer[] = [];
  let stderr = '';
  child.stdout?.on('data', (part: Buffer) => stdout.push(part));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code, signal]) => ({
    code,
    signal,
    stdout: Buffer.concat(stdout),
    stderr,
  }));
  return { child, ended };
}

export const run = (program: string, ...args: string[]): Promise<Finished> => launch(program, ...args).ended;
