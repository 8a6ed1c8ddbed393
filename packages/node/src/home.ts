import { type LocalStore, openLocalStore } from '@lazytree/core';
import { homeDirectory, storeDirectory } from './home-directory.js';

/** The state of one user on one machine: a directory, and the store in it. */
export interface Home {
  directory: string;
  store: LocalStore;
  close(): Promise<void>;
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
