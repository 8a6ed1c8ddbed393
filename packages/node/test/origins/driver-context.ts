import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { addRecords, createTreeWriter, importTree, type LocalStore, type TreeWriter } from '@lazytree/core';
import { temporaryDirectory, temporaryStore } from '../../../core/test/helpers.js';
import type { OriginContext, OriginProgress } from '../../src/origins/driver.js';

/** What a driver is given, with what became of it. */
export interface TestContext extends OriginContext {
  store: LocalStore;
  progress: OriginProgress[];
  received: { bytes: number; requests: number };
  /** Trees that were begun, and neither finished nor given up. */
  open(): number;
}

export interface ContextOptions {
  signal?: AbortSignal;
  environment?: Record<string, string>;
  directory?: string;
  /** Default: a new one. */
  store?: LocalStore;
}

export async function driverContext(options: ContextOptions = {}): Promise<TestContext> {
  const { signal = new AbortController().signal, environment = {} } = options;
  const store = options.store ?? (await temporaryStore());
  const home = await temporaryDirectory();
  const progress: OriginProgress[] = [];
  const received = { bytes: 0, requests: 0 };
  let open = 0;

  /** Counts each once, however it ends. */
  function counted(tree: TreeWriter): TreeWriter {
    open += 1;
    let ended = false;
    const end = () => {
      if (!ended) open -= 1;
      ended = true;
    };
    return {
      ...tree,
      finish: () => tree.finish().finally(end),
      abort() {
        end();
        tree.abort();
      },
    };
  }

  return {
    store,
    progress,
    received,
    open: () => open,
    signal,
    isAhead: () => false,
    environment,
    directory: options.directory ?? home,
    newTree: () => counted(createTreeWriter(store, { signal })),
    addRecords: (records) => addRecords(store, records),
    async importDirectory(path) {
      const { root, size, files, warnings } = await importTree(store, path, { signal });
      const notes = warnings.map(({ path: where, message }) => `${where}: ${message}`);
      return { entry: { kind: 'directory', name: '', link: root, size, files }, notes };
    },
    async cacheDirectory() {
      const directory = join(home, 'cache');
      await mkdir(directory, { recursive: true });
      return directory;
    },
    onProgress: (state) => void progress.push(state),
    onReceived(bytes, requests) {
      received.bytes += bytes;
      received.requests += requests;
    },
  };
}
