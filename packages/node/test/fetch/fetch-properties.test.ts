import { join } from 'node:path';
import { BlockMissingError, importTree, type Link, type LocalStore, linkCodec, RAW } from '@lazytree/core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  file,
  manyFiles,
  pseudoRandom,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from '../../../core/test/helpers.ts';
import { BlockUnavailableError } from '../../dist/fetch/block-unavailable.js';
import { createFetchChain } from '../../dist/fetch/fetch-chain.js';
import type { Parcel } from '../../dist/fetch/provider.js';
import { type Behaviour, testProvider } from './test-provider.ts';

/** What becomes of records on their way, at a place that is given. */
const LIES: Record<string, (parcel: Parcel, at: number) => Parcel> = {
  flip({ records, missing }, at) {
    const bad = Buffer.from(records);
    if (bad.length > 0) bad[at % bad.length] ^= 1 << (at % 8);
    return { records: bad, missing };
  },
  cut: ({ records, missing }, at) => ({ records: records.subarray(0, at % (records.length + 1)), missing }),
  noise: ({ records, missing }, at) => ({ records: pseudoRandom(records.length, at), missing }),
  twice: ({ records, missing }) => ({ records: Buffer.concat([records, records]), missing }),
  nothing: () => ({ records: Buffer.alloc(0), missing: [] }),
};

interface Kind extends Omit<Behaviour, 'lacks' | 'distort' | 'stopsAfter' | 'hangsAfter' | 'batch'> {
  stopsAfter: number | undefined;
  hangsAfter: number | undefined;
  batch: Behaviour['batch'] | undefined;
  /** Of 4, how many parts of the blocks it lacks. */
  lacking: number;
  lie: string | undefined;
  place: number;
}

const kind: fc.Arbitrary<Kind> = fc.record({
  tier: fc.constantFrom('peer' as const, 'peer' as const, 'origin' as const, 'remote' as const),
  batch: fc.constantFrom(undefined, { bytes: 64 << 10, requests: 2 }),
  hangsAfter: fc.constantFrom(undefined, undefined, undefined, undefined, 1),
  delay: fc.constantFrom(0, 0, 1, 5),
  rate: fc.constantFrom(1e6, 50e6, 50e6),
  blackHole: fc.constantFrom(false, false, false, false, true),
  deaf: fc.boolean(),
  failsAfter: fc.constantFrom(-1, -1, -1, 0, 1, 3),
  stopsAfter: fc.constantFrom(undefined, undefined, 0, 1, 4),
  holds: fc.constantFrom('all' as const, 'part' as const, 'unknown' as const),
  lacking: fc.constantFrom(0, 0, 0, 1, 3, 4),
  parcelBytes: fc.constantFrom(1, 4 << 10, 64 << 10),
  lie: fc.constantFrom(undefined, undefined, undefined, ...Object.keys(LIES)),
  place: fc.nat(100_000),
});

const lacksOf =
  ({ lacking }: Kind) =>
  (link: Link) =>
    link.charCodeAt(9) % 4 < lacking;
const isHonest = ({ blackHole, failsAfter = -1, hangsAfter, lie }: Kind) =>
  !blackHole && failsAfter < 0 && hangsAfter === undefined && !lie;

function behaviourOf(its: Kind): Behaviour {
  const lie = its.lie === undefined ? undefined : LIES[its.lie];
  const { lacking, lie: _, place, stopsAfter, hangsAfter, batch, ...rest } = its;
  return {
    ...rest,
    lacks: lacksOf(its),
    ...(stopsAfter !== undefined && { stopsAfter }),
    ...(hangsAfter !== undefined && { hangsAfter }),
    ...(batch && { batch }),
    ...(lie && { distort: (parcel: Parcel) => lie(parcel, its.place) }),
  };
}

