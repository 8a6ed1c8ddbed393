import { join } from 'node:path';
import { createTreeWriter, type LocalStore, walkTree } from '@lazytree/core';
import {
  collect,
  exportDescription,
  temporaryDirectory,
  temporaryStore,
} from '../../../core/test/helpers.ts';
import type { OriginContent, OriginContext, OriginDriver } from '../../dist/origins/driver.js';

export interface TestContext extends OriginContext {
  store: LocalStore;
  cache: string;
  received: { bytes: number; requests: number };
}

/** What the engine gives to drivers, over a store of its own. */
export async function newContext(options: Partial<OriginContext> = {}): Promise<TestContext> {
  const store = await temporaryStore();
  const directory = await temporaryDirectory();
  const cache = join(directory, 'cache');
  const signal = options.signal ?? new AbortController().signal;
  const received = { bytes: 0, requests: 0 };
  return {
    signal,
    newTree: () => createTreeWriter(store, { signal }),
    cacheDirectory: async () => cache,
    environment: { PATH: process.env.PATH, HOME: directory },
    directory,
    onProgress() {},
    onReceived(bytes, requests) {
      received.bytes += bytes;
      received.requests += requests;
    },
    store,
    cache,
    received,
    ...options,
  };
}

/** From a text to what it stands for, as the engine does it. */
export async function fetchOrigin(
  driver: OriginDriver,
  text: string,
  context: OriginContext,
): Promise<OriginContent> {
  const reference = driver.parse(text, { directory: context.directory });
  const pin = await driver.pin(reference, context);
  return driver.fetch(pin, context);
}

/** All of what was fetched, as {@link exportDescription}. */
export async function described(content: OriginContent, { store }: TestContext): Promise<string[]> {
  if (content.entry.kind !== 'directory') throw new Error('not a directory');
  return exportDescription(store, content.entry.link);
}

/** Path and kind of all entries, of origins what they refer to. */
export async function listed(content: OriginContent, { store }: TestContext): Promise<string[]> {
  const entries = await collect(walkTree(store, content.entry.link));
  return entries.map(({ path, entry }) =>
    entry.kind === 'origin'
      ? `${path} ${entry.driver}:${entry.reference} ${entry.integrity}`
      : `${path} ${entry.kind}`,
  );
}
