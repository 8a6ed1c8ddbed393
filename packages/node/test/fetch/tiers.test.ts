import { join } from 'node:path';
import {
  BlockMissingError,
  fileChunks,
  importTree,
  isFile,
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
  errorOf,
  file,
  manyFiles,
  pseudoRandom,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from '../../../core/test/helpers.ts';
import { createFetchChain, type FetchChainOptions } from '../../dist/fetch/fetch-chain.js';
import type { Parcel } from '../../dist/fetch/provider.js';
import { type Behaviour, type TestProvider, testProvider } from './test-provider.ts';

const never = new AbortController().signal;
const BATCH = { bytes: 1 << 20, requests: 4 };
const HEADER = 52;

describe('tiers of providers', () => {
  let seed: LocalStore;
  let root: Link;
  let nodes: Set<Link>;
  /** In the order of the tree. */
  let chunks: { link: Link; size: number }[];
  let links: Link[];
  let store: LocalStore;

  beforeAll(async () => {
    seed = await temporaryStore();
    const at = join(await temporaryDirectory(), 'tree');
    const tree = manyFiles(400, { perDirectory: 20, size: 6000 });
    tree.entries.set('large', file(pseudoRandom(6 << 20, 11)));
    writeTree(at, tree);
    root = (await importTree(seed, at)).root;
    await seed.flush();
    nodes = new Set([root]);
    const sizes = new Map<Link, number>();
    for await (const { entry } of walkTree(seed, root)) {
      if (entry.kind === 'directory') nodes.add(entry.link);
      if (!isFile(entry)) continue;
      if (linkCodec(entry.link) !== RAW) nodes.add(entry.link);
      for await (const { link, size } of fileChunks(seed, entry)) sizes.set(link, size);
    }
    chunks = [...sizes].map(([link, size]) => ({ link, size }));
    links = chunks.map(({ link }) => link);
  });

  beforeEach(async () => {
    store = await temporaryStore();
  });

  const chainOf = (options: FetchChainOptions = {}) => createFetchChain(store, options);
  const remoteOf = (behaviour: Behaviour = {}) => testProvider(seed, { tier: 'remote', ...behaviour });
  const linksAskedOf = ({ asked }: TestProvider) => asked.flatMap((request) => request.links);
  const odd = (link: Link) => link.charCodeAt(5) % 2 === 1;

  async function expectHere(wanted: Iterable<Link>): Promise<void> {
    for (const link of wanted) {
      expect(Buffer.compare(await store.get(link), await seed.get(link))).toBe(0);
    }
  }

  function recordsOf(wanted: readonly Link[]): Buffer {
    return Buffer.concat(
      wanted.map((link) => {
        const location = seed.locate(link);
        if (!location) throw new Error('the seed lacks it');
        return seed.segments.read(location, HEADER + location.stored);
      }),
    );
  }

  describe('a demanded block', () => {
    it('is not asked of a remote when a peer has it, be the peer slower', async () => {
      const chain = chainOf();
      const remote = remoteOf({ holds: 'all' });
      const peer = testProvider(seed, { delay: 30 });
      const lacking = testProvider(seed, { lacks: () => true, holds: 'all' });
      for (const provider of [remote, peer, lacking]) chain.join(provider);
      for (const link of links.slice(0, 10)) await chain.get(link);
      expect(remote.asked).toEqual([]);
      expect(chain.status().map(({ tier }) => tier)).toEqual(['remote', 'peer', 'peer']);
    });

    it('is asked of peers, then of origins, then of remotes', async () => {
      const chain = chainOf();
      const asked: string[] = [];
      for (const tier of ['remote', 'origin', 'peer', 'peer'] as const) {
        const note = () => {
          asked.push(tier);
          return true;
        };
        chain.join(testProvider(seed, { tier, lacks: note }));
      }
      expect(await errorOf(chain.get(links[0]))).toBeInstanceOf(BlockMissingError);
      expect(asked).toEqual(['peer', 'peer', 'origin', 'remote']);
    });

    it('waits for a peer that is a black hole once, and no longer than for an answer that is late', async () => {
      const chain = chainOf({ timing: { hedge: 100, quarantine: 60_000 } });
      const hole = testProvider(seed, { blackHole: true, holds: 'all' });
      const remote = remoteOf();
      chain.join(hole);
      chain.join(remote);
      const began = performance.now();
      await chain.get(links[0]);
      const took = performance.now() - began;
      expect(took).toBeGreaterThan(90);
      expect(took).toBeLessThan(1000);
      for (const link of links.slice(1, 20)) await chain.get(link);
      expect(hole.asked.length).toBe(1);
      await vi.waitFor(() => expect(hole.active).toBe(0));
      expect(remote.asked.length).toBe(20);
    });

    it('goes to the next peer before the remote when one is late', async () => {
      const chain = chainOf({ timing: { hedge: 50 } });
      const remote = remoteOf();
      for (const provider of [
        testProvider(seed, { blackHole: true, holds: 'all' }),
        testProvider(seed),
        remote,
      ])
        chain.join(provider);
      for (const link of links.slice(0, 5)) await chain.get(link);
      expect(remote.asked).toEqual([]);
    });

    it('is asked of a peer in quarantine after the remote', async () => {
      const chain = chainOf({ timing: { quarantine: 60_000 } });
      const failing = testProvider(seed, { failsAfter: 0 });
      const remote = remoteOf({ lacks: (link) => link === links[2] });
      chain.join(failing);
      chain.join(remote);
      await chain.get(links[0]);
      expect(failing.asked.length).toBe(1);
      failing.behaviour = {};
      await chain.get(links[1]);
      expect(failing.asked.length).toBe(1);
      await chain.get(links[2]);
      expect(failing.asked.length).toBe(2);
      expect(linksAskedOf(remote)).toEqual(links.slice(0, 3));
      await expectHere(links.slice(0, 3));
    });

    it('that a remote cannot read is an error that names it, and not the end of it', async () => {
      const chain = chainOf({ timing: { quarantine: 60_000 } });
      const peer = testProvider(seed, { lacks: () => true });
      const remote = remoteOf({ failsAfter: 0 });
      chain.join(peer);
      chain.join(remote);
      const error = await errorOf(chain.get(links[0]));
      expect(error).toMatchObject({ code: 'NETWORK', hint: expect.stringContaining('remote validate') });
      expect(error.message).toContain(`remote ${remote.id}: it is on fire`);
      expect(error.message).toContain(`peer ${peer.id}: missing`);
      expect(remote.distrusted).toEqual([]);
      remote.behaviour = {};
      await chain.get(links[0]);
      await chain.get(links[1]);
      expect(chain.status().find(({ id }) => id === remote.id)?.quarantinedUntil).toBeUndefined();
    });

    it('does not go to a remote that may be well again while a peer has it', async () => {
      const chain = chainOf({ timing: { quarantine: 1 } });
      const remote = remoteOf({ failsAfter: 0 });
      chain.join(remote);
      expect(await errorOf(chain.get(links[0]))).toMatchObject({ code: 'NETWORK' });
      chain.join(testProvider(seed));
      await new Promise((resolve) => setTimeout(resolve, 20));
      const before = remote.asked.length;
      for (const link of links.slice(0, 5)) await chain.get(link);
      expect(remote.asked.length).toBe(before);
    });
  });

  describe('a tree', () => {
    it('is not asked of a remote when a peer has it', async () => {
      const chain = chainOf();
      const remote = remoteOf({ holds: 'all' });
      chain.join(remote);
      chain.join(testProvider(seed, { delay: 30 }));
      await chain.bringTree(root, { signal: never });
      await expectHere(nodes);
      expect([remote.trees, remote.asked]).toEqual([[], []]);
    });

    it.each<[string, Behaviour]>([
      ['lack it', { lacks: () => true }],
      ['fail', { failsAfter: 0 }],
      ['do not answer', { blackHole: true }],
    ])('is asked of the remote when peers %s', async (_, behaviour) => {
      const chain = chainOf({ timing: { hedge: 50 } });
      const remote = remoteOf();
      const peers = [1, 2].map(() => testProvider(seed, { ...behaviour, holds: 'all' }));
      for (const provider of [...peers, remote]) chain.join(provider);
      const began = performance.now();
      await chain.bringTree(root, { signal: never });
      expect(performance.now() - began).toBeLessThan(2000);
      await expectHere(nodes);
      for (const { trees } of peers) expect(trees.length).toBe(1);
      expect(remote.trees.length).toBe(1);
    });

    it('of which a peer has a part is completed by the remote', async () => {
      const chain = chainOf();
      const missing = [...nodes].slice(5);
      const peer = testProvider(seed, { lacks: (link) => missing.includes(link) });
      const remote = remoteOf();
      chain.join(peer);
      chain.join(remote);
      await chain.bringTree(root, { signal: never });
      await expectHere(nodes);
      expect(linksAskedOf(remote).every((link) => missing.includes(link))).toBe(true);
    });
  });

  describe('bulk', () => {
    it.each(['all', 'part', 'unknown'] as const)(
      'takes nothing from a remote that a slower peer has, which says of the root: %s',
      async (holds) => {
        const chain = chainOf();
        chain.setSelf('self');
        const peer = testProvider(seed, { rate: 20e6, delay: 5, holds });
        const remote = remoteOf({ batch: BATCH, holds: 'all' });
        chain.join(remote);
        chain.join(peer);
        await chain.bring([chunks], { signal: never, root });
        await expectHere(links);
        expect(remote.asked).toEqual([]);
      },
    );

    it('takes from a remote what every peer has said it lacks, and nothing else', async () => {
      const chain = chainOf();
      const has = (one: number) => (link: Link) => link.charCodeAt(5) % 4 !== one;
      const peers = [testProvider(seed, { lacks: has(0) }), testProvider(seed, { lacks: has(1), delay: 10 })];
      const remote = remoteOf({ batch: BATCH });
      for (const provider of [remote, ...peers]) chain.join(provider);
      await chain.bring([chunks], { signal: never, root });
      await expectHere(links);
      const asked = linksAskedOf(remote);
      expect(new Set(asked)).toEqual(new Set(links.filter((link) => link.charCodeAt(5) % 4 > 1)));
      expect(asked.length).toBe(new Set(asked).size);
    });

    it('does not crawl behind peers that lack everything', async () => {
      const chain = chainOf();
      const peers = [1, 2, 3].map(() => testProvider(seed, { lacks: () => true, delay: 20 }));
      const remote = remoteOf({ batch: BATCH });
      for (const provider of [remote, ...peers]) chain.join(provider);
      const began = performance.now();
      await chain.bring([chunks], { signal: never, root });
      expect(performance.now() - began).toBeLessThan(2000);
      await expectHere(links);
      expect(linksAskedOf(remote).toSorted()).toEqual(links.toSorted());
      // With 128 KiB in each request, a peer would be asked 65 times.
      for (const { asked } of peers) expect(asked.length).toBeLessThan(30);
      // In the order of the tree.
      for (const { links: wanted } of remote.asked) {
        const places = wanted.map((link) => links.indexOf(link));
        expect(places).toEqual(places.toSorted((a, b) => a - b));
      }
    });

    it('asks a remote alone for much at a time, in the order in which blocks were named', async () => {
      const chain = chainOf();
      const batch = { bytes: 1 << 20, requests: 2 };
      const remote = remoteOf({ batch, delay: 30, holds: 'all' });
      chain.setSelf('self');
      chain.join(remote);
      async function* lists() {
        for (let at = 0; at < chunks.length; at += 5) {
          yield chunks.slice(at, at + 5);
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      }
      await chain.bring(lists(), { signal: never, root });
      await expectHere(links);
      expect(linksAskedOf(remote)).toEqual(links);
      const bytes = chunks.reduce((sum, { size }) => sum + size, 0);
      // Whoever has nothing to do begins with what has been named by then.
      expect(remote.asked.length).toBeLessThanOrEqual(Math.ceil(bytes / batch.bytes) + 4);
      expect(remote.mostActive).toBe(batch.requests);
    });

    it('leaves a peer that is a black hole for the remote', async () => {
      const chain = chainOf({ timing: { stall: 100 } });
      const remote = remoteOf({ batch: BATCH });
      chain.join(testProvider(seed, { blackHole: true, holds: 'all' }));
      chain.join(remote);
      const began = performance.now();
      await chain.bring([chunks], { signal: never, root });
      expect(performance.now() - began).toBeLessThan(2000);
      await expectHere(links);
    });

    it('gives the rest to other peers, then to the remote, when a peer stalls', async () => {
      const chain = chainOf({ timing: { stall: 100, quarantine: 60_000 } });
      const stalling = testProvider(seed, { holds: 'all', hangsAfter: 2, parcelBytes: 16 << 10 });
      const other = testProvider(seed, { lacks: odd });
      const remote = remoteOf({ batch: BATCH });
      for (const provider of [stalling, other, remote]) chain.join(provider);
      const began = performance.now();
      await chain.bring([chunks], { signal: never, root });
      expect(performance.now() - began).toBeLessThan(3000);
      await expectHere(links);
      expect(linksAskedOf(remote).every(odd)).toBe(true);
      expect(linksAskedOf(remote).length).toBeLessThan(links.filter(odd).length);
    });

    it('goes on with the remote when the peer leaves in the middle', async () => {
      const chain = chainOf();
      const peer = testProvider(seed, { rate: 10e6, holds: 'all', parcelBytes: 32 << 10 });
      const remote = remoteOf({ batch: BATCH });
      chain.join(remote);
      const leave = chain.join(peer);
      const left = new Set<Link>();
      await chain.bring([chunks], {
        signal: never,
        root,
        onProgress({ brought }) {
          if (brought < links.length / 4 || left.size > 0) return;
          leave();
          peer.behaviour = { failsAfter: 0 };
          for (const link of links) if (!store.holds(linkDigest(link))) left.add(link);
        },
      });
      await expectHere(links);
      const asked = linksAskedOf(remote);
      expect(asked.length).toBeGreaterThan(0);
      expect(asked.every((link) => left.has(link))).toBe(true);
    });

    it('goes on with a peer that comes in the middle', async () => {
      const chain = chainOf();
      const peer = testProvider(seed);
      const remote = remoteOf({ batch: { bytes: 256 << 10, requests: 2 }, rate: 5e6, parcelBytes: 32 << 10 });
      chain.join(remote);
      let came = false;
      await chain.bring([chunks], {
        signal: never,
        root,
        onProgress({ brought }) {
          if (came || brought < 20) return;
          came = true;
          chain.join(peer);
        },
      });
      await expectHere(links);
      expect(linksAskedOf(remote).length).toBeLessThan(links.length / 2);
    });

    it('asks the remote first that says it has the root', async () => {
      const chain = chainOf();
      const [other, holder] = [remoteOf({ batch: BATCH }), remoteOf({ batch: BATCH, holds: 'all' })];
      chain.join(other);
      chain.join(holder);
      await chain.bring([chunks], { signal: never, root });
      await expectHere(links);
      expect(other.asked).toEqual([]);
    });

    it('names the remote that has failed, when all that can be had is here', async () => {
      const chain = chainOf({ timing: { stall: 100 } });
      const peer = testProvider(seed, { lacks: odd });
      const remote = remoteOf({ batch: BATCH, failsAfter: 0 });
      chain.join(peer);
      chain.join(remote);
      const error = await errorOf(chain.bring([chunks], { signal: never, root }));
      expect(error).toMatchObject({ code: 'NETWORK' });
      expect(error.message).toContain(`remote ${remote.id}: it is on fire`);
      expect(error.message).toContain(`peer ${peer.id}: missing`);
      await expectHere(links.filter((link) => !odd(link)));
      expect(remote.distrusted).toEqual([]);
    });

    it('says what is missing when the remote lacks it, too', async () => {
      const chain = chainOf();
      chain.join(testProvider(seed));
      chain.join(remoteOf({ batch: BATCH }));
      const nowhere = { link: block('nowhere').link, size: 7 };
      const error = await errorOf(chain.bring([[nowhere, ...chunks]], { signal: never, root }));
      expect(error).toBeInstanceOf(BlockMissingError);
      await expectHere(links);
    });
  });

  describe('what nobody asked for', () => {
    const withExtra = (extra: Buffer) => (parcel: Parcel) => ({ ...parcel, extra });

    it('is kept when a generous provider sends it', async () => {
      const chain = chainOf();
      const remote = remoteOf({ generous: true, distort: withExtra(recordsOf(links.slice(1, 9))) });
      chain.join(remote);
      await chain.get(links[0]);
      await vi.waitFor(() =>
        expect(links.slice(0, 9).every((link) => store.holds(linkDigest(link)))).toBe(true),
      );
      await expectHere(links.slice(0, 9));
      for (const link of links.slice(0, 9)) await chain.get(link);
      expect(remote.asked.length).toBe(1);
      expect(remote.distrusted).toEqual([]);
    });

    it('is kept when it comes with a tree', async () => {
      const chain = chainOf();
      const remote = remoteOf({ generous: true, distort: withExtra(recordsOf(links.slice(0, 5))) });
      chain.join(remote);
      await chain.bringTree(root, { signal: never });
      await expectHere([...nodes, ...links.slice(0, 5)]);
    });

    it('makes a liar of anybody else', async () => {
      const chain = chainOf();
      const liar = testProvider(seed, { distort: withExtra(recordsOf(links.slice(1, 3))) });
      chain.join(liar);
      const error = await errorOf(chain.get(links[0]));
      expect(error).toMatchObject({ code: 'NETWORK' });
      expect(error.message).toContain('nobody asked for');
      expect(liar.distrusted.length).toBe(1);
      for (const link of links.slice(0, 3)) expect(await store.has(link)).toBe(false);
    });

    it('is no excuse for a record that is not marked', async () => {
      const chain = chainOf();
      const liar = remoteOf({
        generous: true,
        distort: ({ records, missing }) => ({
          records: Buffer.concat([records, recordsOf([links[1]])]),
          missing,
        }),
      });
      chain.join(liar);
      expect(await errorOf(chain.get(links[0]))).toMatchObject({ code: 'NETWORK' });
      expect(liar.distrusted.length).toBe(1);
      expect(await store.has(links[1])).toBe(false);
    });

    it('is not kept when it is not true, and what was asked for is', async () => {
      const chain = chainOf();
      const extra = recordsOf(links.slice(1, 3));
      extra[extra.length - 1] ^= 1;
      const remote = remoteOf({ generous: true, distort: withExtra(extra) });
      chain.join(remote);
      await chain.get(links[0]);
      await vi.waitFor(() => expect(remote.distrusted.length).toBe(1));
      await expectHere([links[0]]);
      for (const link of links.slice(1, 3)) expect(await store.has(link)).toBe(false);
    });

    it('is not written again', async () => {
      const written: string[] = [];
      let bytes = 0;
      const counting: LocalStore = {
        ...store,
        append(all, records) {
          written.push(...records.map(({ digest }) => digest));
          bytes += (all instanceof Uint8Array ? [all] : all).reduce((sum, { length }) => sum + length, 0);
          return store.append(all, records);
        },
      };
      const chain = createFetchChain(counting);
      const extra = recordsOf([...links.slice(0, 8), ...links.slice(0, 8)]);
      chain.join(remoteOf({ generous: true, distort: withExtra(extra) }));
      await chain.get(links[0]);
      await vi.waitFor(() => expect(written.length).toBe(8));
      await chain.get(links[20]);
      await chain.get(links[21]);
      expect(new Set(written).size).toBe(written.length);
      expect(bytes).toBe(recordsOf([...links.slice(0, 8), links[20], links[21]]).length);
    });

    it('need not be asked for in bulk', async () => {
      const chain = chainOf();
      const remote = remoteOf({
        generous: true,
        batch: { bytes: 64 << 10, requests: 1 },
        distort: withExtra(recordsOf(links)),
      });
      chain.join(remote);
      const { brought } = await chain.bring([chunks], { signal: never, root });
      expect(brought).toBe(links.length);
      await expectHere(links);
      expect(linksAskedOf(remote).length).toBeLessThan(links.length / 2);
    });
  });
});