describe('whatever providers do', () => {
  let seed: LocalStore;
  let root: Link;
  let links: Link[];
  const contents = new Map<Link, Uint8Array>();

  beforeAll(async () => {
    seed = await temporaryStore();
    const at = join(await temporaryDirectory(), 'tree');
    const tree = manyFiles(60, { perDirectory: 6, size: 700 });
    tree.entries.set('large', file(Buffer.concat([pseudoRandom(300_000, 7), Buffer.alloc(200_000)])));
    writeTree(at, tree);
    root = (await importTree(seed, at)).root;
    await seed.flush();
    for await (const link of seed.links()) contents.set(link, await seed.get(link));
    links = [...contents.keys()];
  });

  /** Runs a task in a chain of such providers; then all that is in the store is right, and only liars are distrusted. */
  async function among(
    kinds: readonly Kind[],
    task: (chain: ReturnType<typeof createFetchChain>, store: LocalStore) => Promise<void>,
  ): Promise<void> {
    const store = await temporaryStore();
    const timing = { hedge: 20, stall: 100, patience: 1500, quarantinedPatience: 1500, quarantine: 30 };
    const chain = createFetchChain(store, { timing });
    chain.setSelf('this machine');
    const providers = kinds.map((its) => ({ its, provider: testProvider(seed, behaviourOf(its)) }));
    for (const { provider } of providers) chain.join(provider);
    await task(chain, store);
    for (const { its, provider } of providers) {
      if (its.lie === undefined) expect(provider.distrusted).toEqual([]);
    }
    for await (const link of store.links()) {
      expect(Buffer.compare(await store.get(link), contents.get(link) as Uint8Array)).toBe(0);
    }
    await chain.close();
    await store.close();
  }

  /** Whether somebody is sure to deliver a block. */
  const isSure = (kinds: readonly Kind[], link: Link) =>
    kinds.some((its) => isHonest(its) && !lacksOf(its)(link));
  /** Who has lied counts no more: it may have been found out by another block. */
  const isNowhere = (kinds: readonly Kind[], link: Link) =>
    kinds.every((its) => its.lie !== undefined || lacksOf(its)(link));

  function expectReason(error: unknown, kinds: readonly Kind[]): void {
    expect(error instanceof BlockMissingError || error instanceof BlockUnavailableError).toBe(true);
    if (kinds.every(isHonest)) expect(error).toBeInstanceOf(BlockMissingError);
  }

  it('blocks are right, or there is a reason', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(kind, { maxLength: 5 }), fc.nat(1000), async (kinds, from) => {
        await among(kinds, async (chain) => {
          const some = Array.from({ length: 12 }, (_, i) => links[(from + i * 7) % links.length]);
          const got = await Promise.allSettled(some.map((link) => chain.get(link)));
          for (const [i, result] of got.entries()) {
            const link = some[i];
            if (result.status === 'fulfilled') {
              expect(Buffer.compare(result.value, contents.get(link) as Uint8Array)).toBe(0);
              continue;
            }
            expect(isSure(kinds, link)).toBe(false);
            expectReason(result.reason, kinds);
            if (result.reason instanceof BlockMissingError) expect(isNowhere(kinds, link)).toBe(true);
          }
        });
      }),
      { numRuns: 30 },
    );
  });

  it('a tree is complete, or there is a reason', async () => {
    const nodes = links.filter((link) => linkCodec(link) !== RAW);
    await fc.assert(
      fc.asyncProperty(fc.array(kind, { maxLength: 4 }), async (kinds) => {
        await among(kinds, async (chain, store) => {
          const failure = await chain
            .bringTree(root, { signal: AbortSignal.timeout(60_000) })
            .then(() => undefined)
            .catch((error: unknown) => ({ error }));
          if (failure) {
            expect(nodes.every((link) => isSure(kinds, link))).toBe(false);
            expectReason(failure.error, kinds);
          } else {
            expect(chain.isComplete(root)).toBe(true);
            for (const link of nodes) expect(await store.has(link)).toBe(true);
          }
        });
      }),
      { numRuns: 30 },
    );
  });

  it('bulk brings all that can be had, or there is a reason', async () => {
    const wanted = links.map((link) => ({ link }));
    await fc.assert(
      fc.asyncProperty(fc.array(kind, { maxLength: 4 }), async (kinds) => {
        await among(kinds, async (chain, store) => {
          const failure = await chain
            .bring([wanted], { signal: AbortSignal.timeout(60_000), root })
            .then(() => undefined)
            .catch((error: unknown) => ({ error }));
          if (failure) expectReason(failure.error, kinds);
          for (const link of links) {
            if (isSure(kinds, link) || !failure) expect(await store.has(link)).toBe(true);
          }
          expect(chain.roots().coming).toEqual([]);
        });
      }),
      { numRuns: 15 },
    );
  });
});
