import { join } from 'node:path';
import type { Link, LocalStore } from '@lazytree/core';
import type { Provider } from '../fetch/provider.js';
import type { MountLog } from '../mounts/mount-log.js';
import type { AccessOrders } from '../prefetch/access-order.js';
import { type Collected, type CollectOptions, collect } from './collect/collect.js';
import { condense } from './collect/condense.js';
import { createIndexCache } from './index/index-cache.js';
import { createRemoteIndex } from './index/remote-index.js';
import { createPackReader } from './packs/pack-reader.js';
import { type Pushed, type PushOptions, push } from './push/push.js';
import type { TreeSource } from './push/whole-directories.js';
import { createRemoteProvider } from './remote-provider.js';
import { listRemoteRefs, type ReadRef, readRef, removeRemoteRef } from './remote-ref.js';
import { listPinned, type RootManifest, readManifest, unpin } from './root-manifest.js';
import { createSeenRefs } from './seen-refs.js';
import type { Storage } from './storage/storage.js';
import { type Check, type ValidateOptions, validate } from './validate/validate.js';

/** Blocks, roots and names in a storage. */
export interface Remote {
  readonly name: string;
  readonly storage: Storage;
  /** It as one of those that have blocks. */
  readonly provider: Provider;
  push(options: PushOptions): Promise<Pushed>;
  /** @returns undefined when nothing has that name */
  ref(name: string, signal: AbortSignal): Promise<ReadRef | undefined>;
  refs(signal: AbortSignal): AsyncIterable<ReadRef>;
  removeRef(name: string, signal: AbortSignal): Promise<void>;
  pins(signal: AbortSignal): AsyncIterable<RootManifest>;
  unpin(root: Link, signal: AbortSignal): Promise<void>;
  /** Remembers what a name stands for that has been pulled. */
  pulled(read: ReadRef, signal: AbortSignal): Promise<void>;
  collect(options: CollectOptions): Promise<Collected>;
  validate(options: ValidateOptions): Promise<Check[]>;
  close(): Promise<void>;
}

export interface OpenRemoteOptions {
  name: string;
  storage: Storage;
  store: LocalStore;
  /** Where blocks come from that the store does not have. */
  source: TreeSource;
  /** For what is kept of the remote on this machine. */
  directory: string;
  orders: AccessOrders;
  log: MountLog;
}

/** Nothing is asked of the storage yet. The remote closes it. */
export function openRemote(options: OpenRemoteOptions): Remote {
  const { name, storage, store, source, directory, orders, log } = options;
  const index = createRemoteIndex({ storage, cache: createIndexCache(join(directory, 'index')), log });
  const packs = createPackReader(storage);
  const seen = createSeenRefs(join(directory, 'refs'));
  return {
    name,
    storage,
    provider: createRemoteProvider({
      name,
      storage,
      index,
      packs,
      isHere: (digest) => store.holds(digest),
      onOrder: (root, order) =>
        orders
          .extend(root, order)
          .catch((error: unknown) =>
            log.warn({ remote: name, error: String(error) }, 'the order of a tree was not kept'),
          ),
    }),
    async push(options) {
      const pushed = await push({ store, source, storage, index, seen, orders }, options);
      try {
        await condense({ storage, index, packs }, options.signal);
      } catch (error) {
        // The tree is there all the same, and the next push tries again.
        log.warn({ remote: name, error: (error as Error).message }, 'tables of a remote were not condensed');
      }
      return pushed;
    },
    ref: (wanted, signal) => readRef(storage, wanted, signal),
    refs: (signal) => listRemoteRefs(storage, signal),
    removeRef: (wanted, signal) => removeRemoteRef(storage, wanted, signal),
    pins: (signal) => listPinned(storage, signal),
    unpin: (root, signal) => unpin(storage, root, signal),
    async pulled(read, signal) {
      const found = await readManifest(storage, read.ref.snapshots[0].root, signal);
      await seen.write({ ...read, nodes: found?.manifest.nodes ?? [] });
    },
    collect: (options) => collect({ storage, index, packs }, options),
    validate: (options) => validate({ storage, index, packs }, options),
    async close() {
      await packs.close();
      await storage.close();
    },
  };
}
