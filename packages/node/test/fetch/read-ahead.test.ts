import { join } from 'node:path';
import {
  createTreeWriter,
  formatLink,
  importTree,
  isFile,
  type Link,
  type LocalStore,
  type OriginEntry,
  walkTree,
} from '@lazytree/core';
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { manyFiles, temporaryDirectory, temporaryStore, writeTree } from '../../../core/test/helpers.ts';
import { createFetchChain, type FetchChain } from '../../dist/fetch/fetch-chain.js';
import { createReadAhead } from '../../dist/prefetch/read-ahead.js';
import { type TestProvider, testProvider } from './test-provider.ts';

describe('reading ahead', () => {
  let seed: LocalStore;
  let root: Link;
  let files: { path: string; link: Link }[];
  let store: LocalStore;
  let fetch: FetchChain;
  let peer: TestProvider;
  const errors: unknown[] = [];

  beforeAll(async () => {
    seed = await temporaryStore();
    const at = join(await temporaryDirectory(), 'tree');
    writeTree(at, manyFiles(600, { perDirectory: 10, size: 3000 }));
    root = (await importTree(seed, at)).root;
    await seed.flush();
    files = [];
    for await (const { path, entry } of walkTree(seed, root))
      if (isFile(entry)) files.push({ path, link: entry.link });
  });

  beforeEach(async () => {
    store = await temporaryStore();
    fetch = createFetchChain(store);
    peer = testProvider(seed);
    fetch.join(peer);
    await fetch.bringTree(root, { signal: new AbortController().signal });
  });

  function reader(allowed = true) {
    const ahead = createReadAhead({
      store,
      fetch,
      resolved: ({ reference }) => (reference === 'many' ? root : undefined),
      allows: () => allowed,
      onError: (error: unknown) => errors.push(error),
    });
    return {
      ahead,
      async read({ path, link }: { path: string; link: Link }): Promise<boolean> {
        const here = store.holds(link.slice(1)) || fetch.isComing(link);
        ahead.after({ root: formatLink(root), path, links: [link] });
        await fetch.get(link);
        return here;
      },
    };
  }

  const here = () => files.filter(({ link }) => store.holds(link.slice(1))).length;

  it('brings the other small files of a directory, and no more', async () => {
    const { read } = reader();
    await read(files[25]);
    await vi.waitFor(() => expect(here()).toBe(10));
    expect(await read(files[21])).toBe(true);
    // The block that was waited for is asked for first.
    expect(peer.asked[0].options.urgent).toBe(true);
    expect(peer.asked.slice(1).every(({ options }) => !options.urgent)).toBe(true);
  });

  /** Until nothing has been asked for in a while. */
  const settled = async () => {
    for (let asked = -1; asked !== peer.asked.length; ) {
      asked = peer.asked.length;
      await new Promise((resolve) => setTimeout(resolve, 40));
      await vi.waitFor(() => expect(fetch.roots().coming).toEqual([]));
    }
  };

  it('goes on to the directories that follow for who goes from one to the next, and ahead of them', async () => {
    const { read } = reader();
    const missed: number[] = [];
    for (let i = 0; i < files.length; i += 10) {
      if (!(await read(files[i]))) missed.push(i / 10);
      await settled();
    }
    // Those that show what is being done, one more where the machine is busy, and nothing from then on.
    expect(missed.slice(0, 6)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(missed.length).toBeLessThanOrEqual(8);
  });

  it('goes no further than somebody has come', async () => {
    const { read } = reader();
    for (let i = 0; i < 80; i += 10) {
      await read(files[i]);
      await settled();
    }
    // The directories read one by one, and the 400 files that were fetched after them.
    expect(here()).toBeLessThanOrEqual(60 + 400);
    expect(here()).toBeGreaterThan(80);
    expect(files.slice(500).some(({ link }) => store.holds(link.slice(1)))).toBe(false);
  });

  it('goes through what an origin stands for, and no further', async () => {
    const origin = (name: string, reference: string): OriginEntry => ({
      kind: 'origin',
      of: 'directory',
      name,
      driver: 'test',
      reference,
    });
    const at = createTreeWriter(store, { signal: new AbortController().signal });
    at.put('a/many', origin('many', 'many'));
    at.put('a/other', origin('other', 'other'));
    const entry = await at.finish();
    const { ahead } = reader();
    const read = async (path: string, { link }: { link: Link }) => {
      ahead.after({ root: formatLink(entry.link), path, links: [link] });
      await fetch.get(link);
      await settled();
    };
    await read(`a/many/${files[25].path}`, files[25]);
    expect(here()).toBe(10);
    // Of one that nobody has resolved nothing is known.
    await read(`a/other/${files[45].path}`, files[45]);
    expect(here()).toBe(11);
    for (const i of [55, 65, 75, 85, 95, 105]) await read(`a/many/${files[i].path}`, files[i]);
    expect(here()).toBeGreaterThan(100);
    expect(errors).toEqual([]);
  });

  it('is not done where it is not wanted, or when it has ended', async () => {
    const { read } = reader(false);
    await read(files[25]);
    const { ahead, read: readAfter } = reader();
    ahead.close();
    await readAfter(files[45]);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(here()).toBe(2);
    expect(errors).toEqual([]);
  });
});
