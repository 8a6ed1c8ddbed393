import { join } from 'node:path';
import { importTree, type Link, type LocalStore, linkDigest, readRecords, treeRecords } from '@lazytree/core';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  file,
  manyFiles,
  pseudoRandom,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from '../../../core/test/helpers.ts';
import { createFetchChain, type FetchChain } from '../../dist/fetch/fetch-chain.js';
import type { GetOptions, Parcel, Provider } from '../../dist/fetch/provider.js';
import { prefetchTree } from '../../dist/prefetch/prefetch.js';
import { type TestProvider, testProvider } from './test-provider.ts';

interface Machine {
  id: string;
  store: LocalStore;
  chain: FetchChain;
  /** Bytes it has sent. */
  sent: number;
  /** Bytes a second that it can send. */
  rate: number;
  /** Stops sending, for good. */
  dead: boolean;
}

/** What a machine is to the others: it serves from its store, and waits for what it is bringing. */
function providerOf(machine: Machine, root: Link, complete: boolean): Provider {
  const { store, chain, id } = machine;

  async function* sending(parcels: AsyncIterable<Parcel>, signal: AbortSignal): AsyncGenerator<Parcel> {
    for await (const parcel of parcels) {
      await wire(machine, parcel.records.length);
      if (machine.dead) await new Promise((_, reject) => signal.addEventListener('abort', reject));
      signal.throwIfAborted();
      machine.sent += parcel.records.length;
      yield parcel;
    }
  }

  async function* get(
    links: readonly Link[],
    { signal, patient = false }: GetOptions,
  ): AsyncGenerator<Parcel> {
    const late: Link[] = [];
    for await (const { records, missing } of readRecords(store, links, { signal })) {
      if (patient) late.push(...missing);
      yield { records, missing: patient ? [] : missing };
    }
    const ready: Link[] = [];
    const absent: Link[] = [];
    let wake = Promise.withResolvers<void>();
    let open = 0;
    for (const link of late) {
      const coming = chain.awaited(link, signal) ?? Promise.resolve(false);
      open += 1;
      coming
        .then((came) => (came ? ready : absent).push(link))
        .catch(() => absent.push(link))
        .finally(() => {
          open -= 1;
          wake.resolve();
        });
    }
    while (open + ready.length + absent.length > 0) {
      signal.throwIfAborted();
      if (ready.length + absent.length === 0) {
        wake = Promise.withResolvers();
        await wake.promise;
      }
      const missing = absent.splice(0);
      for await (const part of readRecords(store, ready.splice(0), { signal })) {
        missing.push(...part.missing);
        yield { records: part.records, missing: [] };
      }
      if (missing.length > 0) yield { records: Buffer.alloc(0), missing };
    }
  }

  return {
    id,
    describe: () => id,
    get: (links, options) => sending(get(links, options), options.signal),
    tree: (link, { have, signal }) => sending(treeRecords(store, link, { have, signal }), signal),
    holds(of) {
      if (of !== root) return 'unknown';
      const { coming, whole } = chain.roots();
      return complete || whole.includes(of) ? 'all' : coming.includes(of) ? 'part' : 'unknown';
    },
    distrust(reason) {
      throw new Error(`${id} is distrusted: ${reason}`);
    },
  };
}

const busyUntil = new WeakMap<Machine, number>();

async function wire(machine: Machine, bytes: number): Promise<void> {
  const from = Math.max(busyUntil.get(machine) ?? 0, performance.now());
  const until = from + (bytes * 1000) / machine.rate;
  busyUntil.set(machine, until);
  await new Promise((resolve) => setTimeout(resolve, Math.max(1, until - performance.now())));
}

async function machine(id: string, rate: number, stall: number): Promise<Machine> {
  const store = await temporaryStore();
  const chain = createFetchChain(store, { timing: { stall } });
  chain.setSelf(id);
  return { id, store, chain, sent: 0, rate, dead: false };
}

