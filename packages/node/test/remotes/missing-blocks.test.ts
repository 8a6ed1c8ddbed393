import { DAG_CBOR, type Link, linkCodec, nodeLinks } from '@lazytree/core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { importSpec, temporaryStore, treeArbitrary } from '../../../core/test/helpers.ts';
import { allNodes, missingBlocks } from '../../dist/remotes/push/missing-blocks.js';
import { nodeRanges } from '../../dist/remotes/push/node-ranges.js';
import { allLinks, never } from './machine.ts';

type Store = Awaited<ReturnType<typeof temporaryStore>>;

async function closure(store: Store, from: readonly Link[]): Promise<Set<Link>> {
  const all = new Set<Link>();
  const stack = [...from];
  for (let link = stack.pop(); link !== undefined; link = stack.pop()) {
    if (all.has(link)) continue;
    all.add(link);
    if (linkCodec(link) === DAG_CBOR) stack.push(...nodeLinks(await store.get(link)));
  }
  return all;
}

describe('missing blocks', () => {
  let store: Store;
  beforeAll(async () => {
    store = await temporaryStore();
  });

  it('are all that are not there, once each, when with a node all below it is there', async () => {
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), fc.array(fc.nat(), { maxLength: 5 }), async (spec, picks) => {
        const root = await importSpec(store, spec);
        const all = [...(await closure(store, [root]))];
        const present = await closure(
          store,
          picks.map((pick) => all[pick % all.length]),
        );
        const there = new Set(present);
        let lookups = 0;
        const { content, nodes, some } = await missingBlocks(store, root, {
          signal: never,
          async findPresent(links) {
            lookups++;
            return new Set([...links].filter((link) => there.has(link)));
          },
        });
        const expected = all.filter((link) => !there.has(link));
        expect([...content, ...nodes].sort()).toEqual([...expected].sort());
        expect(nodes.every((link) => linkCodec(link) === DAG_CBOR)).toBe(true);
        expect(content.some((link) => linkCodec(link) === DAG_CBOR)).toBe(false);
        if (expected.length > 0) expect(nodes[0]).toBe(root);
        // Every node comes after one that has it.
        const reached = new Set([root]);
        for (const node of nodes) {
          expect(reached.has(node)).toBe(true);
          for (const link of nodeLinks(await store.get(node))) reached.add(link);
        }
        if (there.size === 0) expect(some).toBe(false);
        if (expected.length === 0) expect([some, lookups]).toEqual([true, 1]);
        expect(lookups).toBeLessThan(20);
      }),
      { numRuns: 200 },
    );
  });

  it('are looked for below nodes of which that is not sure, too', async () => {
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), fc.func(fc.boolean()), async (spec, isThere) => {
        const root = await importSpec(store, spec);
        const all = [...(await closure(store, [root]))];
        const there = new Set(all.filter((link) => isThere(link)));
        const { content, nodes } = await missingBlocks(store, root, {
          signal: never,
          unsure: new Set(all),
          findPresent: async (links) => new Set([...links].filter((link) => there.has(link))),
        });
        const expected = all.filter((link) => !there.has(link));
        expect([...content, ...nodes].sort()).toEqual([...expected].sort());
      }),
      { numRuns: 100 },
    );
  });

  it('end with the signal', async () => {
    const root = await importSpec(store, await fc.sample(treeArbitrary(), 1)[0]);
    const stop = AbortSignal.abort(new Error('enough'));
    await expect(
      missingBlocks(store, root, { signal: stop, findPresent: async () => new Set() }),
    ).rejects.toThrow('enough');
  });

  it('all nodes of a tree are found once', async () => {
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), async (spec) => {
        const root = await importSpec(store, spec);
        const nodes = [...(await allLinks(store, root)), ...(await closure(store, [root]))];
        const expected = new Set(nodes.filter((link) => linkCodec(link) === DAG_CBOR));
        expect(await allNodes(store, root, never)).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });
});

describe('node ranges', () => {
  const frames = fc
    .array(
      fc.record({
        pack: fc.constantFrom('a', 'b'),
        gap: fc.nat(200_000),
        length: fc.integer({ min: 1, max: 3 << 20 }),
      }),
      { maxLength: 30 },
    )
    .map((list) => {
      const ends = new Map<string, number>();
      return list.map(({ pack, gap, length }) => {
        const offset = (ends.get(pack) ?? 16) + gap;
        ends.set(pack, offset + length);
        return { pack, offset, length };
      });
    });

  it('hold every frame whole, and are no larger than a request', () => {
    fc.assert(
      fc.property(frames, (list) => {
        const ranges = nodeRanges([...list].reverse());
        for (const { pack, offset, length } of list) {
          const holding = ranges.filter(
            (range) =>
              range.pack === pack && range.offset <= offset && offset + length <= range.offset + range.length,
          );
          expect(holding).toHaveLength(1);
        }
        for (const { length } of ranges) expect(length).toBeLessThanOrEqual(8 << 20);
        const read = ranges.reduce((sum, { length }) => sum + length, 0);
        const wanted = list.reduce((sum, { length }) => sum + length, 0);
        expect(read - wanted).toBeLessThanOrEqual(list.length * (64 << 10));
      }),
    );
  });

  it('begin and end where frames do, and hold a frame that is told twice once', () => {
    const place = { pack: 'a', offset: 16, length: 100 };
    expect(nodeRanges([place, { ...place }])).toEqual([place]);
    expect(nodeRanges([])).toEqual([]);
  });
});
