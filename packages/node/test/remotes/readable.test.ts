import { linkCodec, RAW } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { directory, errorOf, file } from '../../../core/test/helpers.ts';
import { allLinks, never, newMachine, newPlace } from './machine.ts';

const SPEC = directory(
  Object.fromEntries(
    Array.from({ length: 200 }, (_, i) => [
      `d${i}`,
      directory({ below: directory({ x: file(`content ${i}`) }) }),
    ]),
  ),
);

async function setUp() {
  const place = await newPlace();
  const writer = await newMachine(place);
  const root = await writer.plant(SPEC);
  await writer.push(root, 'main');
  const nodes = [...(await allLinks(writer.store, root))].filter((link) => linkCodec(link) !== RAW);
  return { place, root, nodes };
}

describe('the nodes of a tree', () => {
  it('can all be read, with no more asked, before they are in the store; and then they are there', async () => {
    const { place, root, nodes } = await setUp();
    const { chain, store, storage } = await newMachine(place);
    await chain.bringTree(root, { signal: never, readable: true });
    const { requests } = storage.traffic();
    const there = await Promise.all(nodes.map((node) => store.has(node)));
    expect(there).toContain(false);
    for (const node of nodes) await chain.get(node);
    // Whoever needs no more than that is not made to wait, and whoever needs more waits.
    await chain.bringTree(root, { signal: never, readable: true });
    expect(chain.isComplete(root)).toBe(false);
    await chain.bringTree(root, { signal: never });
    expect(chain.isComplete(root)).toBe(true);
    expect(storage.traffic().requests).toBe(requests);
    for (const node of nodes) await store.get(node);
  });

  it('can be read when the store takes nothing, and are not taken for being there', async () => {
    const { place, root, nodes } = await setUp();
    const { chain, store, storage } = await newMachine(place);
    store.append = async () => {
      throw new Error('no space');
    };
    await chain.bringTree(root, { signal: never, readable: true });
    await chain.bringTree(root, { signal: never });
    expect(chain.isComplete(root)).toBe(false);
    const { requests } = storage.traffic();
    for (const node of nodes) await chain.get(node);
    expect(storage.traffic().requests).toBe(requests);
  });

  it('that cannot be had are told of, also to whoever only wants to read', async () => {
    const { place, root } = await setUp();
    const { chain } = await newMachine(place, {
      wrap: (storage) => ({
        ...storage,
        async get(name, options) {
          const object = await storage.get(name, options);
          if (object && name.startsWith('packs/')) object.bytes.fill(0, object.bytes.length >> 1);
          return object;
        },
      }),
    });
    const error = await errorOf(chain.bringTree(root, { signal: never, readable: true }));
    expect(error.message).toMatch(/damaged/);
    expect(chain.isComplete(root)).toBe(false);
  });

  it('are in the store when the chain is closed, without the wait, and nothing is written after that', async () => {
    const { place, root, nodes } = await setUp();
    const { chain, store } = await newMachine(place);
    await chain.bringTree(root, { signal: never, readable: true });
    expect(await Promise.all(nodes.map((node) => store.has(node)))).toContain(false);
    await chain.close();
    for (const node of nodes) await store.get(node);
    await store.close();
    await new Promise((resolve) => setTimeout(resolve, 300));
  });
});