describe('machines that bring one root at the same time', () => {
  let seedStore: LocalStore;
  let root: Link;
  let bytes: number;

  beforeAll(async () => {
    seedStore = await temporaryStore();
    const at = join(await temporaryDirectory(), 'tree');
    const tree = manyFiles(1500, { perDirectory: 15, size: 3000 });
    tree.entries.set('large', file(pseudoRandom(5 << 20, 9)));
    writeTree(at, tree);
    root = (await importTree(seedStore, at)).root;
    await seedStore.flush();
    bytes = 1500 * 3000 + (5 << 20);
  });

  async function swarm(
    count: number,
    rateOf: (index: number) => number,
    stall: number,
  ): Promise<{ seed: Machine; cold: Machine[] }> {
    const seedChain = createFetchChain(seedStore);
    const seed: Machine = { id: 'seed', store: seedStore, chain: seedChain, sent: 0, rate: 6e6, dead: false };
    const cold = await Promise.all(
      Array.from({ length: count }, (_, i) => machine(`machine ${i}`, rateOf(i), stall)),
    );
    for (const one of cold) {
      one.chain.join(providerOf(seed, root, true));
      for (const other of cold) if (other !== one) one.chain.join(providerOf(other, root, false));
    }
    return { seed, cold };
  }

  async function expectWhole({ store }: Machine): Promise<void> {
    for await (const link of seedStore.links()) {
      expect(Buffer.compare(await store.get(link), await seedStore.get(link))).toBe(0);
    }
  }

  // What is slow is asked of others, too: on a busy machine that is more than `npm run bench cluster-many` finds.
  const MOST_COPIES = 2;

  it('get it from each other: the seed sends little more than one copy to eight', async () => {
    const { seed, cold } = await swarm(8, () => 50e6, 20_000);
    const signal = new AbortController().signal;
    await Promise.all(cold.map(({ chain }) => prefetchTree(chain, root, { signal })));
    for (const one of cold) await expectWhole(one);
    expect(seed.sent / bytes).toBeLessThan(MOST_COPIES);
    expect(cold.every(({ chain }) => chain.roots().whole.includes(root))).toBe(true);
  });

  const remoteFor = ({ chain }: Machine): TestProvider => {
    const batch = { bytes: 1 << 20, requests: 4 };
    const remote = testProvider(seedStore, { tier: 'remote', holds: 'all', delay: 5, rate: 20e6, batch });
    chain.join(remote);
    return remote;
  };

  it('ask nothing of a remote that the seed or one of them has', async () => {
    const { seed, cold } = await swarm(4, () => 50e6, 20_000);
    const remotes = cold.map(remoteFor);
    const signal = new AbortController().signal;
    await Promise.all(cold.map(({ chain }) => prefetchTree(chain, root, { signal })));
    for (const one of cold) await expectWhole(one);
    expect(remotes.flatMap(({ asked, trees }) => [...asked, ...trees])).toEqual([]);
    expect(seed.sent / bytes).toBeLessThan(MOST_COPIES);
  });

  it('do not wait for each other when only a remote has it', async () => {
    const cold = await Promise.all([0, 1, 2, 3].map((i) => machine(`machine ${i}`, 50e6, 5000)));
    for (const one of cold) {
      for (const other of cold) if (other !== one) one.chain.join(providerOf(other, root, false));
    }
    const remotes = cold.map(remoteFor);
    const began = performance.now();
    const signal = new AbortController().signal;
    await Promise.all(cold.map(({ chain }) => prefetchTree(chain, root, { signal })));
    expect(performance.now() - began).toBeLessThan(5000);
    for (const one of cold) await expectWhole(one);
    for (const { sent } of remotes) expect(sent / bytes).toBeLessThan(1.1);
  });

  it('do not wait for one that is slow, or dies', async () => {
    const { seed, cold } = await swarm(4, (index) => (index === 1 ? 50e3 : 50e6), 500);
    const signal = new AbortController().signal;
    setTimeout(() => {
      cold[2].dead = true;
    }, 500);
    await Promise.all(cold.map(({ chain }) => prefetchTree(chain, root, { signal })));
    for (const one of cold) await expectWhole(one);
    expect(seed.sent / bytes).toBeLessThan(2.5);
  });

  it('learn of each other by what is being brought', async () => {
    const { cold } = await swarm(1, () => 50e6, 1000);
    const [{ chain, store }] = cold;
    let changes = 0;
    const unwatch = chain.watchRoots(() => {
      changes += 1;
    });
    const signal = new AbortController().signal;
    const prefetching = prefetchTree(chain, root, { signal });
    while (chain.roots().coming.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    const links: Link[] = [];
    for await (const link of seedStore.links()) links.push(link);
    const absent = links.filter((link) => !store.holds(linkDigest(link)));
    const waits = absent.map((link) => chain.awaited(link, signal));
    expect(waits.length).toBeGreaterThan(0);
    await prefetching;
    expect(await Promise.all(waits)).toEqual(waits.map(() => true));
    expect(chain.awaited(absent[0], signal)).toBeUndefined();
    expect(chain.roots()).toEqual({ coming: [], whole: [root] });
    expect(changes).toBe(2);
    unwatch();
  });
});
