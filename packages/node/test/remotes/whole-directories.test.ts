import { BlockMissingError, linkCodec, RAW } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { directory, errorOf, file } from '../../../core/test/helpers.ts';
import { type TreeSource, wholeDirectories } from '../../dist/remotes/push/whole-directories.js';
import { allLinks, never, newMachine, newPlace } from './machine.ts';

const SPEC = directory({ a: directory({ x: file('1') }), b: directory({ y: file('2') }), c: file('3') });

async function setUp(bring: (copy: () => Promise<void>) => Promise<void> = (copy) => copy()) {
  const [there, here] = [await newMachine(await newPlace()), await newMachine(await newPlace())];
  const root = await there.plant(SPEC);
  const links = [...(await allLinks(there.store, root))];
  const nodes = links.filter((link) => linkCodec(link) !== RAW);
  const asked = { trees: 0, blocks: 0 };
  const copy = async () => {
    for (const link of nodes) await here.store.put({ link, bytes: await there.store.get(link) });
    await here.store.flush();
  };
  const source: TreeSource = {
    ...here.store,
    async get(link, options) {
      if (!(await here.store.has(link))) asked.blocks++;
      return here.store.get(link, options);
    },
    async bringTree() {
      asked.trees++;
      await bring(copy);
    },
  };
  const whole = wholeDirectories(source, { store: here.store, root, signal: never });
  return { whole, asked, nodes, content: links.filter((link) => linkCodec(link) === RAW), copy };
}

describe('whoever reads all directories of a tree', () => {
  it('brings them together as soon as one is not here', async () => {
    const { whole, asked, nodes } = await setUp();
    for (const node of nodes) await whole.get(node);
    expect(asked).toEqual({ trees: 1, blocks: 0 });
  });

  it('asks for nothing when they are here', async () => {
    const { whole, asked, nodes, copy } = await setUp();
    await copy();
    for (const node of nodes) await whole.get(node);
    expect(asked).toEqual({ trees: 0, blocks: 0 });
  });

  it('asks for content by itself', async () => {
    const { whole, asked, content } = await setUp();
    expect(await errorOf(whole.get(content[0]))).toBeInstanceOf(BlockMissingError);
    expect(asked).toEqual({ trees: 0, blocks: 1 });
  });

  it('hears of each what is wrong with it when they cannot be brought', async () => {
    const { whole, asked, nodes } = await setUp(async () => {
      throw new Error('nobody answers');
    });
    for (const node of nodes) expect(await errorOf(whole.get(node))).toBeInstanceOf(BlockMissingError);
    expect(asked).toEqual({ trees: 1, blocks: nodes.length });
  });
});
