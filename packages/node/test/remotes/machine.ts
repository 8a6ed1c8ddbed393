import fs from 'node:fs';
import { join } from 'node:path';
import {
  fileChunks,
  importTree,
  isFile,
  type Link,
  type LocalStore,
  linkCodec,
  RAW,
  setRef,
  walkTree,
} from '@lazytree/core';
import {
  afterwards,
  type DirectorySpec,
  FAST,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from '../../../core/test/helpers.ts';
import { createFetchChain, type FetchChain } from '../../dist/fetch/fetch-chain.js';
import { type AccessOrders, accessOrders } from '../../dist/prefetch/access-order.js';
import type { Pushed, PushOptions } from '../../dist/remotes/push/push.js';
import { openRemote, type Remote } from '../../dist/remotes/remote.js';
import { openDirectoryStorage } from '../../dist/remotes/storage/directory.js';
import type { Storage } from '../../dist/remotes/storage/storage.js';
import { DEFAULT_KEEP } from '../../dist/workspaces/thinning.js';

export const never = new AbortController().signal;
export const HOUR = 3_600_000;

/** A machine with a store of its own, which has a remote. */
export interface Machine {
  store: LocalStore;
  chain: FetchChain;
  storage: Storage;
  remote: Remote;
  /** What it keeps of the remote. */
  directory: string;
  orders: AccessOrders;
  warnings: string[];
  /** Makes a tree in its store. */
  plant(spec: DirectorySpec): Promise<Link>;
  push(root: Link, name?: string, options?: MachinePushOptions): Promise<Pushed>;
}

export interface MachinePushOptions extends Partial<PushOptions> {
  /** What the name has stood for as far as the machine knows; without it, the name is taken whoever has it. */
  known?: readonly Link[];
}

export interface MachineOptions {
  wrap?: (storage: Storage) => Storage;
  /** Another machine whose store it has. */
  like?: Machine;
}

/** A new directory for a remote to be in. */
export function newPlace(): Promise<string> {
  return temporaryDirectory(FAST);
}

export function storageAt(place: string): Storage {
  return openDirectoryStorage(place, { url: `file://${place}` });
}

export async function newMachine(place: string, options: MachineOptions = {}): Promise<Machine> {
  const { wrap = (storage) => storage, like } = options;
  const home = await temporaryDirectory(FAST);
  const store = like?.store ?? (await temporaryStore({ directory: join(home, 'store') }));
  const chain = createFetchChain(store);
  const storage = wrap(storageAt(place));
  const directory = join(home, 'remote');
  const warnings: string[] = [];
  const log = { info() {}, error() {}, warn: (_: object, message: string) => void warnings.push(message) };
  const orders = accessOrders(home);
  const remote = openRemote({ name: 'r', storage, store, source: chain, directory, orders, log });
  chain.join(remote.provider);
  afterwards(() => remote.close());
  let trees = 0;
  return {
    store,
    chain,
    storage,
    remote,
    directory,
    orders,
    warnings,
    async plant(spec) {
      const at = join(home, `tree${trees++}`);
      writeTree(at, spec);
      const { root } = await importTree(store, at);
      await store.flush();
      return root;
    },
    async push(root, name, { known, ...rest } = {}) {
      for (const before of known ?? [])
        if (name !== undefined) await setRef(store, { name, root: before, source: 'a test' });
      const force = known === undefined;
      return remote.push({ root, name, force, keep: DEFAULT_KEEP, signal: never, ...rest });
    },
  };
}

/** Every block below a root, nodes included, in the order of the tree. */
export async function allLinks(source: FetchChain | LocalStore, root: Link): Promise<Set<Link>> {
  const links = new Set([root]);
  for await (const { entry } of walkTree(source, root)) {
    if (entry.kind === 'directory') links.add(entry.link);
    if (!isFile(entry)) continue;
    links.add(entry.link);
    if (linkCodec(entry.link) === RAW) continue;
    for await (const { link } of fileChunks(source, entry)) links.add(link);
  }
  return links;
}

/** Reads all of a tree at a machine that has nothing, and returns how many blocks it has. @throws what reading throws */
export async function readWhole(place: string, root: Link): Promise<number> {
  const reader = await newMachine(place);
  try {
    await reader.chain.bringTree(root, { signal: never });
    const links = await allLinks(reader.chain, root);
    for (const link of links) await reader.chain.get(link);
    return links.size;
  } finally {
    await reader.remote.close();
    await reader.store.close();
  }
}

/** Roots that anybody may rely on: those of refs with their history, and those that are pinned. */
export async function visibleRoots(machine: Machine): Promise<Set<Link>> {
  const roots = new Set<Link>();
  for await (const { ref } of machine.remote.refs(never)) {
    for (const { root } of ref.snapshots) roots.add(root);
  }
  return roots;
}

/** Names of what is stored below a prefix, with the sizes. */
export async function objects(place: string, prefix: string): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  const storage = storageAt(place);
  for await (const { name, size } of storage.list(prefix, { signal: never })) found.set(name, size);
  return found;
}

/** Makes all that is stored look older. Nobody may be at work there. */
export function age(place: string, ms: number): void {
  for (const entry of fs.readdirSync(place, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const { mtimeMs } = fs.statSync(file);
    fs.utimesSync(file, (mtimeMs - ms) / 1000, (mtimeMs - ms) / 1000);
  }
}

/** A storage of which every write and every removal is counted, and can be made to fail. */
export function withWrites(storage: Storage, onWrite: (name: string) => void | Promise<void>): Storage {
  return {
    ...storage,
    async put(name, bytes, options) {
      await onWrite(name);
      return storage.put(name, bytes, options);
    },
    async delete(name, options) {
      await onWrite(name);
      return storage.delete(name, options);
    },
  };
}

/**
 * A storage whose user is killed at a write: it, and all that is asked later, fails. What was written by then is there.
 *
 * @param late the write takes place, and only its answer is lost
 */
export function killedAt(storage: Storage, write: number, late = false): Storage & { writes: number } {
  const state = { writes: 0, dead: false };
  const die = (): never => {
    state.dead = true;
    throw new Error('killed');
  };
  const alive = () => {
    if (state.dead) die();
  };
  const change = async <T>(task: () => Promise<T>): Promise<T> => {
    alive();
    if (++state.writes !== write) return task();
    if (late) await task();
    return die();
  };
  return {
    ...storage,
    get writes() {
      return state.writes;
    },
    async get(name, options) {
      alive();
      return storage.get(name, options);
    },
    async *list(prefix, options) {
      alive();
      yield* storage.list(prefix, options);
    },
    put: (name, bytes, options) => change(() => storage.put(name, bytes, options)),
    delete: (name, options) => change(() => storage.delete(name, options)),
  };
}
