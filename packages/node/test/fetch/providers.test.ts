import fs from 'node:fs';
import { join } from 'node:path';
import {
  BlockMissingError,
  fileChunks,
  importTree,
  isFile,
  LazytreeError,
  type Link,
  type LocalStore,
  linkCodec,
  linkDigest,
  RAW,
  walkTree,
} from '@lazytree/core';
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  block,
  directory,
  errorOf,
  file,
  manyFiles,
  pseudoRandom,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from '../../../core/test/helpers.ts';
import { createFetchChain, type FetchChainOptions } from '../../dist/fetch/fetch-chain.js';
import { testProvider } from './test-provider.ts';

const never = new AbortController().signal;

describe('providers of a fetch chain', () => {
  let seed: LocalStore;
  let root: Link;
  let nodes: Link[];
  let chunks: { link: Link; size: number }[];
  let store: LocalStore;

  beforeAll(async () => {
    seed = await temporaryStore();
    const at = join(await temporaryDirectory(), 'tree');
    const tree = manyFiles(300, { perDirectory: 20, size: 3000 });
    tree.entries.set('large', file(pseudoRandom(3 << 20, 7)));
    tree.entries.set('empty', directory());
    writeTree(at, tree);
    root = (await importTree(seed, at)).root;
    await seed.flush();
    nodes = [];
    chunks = [];
    const here = new Set<Link>([root]);
    for await (const { entry } of walkTree(seed, root)) {
      if (entry.kind === 'directory') here.add(entry.link);
      if (!isFile(entry)) continue;
      if (linkCodec(entry.link) !== RAW) here.add(entry.link);
      for await (const chunk of fileChunks(seed, entry)) chunks.push(chunk);
    }
    nodes = [...here];
  });

  beforeEach(async () => {
    store = await temporaryStore();
  });

  const chainOf = (options: FetchChainOptions = {}) => createFetchChain(store, options);

  /** Whether the store has exactly what the seed has of these. */
  async function expectHere(links: readonly Link[]): Promise<void> {
    for (const link of links) {
      expect(Buffer.compare(await store.get(link), await seed.get(link))).toBe(0);
    }
  }

  describe('a demanded block', () => {
    it('is asked for in one request with others, and kept', async () => {
      const chain = chainOf();
      const peer = testProvider(seed);
      chain.join(peer);
      const links = chunks.slice(0, 50).map(({ link }) => link);
      const got = await Promise.all([...links, ...links].map((link) => chain.get(link)));
      for (const [i, bytes] of got.entries()) {
        expect(Buffer.compare(bytes, await seed.get(links[i % links.length]))).toBe(0);
      }
      expect(peer.asked.length).toBe(1);
      expect(peer.asked[0].links.length).toBe(50);
      await expectHere(links);
    });

    it('comes from the next one when the first misses it, fails or lies', async () => {
      const chain = chainOf();
      const [{ link }] = chunks;
      const lacking = testProvider(seed, { lacks: () => true });
      const failing = testProvider(seed, { failsAfter: 0 });
      const lying = testProvider(seed, {
        distort: ({ records, missing }) => {
          const bad = Buffer.from(records);
          bad[60] ^= 1;
          return { records: bad, missing };
        },
      });
      for (const peer of [lacking, failing, lying]) chain.join(peer);
      const nobody = await errorOf(chain.get(link));
      expect(nobody).toMatchObject({ code: 'NETWORK' });
      for (const { id } of [lacking, failing, lying]) expect(nobody.message).toContain(`peer ${id}`);
      expect(nobody.message).toContain('it is on fire');
      expect(nobody.message).toContain('missing');
      expect(lying.distrusted.length).toBe(1);
      chain.join(testProvider(seed));
      expect(Buffer.compare(await chain.get(link), await seed.get(link))).toBe(0);
      expect(lying.asked.length).toBe(1);
    });

    it('is missing only when everybody says so', async () => {
      const chain = chainOf();
      chain.join(testProvider(seed));
      chain.join(testProvider(seed));
      const { link } = block('nobody has this');
      expect(await errorOf(chain.get(link))).toBeInstanceOf(BlockMissingError);
    });

    it.each([
      [
        'another block',
        () =>
          seed.segments.read(
            seed.locate(chunks[9].link) as never,
            52 + (seed.locate(chunks[9].link)?.stored ?? 0),
          ),
      ],
      ['noise', () => Buffer.from('not a record at all, but some text that is long enough to be one')],
    ])('is not taken from who sends %s', async (_, lie) => {
      const chain = chainOf();
      const liar = testProvider(seed, { distort: ({ missing }) => ({ records: lie(), missing }) });
      chain.join(liar);
      expect(await errorOf(chain.get(chunks[0].link))).toMatchObject({ code: 'NETWORK' });
      expect(liar.distrusted.length).toBe(1);
      expect(await store.has(chunks[9].link)).toBe(false);
      // Coming back does not help.
      const again = testProvider(seed, { id: liar.id });
      chain.join(again);
      expect(await errorOf(chain.get(chunks[0].link))).toMatchObject({ code: 'BLOCK_MISSING' });
      expect(again.asked).toEqual([]);
    });

    it('waits for a black hole once', async () => {
      const chain = chainOf({ timing: { hedge: 30, quarantine: 60_000 } });
      const hole = testProvider(seed, { blackHole: true, holds: 'all' });
      const good = testProvider(seed, { delay: 1 });
      chain.join(hole);
      chain.join(good);
      for (const { link } of chunks.slice(0, 20)) await chain.get(link);
      expect(hole.asked.length).toBeLessThanOrEqual(1);
      expect(hole.cancelled).toBe(hole.asked.length);
      expect(good.asked.length).toBe(20);
    });

    it('is asked of a provider that is well again', async () => {
      const chain = chainOf({ timing: { hedge: 50, quarantine: 50, longestQuarantine: 50 } });
      const peer = testProvider(seed, { blackHole: true, holds: 'all' });
      chain.join(peer);
      chain.join(testProvider(seed, { delay: 5 }));
      await chain.get(chunks[0].link);
      await vi.waitFor(async () => {
        peer.behaviour.blackHole = false;
        const next = chunks.find(({ link }) => !store.locate(link));
        await chain.get((next as { link: Link }).link);
        expect(chain.status().find(({ id }) => id === peer.id)?.quarantinedUntil).toBeUndefined();
      });
    });

    it('is cancelled to the wire when nobody waits for it any more', async () => {
      const chain = chainOf();
      const hole = testProvider(seed, { blackHole: true });
      chain.join(hole);
      const controller = new AbortController();
      const gets = chunks
        .slice(0, 3)
        .map(({ link }) => errorOf(chain.get(link, { signal: controller.signal })));
      await vi.waitFor(() => expect(hole.active).toBe(1));
      controller.abort();
      expect((await Promise.all(gets)).map(({ name }) => name)).toEqual([
        'AbortError',
        'AbortError',
        'AbortError',
      ]);
      await vi.waitFor(() => expect(hole.active).toBe(0));
      expect(hole.cancelled).toBe(1);
    });
  });

  describe('a tree', () => {
    it('comes with one request', async () => {
      const chain = chainOf();
      const peer = testProvider(seed);
      chain.join(peer);
      await chain.bringTree(root, { signal: never });
      await expectHere(nodes);
      expect(peer.trees).toEqual([{ root, have: [] }]);
      expect(peer.asked).toEqual([]);
      expect(chain.isComplete(root)).toBe(true);
      await chain.bringTree(root, { signal: never });
      expect(peer.trees.length).toBe(1);
    });

    it('is asked for once by those who want it at the same time', async () => {
      const chain = chainOf();
      const peer = testProvider(seed, { delay: 500 });
      chain.join(peer);
      const giver = new AbortController();
      const given = errorOf(chain.bringTree(root, { signal: giver.signal }));
      const others = [1, 2, 3].map(() => chain.bringTree(root, { signal: never }));
      await vi.waitFor(() => expect(peer.trees.length).toBe(1));
      giver.abort();
      await Promise.all(others);
      expect((await given).name).toBe('AbortError');
      expect(peer.trees.length).toBe(2);
      await expectHere(nodes);
    });

    it('is completed from others', async () => {
      const chain = chainOf();
      const first = testProvider(seed, { holds: 'all', stopsAfter: 5 });
      const second = testProvider(seed);
      chain.join(first);
      chain.join(second);
      await chain.bringTree(root, { signal: never });
      await expectHere(nodes);
      expect(chain.isComplete(root)).toBe(true);
    });

    it('is asked of others when one does not answer, fails or lies', async () => {
      const chain = chainOf({ timing: { hedge: 20 } });
      const bad = [
        testProvider(seed, { holds: 'all', blackHole: true }),
        testProvider(seed, { holds: 'all', failsAfter: 0 }),
        testProvider(seed, { holds: 'all', lacks: () => true }),
        testProvider(seed, {
          holds: 'all',
          distort: ({ missing }) => ({
            records: seed.segments.read(
              seed.locate(chunks[0].link) as never,
              52 + (seed.locate(chunks[0].link)?.stored ?? 0),
            ),
            missing,
          }),
        }),
      ];
      for (const peer of bad) chain.join(peer);
      chain.join(testProvider(seed));
      await chain.bringTree(root, { signal: never });
      await expectHere(nodes);
      expect(await store.has(chunks[0].link)).toBe(false);
    });

    it('comes with its content where that is wanted, as far as somebody has it', async () => {
      const chain = chainOf();
      const links = chunks.map(({ link }) => link);
      const [first, second] = [links.slice(0, 100), links.slice(0, 200)];
      // The second is asked for what the first has not sent.
      const hasty = testProvider(seed, { holds: 'all', stopsAfter: 5, failsAfter: 1, content: first });
      const peer = testProvider(seed, { content: second });
      chain.join(hasty);
      chain.join(peer);
      await chain.bringTree(root, { signal: never, content: 8 << 20, readable: true });
      await chain.bringTree(root, { signal: never });
      await expectHere(nodes);
      expect(hasty.trees).toEqual([{ root, have: [], content: 8 << 20 }]);
      const other = chainOf();
      other.join(peer);
      await other.bringTree(root, { signal: never, content: 8 << 20 });
      expect(peer.distrusted).toEqual([]);
    });

    it('brings no content that is not in it, and none twice', async () => {
      const elsewhere = block(pseudoRandom(1000, 99));
      await seed.put(elsewhere);
      await seed.flush();
      const links = chunks.map(({ link }) => link);
      for (const content of [[elsewhere.link], [links[0], links[0]]]) {
        store = await temporaryStore();
        const chain = chainOf();
        const liar = testProvider(seed, { content });
        chain.join(liar);
        await chain.bringTree(root, { signal: never, content: 1 << 20 }).catch(() => undefined);
        expect(liar.distrusted).toEqual(['it has sent a node that is not in the tree']);
        expect(await store.has(elsewhere.link)).toBe(false);
      }
    });

    it('is there before content that takes long, which comes all the same', async () => {
      const chain = chainOf();
      const links = [...new Set(chunks.map(({ link }) => link))];
      const peer = testProvider(seed, { content: links, rate: 6 << 20 });
      chain.join(peer);
      await chain.bringTree(root, { signal: never, content: 8 << 20, readable: true });
      await expectHere(nodes);
      expect(store.holds(linkDigest(links[links.length - 1]))).toBe(false);
      await vi.waitFor(() => expect(links.every((link) => store.holds(linkDigest(link)))).toBe(true), 5000);
      expect(peer.trees).toHaveLength(1);
    });

    it('brings no more content than was asked for', async () => {
      const chain = chainOf();
      const liar = testProvider(seed, { content: chunks.map(({ link }) => link) });
      chain.join(liar);
      await chain.bringTree(root, { signal: never, content: 1 });
      await vi.waitFor(() => expect(liar.distrusted).toEqual(['it has sent more than was asked for']));
    });

    it('keeps content that has come, once', async () => {
      const chain = chainOf();
      const links = [...new Set(chunks.map(({ link }) => link))];
      const peer = testProvider(seed, { content: links });
      chain.join(peer);
      await store.put({ link: links[0], bytes: await seed.get(links[0]) });
      await store.flush();
      await chain.bringTree(root, { signal: never, content: 8 << 20 });
      await expectHere([...nodes, ...links]);
      expect(peer.asked).toEqual([]);
      await store.flush();
      const bytesOf = (of: readonly Link[]) =>
        of.reduce((sum, link) => sum + 52 + (store.locate(link)?.stored ?? 0), 0);
      const segments = join(store.directory, 'segments');
      const files = fs.readdirSync(segments).map((name) => fs.statSync(join(segments, name)).size);
      // A segment begins with 16 bytes.
      expect(files.map((size) => size - 16).reduce((sum, size) => sum + size)).toBe(
        bytesOf([...nodes, ...links]),
      );
    });

    it('that nobody has is missing', async () => {
      const chain = chainOf();
      chain.join(testProvider(seed, { lacks: () => true }));
      expect(await errorOf(chain.bringTree(root, { signal: never }))).toBeInstanceOf(BlockMissingError);
    });
  });

  describe('bulk', () => {
    it('brings all, and nothing twice', async () => {
      const chain = chainOf();
      const peers = [testProvider(seed), testProvider(seed)];
      for (const peer of peers) chain.join(peer);
      const { brought } = await chain.bring([chunks], { signal: never });
      expect(brought).toBe(new Set(chunks.map(({ link }) => link)).size);
      await expectHere(chunks.map(({ link }) => link));
      const asked = peers.flatMap((peer) => peer.asked.flatMap(({ links }) => links));
      expect(new Set(asked).size).toBe(asked.length);
      expect((await chain.bring([chunks], { signal: never })).brought).toBe(0);
    });

    it('brings nothing twice for two who want it at the same time', async () => {
      const chain = chainOf();
      const peer = testProvider(seed, { rate: 20e6 });
      chain.join(peer);
      const signal = never;
      await Promise.all([chain.bring([chunks], { signal }), chain.bring([chunks.toReversed()], { signal })]);
      await expectHere(chunks.map(({ link }) => link));
      const asked = peer.asked.flatMap(({ links }) => links);
      // What both begin with at the same moment is the exception.
      expect(asked.length).toBeLessThan(1.1 * new Set(asked).size);
    });

    it('goes on with others when one fails, lies, or does not answer', async () => {
      const chain = chainOf({ timing: { stall: 100 } });
      chain.join(testProvider(seed, { failsAfter: 1, parcelBytes: 32 << 10 }));
      chain.join(testProvider(seed, { blackHole: true }));
      chain.join(testProvider(seed, { lacks: (link) => link.charCodeAt(5) % 2 === 0 }));
      chain.join(testProvider(seed, { distort: ({ missing }) => ({ records: Buffer.alloc(100), missing }) }));
      chain.join(testProvider(seed, { delay: 5 }));
      await chain.bring([chunks], { signal: never });
      await expectHere(chunks.map(({ link }) => link));
    });

    it('takes work away from who is slow', async () => {
      const chain = chainOf();
      const slow = testProvider(seed, { rate: 20_000, parcelBytes: 4 << 10 });
      const fast = testProvider(seed, { rate: 20e6 });
      chain.join(slow);
      chain.join(fast);
      await chain.bring([chunks], { signal: never });
      await expectHere(chunks.map(({ link }) => link));
      expect(slow.sent).toBeLessThan(fast.sent / 5);
      await vi.waitFor(() => expect(slow.active).toBe(0));
    });

    it('says what is missing after it has brought the rest', async () => {
      const chain = chainOf();
      chain.join(testProvider(seed));
      const nowhere = { link: block('nowhere').link, size: 7 };
      const failed = await errorOf(chain.bring([[nowhere, ...chunks]], { signal: never }));
      expect(failed).toBeInstanceOf(BlockMissingError);
      await expectHere(chunks.map(({ link }) => link));
      chain.join(testProvider(seed, { failsAfter: 0 }));
      expect(await errorOf(chain.bring([[nowhere]], { signal: never }))).toMatchObject({ code: 'NETWORK' });
    });

    it('ends when it is told to', async () => {
      const chain = chainOf();
      const hole = testProvider(seed, { blackHole: true });
      chain.join(hole);
      const controller = new AbortController();
      const ended = errorOf(chain.bring([chunks], { signal: controller.signal }));
      await vi.waitFor(() => expect(hole.active).toBeGreaterThan(0));
      controller.abort();
      expect((await ended).name).toBe('AbortError');
      await vi.waitFor(() => expect(hole.active).toBe(0));
    });
  });

  describe('when nothing can be written', () => {
    function fullChain() {
      const told: number[] = [];
      const full = {
        ...store,
        append: () => Promise.reject(new LazytreeError('NO_SPACE', 'the disk is full')),
      };
      return { told, chain: createFetchChain(full, { onNotKept: (_, blocks) => told.push(blocks) }) };
    }

    it('a tree can be read through, and little is asked for twice', async () => {
      const { told, chain } = fullChain();
      const peer = testProvider(seed);
      chain.join(peer);
      await chain.bringTree(root, { signal: never });
      expect(chain.isComplete(root)).toBe(false);
      for await (const { entry } of walkTree(chain, root)) {
        if (!isFile(entry)) continue;
        for await (const { link } of fileChunks(chain, entry)) {
          expect(Buffer.compare(await chain.get(link), await seed.get(link))).toBe(0);
        }
      }
      const before = peer.asked.length;
      for await (const { entry } of walkTree(chain, root)) if (isFile(entry)) await chain.get(entry.link);
      expect(peer.asked.length).toBe(before);
      // Not once for each block.
      expect(told.length).toBeLessThanOrEqual(2);
    });

    it('bulk ends', async () => {
      const { chain } = fullChain();
      chain.join(testProvider(seed));
      expect(await errorOf(chain.bring([chunks], { signal: never }))).toMatchObject({ code: 'NO_SPACE' });
    });
  });

  it('leave nobody waiting for what had come and could not be written', async () => {
    const blocks = Array.from({ length: 12 }, (_, i) => block(pseudoRandom(1 << 20, 500 + i)));
    for (const one of blocks) await seed.put(one);
    await seed.flush();
    const gates = blocks.map(() => Promise.withResolvers<never>());
    for (const { promise } of gates) promise.catch(() => undefined);
    let appends = 0;
    const chain = createFetchChain({ ...store, append: () => gates[appends++].promise });
    chain.join(testProvider(seed, { parcelBytes: 1 << 20 }));
    const full = new LazytreeError('NO_SPACE', 'the disk is full');
    const lists = [blocks.map(({ link, bytes }) => ({ link, size: bytes.length }))];
    const brought = errorOf(chain.bring(lists, { signal: never, eager: true }));
    await vi.waitFor(() => expect(blocks.filter(({ link }) => chain.isComing(link))).toHaveLength(12));
    await new Promise((resolve) => setTimeout(resolve, 200));
    gates[0].reject(full);
    expect(await brought).toBe(full);
    const waits = blocks.flatMap(({ link }) => chain.awaited(link, never) ?? []);
    expect(waits.length).toBeGreaterThan(0);
    for (const { reject } of gates) reject(full);
    expect(await Promise.all(waits)).toEqual(waits.map(() => false));
  });

  it('get nothing to do that nobody waits for as long as somebody waits for something', async () => {
    const chain = chainOf();
    const peer = testProvider(seed);
    chain.join(peer);
    const waiting = Promise.withResolvers<void>();
    void chain.demand.during(() => waiting.promise);
    const bringing = chain.bring([chunks], { signal: never, idle: chain.demand.idle });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(peer.asked).toEqual([]);
    waiting.resolve();
    await bringing;
    expect(peer.asked.length).toBeGreaterThan(0);
  });

  it('repair what is damaged here, in a tree as well', async () => {
    const repaired: string[] = [];
    const chain = chainOf({ onRepaired: (_, by) => repaired.push(by) });
    const peer = testProvider(seed);
    chain.join(peer);
    await chain.bringTree(root, { signal: never });
    await store.flush();
    const { segment, offset } = store.locate(nodes[1]) as { segment: number; offset: number };
    const fd = fs.openSync(store.segments.path(segment), 'r+');
    fs.writeSync(fd, Buffer.of(255, 255), 0, 2, offset + 60);
    fs.closeSync(fd);
    // Another chain does not know yet that all is here.
    const other = chainOf({ onRepaired: (_, by) => repaired.push(by) });
    other.join(peer);
    await other.bringTree(root, { signal: never });
    await expectHere(nodes);
  });

  it('are told of by name', () => {
    const chain = chainOf();
    const leave = chain.join(testProvider(seed, { id: 'somebody' }));
    expect(chain.providers()).toEqual(['peer somebody']);
    expect(chain.status()).toMatchObject([{ id: 'somebody', requests: 0, bytes: 0 }]);
    leave();
    expect(chain.providers()).toEqual([]);
  });
});
