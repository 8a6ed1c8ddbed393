import { join } from 'node:path';
import {
  type Block,
  type BlockStore,
  caching,
  cachingStore,
  coalescing,
  createMemoryStore,
  failover,
  faultInjecting,
  type LocalStore,
  openLocalStore,
  router,
  verifying,
} from '@lazytree/core';
import { temporaryDirectory, temporaryStore, writableThrough } from './helpers.js';
import { type Harness, sourceConformance, storeConformance } from './store-conformance.js';

/** Small, so that the suite fills several segments. */
const segmentBytes = 64 << 10;

/** A harness over a local store inside of wrappers. */
async function local(wrap: (store: LocalStore) => BlockStore = (store) => store): Promise<Harness> {
  const home = join(await temporaryDirectory(), 'home');
  let store = wrap(await openLocalStore(home, { segmentBytes }));
  return {
    store,
    async reopen() {
      await store.close();
      store = wrap(await openLocalStore(home, { segmentBytes }));
      return store;
    },
  };
}

const memory = async (
  wrap: (store: ReturnType<typeof createMemoryStore>) => BlockStore,
): Promise<Harness> => ({
  store: wrap(createMemoryStore()),
});

storeConformance('memory', () => memory((store) => store));
storeConformance('local', () => local());
storeConformance('verifying(memory)', () => memory(verifying));
storeConformance('verifying(local)', () => local(verifying));
storeConformance('coalescing(memory)', () => memory(coalescing));
storeConformance('coalescing(local)', () => local(coalescing));
storeConformance('faulty(memory) without faults', () => memory((store) => faultInjecting(store, {})));
storeConformance('faulty(local) without faults', () => local((store) => faultInjecting(store, {})));
storeConformance('caching(memory, local)', () => local((store) => cachingStore(createMemoryStore(), store)));
storeConformance('caching(local, memory)', async () => ({
  store: cachingStore(await temporaryStore({ segmentBytes }), createMemoryStore()),
}));
storeConformance('router(memory), writable', () => memory((store) => writableThrough(router(store), store)));
storeConformance('router(empty, local), writable', () =>
  local((store) => writableThrough(router(createMemoryStore(), store), store)),
);
storeConformance('failover(memory), writable', () =>
  memory((store) => writableThrough(failover(store), store)),
);
storeConformance('everything at once', () =>
  local((store) => coalescing(verifying(cachingStore(createMemoryStore(), faultInjecting(store, {}))))),
);

async function filled(
  blocks: readonly Block[],
  store: BlockStore = createMemoryStore(),
): Promise<BlockStore> {
  for (const block of blocks) await store.put(block);
  return store;
}

sourceConformance('router over halves', async (blocks) =>
  router(await filled(blocks.slice(0, 3)), await filled([]), await filled(blocks.slice(3))),
);
sourceConformance('router with a local store', async (blocks) =>
  router(createMemoryStore(), await filled(blocks, await temporaryStore({ segmentBytes }))),
);
sourceConformance('failover', async (blocks) => failover(await filled(blocks), await filled(blocks)));
sourceConformance('failover with a broken first source', async (blocks) => {
  const broken = faultInjecting(createMemoryStore(), {
    before() {
      throw new Error('broken');
    },
  });
  return failover(broken, await filled(blocks));
});
sourceConformance('caching', async (blocks) => caching(createMemoryStore(), await filled(blocks)));
sourceConformance('caching with a broken cache', async (blocks) => {
  const broken = faultInjecting(createMemoryStore(), {
    before() {
      throw new Error('broken');
    },
  });
  return caching(broken, await filled(blocks));
});
sourceConformance('coalescing over a router', async (blocks) =>
  coalescing(router(createMemoryStore(), await filled(blocks))),
);
sourceConformance('verifying over a router', async (blocks) => verifying(router(await filled(blocks))));
