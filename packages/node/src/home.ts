import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { type LocalStore, openLocalStore } from '@lazytree/core';

/** The state of one user on one machine: a directory, and the store in it. */
export interface Home {
  directory: string;
  store: LocalStore;
  close(): Promise<void>;
}

/** `LAZYTREE_HOME`, or `lazytree` in the XDG data directory (XDG Base Directory Specification). */
export function homeDirectory(env: NodeJS.ProcessEnv = process.env): string {
  if (env.LAZYTREE_HOME) return resolve(env.LAZYTREE_HOME);
  const data = env.XDG_DATA_HOME?.startsWith('/') ? env.XDG_DATA_HOME : join(homedir(), '.local', 'share');
  return join(data, 'lazytree');
}

export function storeDirectory(home: string): string {
  return join(home, 'store');
}

export interface OpenHomeOptions {
  directory?: string;
  /** Make the home when there is none. */
  create: boolean;
}

/** @throws LazytreeError as openLocalStore */
export async function openHome({ directory = homeDirectory(), create }: OpenHomeOptions): Promise<Home> {
  const store = await openLocalStore(storeDirectory(directory), { create });
  return { directory, store, close: () => store.close() };
}
