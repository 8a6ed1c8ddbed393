import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Link, linkTo, RAW } from '@lazytree/core';
import { afterAll, expect, test } from 'vitest';
import { extendAccessOrder, readAccessOrder } from '../dist/prefetch/access-order.js';

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
