import { join } from 'node:path';
import {
  addPin,
  type Block,
  BlockMissingError,
  type Entry,
  encodeDirectory,
  gc,
  type Link,
  type LocalStore,
  openLocalStore,
  removePin,
  verifyStore,
} from '@lazytree/core';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { block, collect, pseudoRandom, temporaryDirectory } from './helpers.js';

/** A pool of content blocks, some of which compress, and of directories that hold four of them each. */
const CONTENT: Block[] = Array.from({ length: 40 }, (_, i) =>
  block(i % 2 ? pseudoRandom(20 + i * 150, i) : Buffer.alloc(1 + i * 200, `text ${i} `)),
);
const DIRECTORIES = Array.from({ length: 10 }, (_, i) => {
  const members = CONTENT.slice(i * 4, i * 4 + 4);
  const entries = members.map(
    ({ link, bytes }, j): Entry => ({ kind: 'file', name: `f${j}`, link, size: bytes.length }),
  );
  return { node: encodeDirectory(entries).nodes[0], members };
});
const ALL: Block[] = [...CONTENT, ...DIRECTORIES.map(({ node }) => node)];

interface Model {
  blocks: Map<Link, Block>;
  pins: Set<Link>;
}

interface Real {
  home: string;
  store: LocalStore;
}

type Command = fc.AsyncCommand<Model, Real>;

const command = (text: string, run: (model: Model, real: Real) => Promise<void>): Command => ({
  check: () => true,
  run,
  toString: () => text,
});

async function expectSame({ blocks }: Model, { store }: Real): Promise<void> {
  for (const item of ALL) {
    expect(await store.has(item.link)).toBe(blocks.has(item.link));
    const got = await store.get(item.link).catch((error: unknown) => error);
    if (blocks.has(item.link)) expect(Buffer.compare(got as Uint8Array, item.bytes)).toBe(0);
    else expect(got).toBeInstanceOf(BlockMissingError);
  }
}

const put = (which: number[]) =>
  command(`put ${which}`, async ({ blocks }, { store }) => {
    await Promise.all(which.map((i) => store.put(ALL[i])));
    for (const i of which) blocks.set(ALL[i].link, ALL[i]);
  });
const remove = (which: number[]) =>
  command(`delete ${which}`, async ({ blocks }, { store }) => {
    await store.delete(which.map((i) => ALL[i].link));
    for (const i of which) blocks.delete(ALL[i].link);
  });
const look = command('look', expectSame);
const list = command('list', async ({ blocks }, { store }) => {
  expect((await collect(store.links())).sort()).toEqual([...blocks.keys()].sort());
});
const flush = command('flush', async (_, { store }) => store.flush());
const reopen = command('reopen', async (_, real) => {
  await real.store.close();
  real.store = await openLocalStore(real.home, { segmentBytes: 8000 });
});
const pin = (which: number) =>
  command(`pin ${which}`, async ({ blocks, pins }, { store }) => {
    const { node, members } = DIRECTORIES[which];
    for (const item of [...members, node]) {
      await store.put(item);
      blocks.set(item.link, item);
    }
    await addPin(store, node.link);
    pins.add(node.link);
  });
const unpin = (which: number) =>
  command(`unpin ${which}`, async ({ pins }, { store }) => {
    const { link } = DIRECTORIES[which].node;
    if (pins.delete(link)) await removePin(store, link);
  });
const collectGarbage = (deadRatio: number) =>
  command(`gc ${deadRatio}`, async ({ blocks, pins }, { store }) => {
    const before = blocks.size;
    const keep = new Set<Link>();
    for (const { node, members } of DIRECTORIES) {
      if (!pins.has(node.link)) continue;
      keep.add(node.link);
      // What is below a node that is not here cannot be known.
      if (blocks.has(node.link)) for (const { link } of members) keep.add(link);
    }
    for (const link of [...blocks.keys()]) if (!keep.has(link)) blocks.delete(link);
    const report = await gc(store, { deadRatio });
    expect(report).toMatchObject({ kept: blocks.size, removed: before - blocks.size });
  });
const verify = command('verify', async (_, { store }) => {
  const { bad, damage } = await verifyStore(store);
  expect(damage).toEqual([]);
  expect(bad.filter(({ problem }) => problem === 'corrupt')).toEqual([]);
});

const index = fc.nat(ALL.length - 1);
const commands = [
  fc.array(index, { minLength: 1, maxLength: 12 }).map(put),
  fc.array(index, { minLength: 1, maxLength: 12 }).map(put),
  fc.array(index, { minLength: 1, maxLength: 5 }).map(remove),
  fc.constant(look),
  fc.constant(list),
  fc.constant(flush),
  fc.constant(reopen),
  fc.nat(9).map(pin),
  fc.nat(9).map(unpin),
  fc.constantFrom(0.01, 0.1, 0.9).map(collectGarbage),
  fc.constant(verify),
];

it('a local store does what a map does, through flushes, collections and reopening', async () => {
  const base = await temporaryDirectory();
  let count = 0;
  await fc.assert(
    fc.asyncProperty(fc.commands(commands, { maxCommands: 40 }), async (sequence) => {
      const home = join(base, String(count++));
      const real: Real = { home, store: await openLocalStore(home, { segmentBytes: 8000 }) };
      const model: Model = { blocks: new Map(), pins: new Set() };
      try {
        await fc.asyncModelRun(() => ({ model, real }), sequence);
        await expectSame(model, real);
        await real.store.close();
        real.store = await openLocalStore(home, { segmentBytes: 8000 });
        await expectSame(model, real);
      } finally {
        await real.store.close();
      }
    }),
    { numRuns: 60 },
  );
});
