import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importTree, type Link, linkTo, openLocalStore, RAW } from '@lazytree/core';
import { afterAll, expect, test } from 'vitest';
import { extendAccessOrder, readAccessOrder } from '../dist/prefetch/access-order.js';
import { likelyOrder } from '../dist/prefetch/likely-order.js';

const home = fs.mkdtempSync(join(tmpdir(), 'lazytree-order-'));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));
const link = (text: string): Link => linkTo(RAW, Buffer.from(text));

test('an order can be read from the moment on in which it is known, and nothing that is added at once is lost', async () => {
  const root = link('root');
  expect(await readAccessOrder(home, root)).toEqual([]);
  const orders = Array.from({ length: 20 }, (_, i) => [link(`${i}`), link('common'), link(`${i + 1}`)]);
  const writes = orders.map((order) => extendAccessOrder(home, root, order));
  const read = await readAccessOrder(home, root);
  await Promise.all(writes);
  expect(read).toEqual([...new Set(orders.flat())]);
  expect(await readAccessOrder(home, root)).toEqual(read);
  expect(fs.readdirSync(join(home, 'access'))).toHaveLength(1);
});

test('what cannot be written is told to whoever adds it, and to nobody else', async () => {
  const broken = join(home, 'file');
  fs.writeFileSync(broken, '');
  const write = extendAccessOrder(broken, link('root'), [link('a')]);
  const failed = expect(write).rejects.toMatchObject({ code: 'ENOTDIR' });
  await expect(readAccessOrder(broken, link('root'))).rejects.toMatchObject({ code: 'ENOTDIR' });
  await failed;
});

test('a tree that was hardly read is likely to be read as one that it is a change of was', async () => {
  const own = join(home, 'likely');
  const tree = join(own, 'tree');
  const store = await openLocalStore(join(own, 'store'));
  async function version(files: Record<string, string>): Promise<Link> {
    for (const [path, content] of Object.entries(files)) {
      fs.mkdirSync(join(tree, path, '..'), { recursive: true });
      fs.writeFileSync(join(tree, path), content);
    }
    return (await importTree(store, tree)).root;
  }
  try {
    const first = await version(
      Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`modules/m${i}/file`, `content ${i}`])),
    );
    const second = await version({ 'modules/m7/file': 'changed' });
    fs.rmSync(tree, { recursive: true });
    const stranger = await version({ 'modules/m1/file': 'another', 'src/main.js': 'code' });
    expect(await likelyOrder(own, store, first)).toEqual([]);
    const order = ['content 5', 'content 2', 'content 7'].map(link);
    await extendAccessOrder(own, first, order);
    fs.writeFileSync(join(own, 'access/of-somebody-else'), 'x'.repeat(10_000));
    expect(await likelyOrder(own, store, first)).toEqual(order);
    expect(await likelyOrder(own, store, second)).toEqual(order);
    expect(await likelyOrder(own, store, stranger)).toEqual([]);
    await extendAccessOrder(own, second, [link('changed')]);
    expect(await likelyOrder(own, store, second)).toEqual([link('changed'), ...order]);
    await extendAccessOrder(own, second, ['content 1', 'content 3', 'content 2'].map(link));
    expect(await likelyOrder(own, store, second)).toEqual(
      ['changed', 'content 1', 'content 3', 'content 2'].map(link),
    );
    // Of a tree that is not here there is nothing to compare.
    await extendAccessOrder(own, link('gone'), [link('x')]);
    expect(await likelyOrder(own, store, stranger)).toEqual([]);
  } finally {
    await store.close();
  }
});
