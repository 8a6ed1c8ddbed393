import { isFile, type Link, setRef, walkTree } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { directory, file, manyFiles } from '../../../core/test/helpers.ts';
import { readManifest } from '../../dist/remotes/root-manifest.js';
import { type Machine, never, newMachine, newPlace } from './machine.ts';

const SPEC = manyFiles(30, { perDirectory: 5, size: 500, seed: 3 });

async function filesOf({ store }: Machine, root: Link): Promise<Link[]> {
  const found: Link[] = [];
  for await (const { entry } of walkTree(store, root)) if (isFile(entry)) found.push(entry.link);
  return found;
}

async function orderAt({ storage }: Machine, root: Link): Promise<readonly Link[] | undefined> {
  return (await readManifest(storage, root, never))?.manifest.order;
}

describe('in which order a tree was read', () => {
  it('goes to a remote with it, and to whoever brings it from there', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const root = await writer.plant(SPEC);
    const files = await filesOf(writer, root);
    const order = [files[20], files[3], files[11]];
    await writer.orders.extend(root, order);
    await writer.push(root, 'main');
    const reader = await newMachine(place);
    await reader.chain.bringTree(root, { signal: never });
    expect(await reader.orders.read(root)).toEqual(order);
  });

  it('is pushed again when more is known, and not when less is', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const root = await writer.plant(SPEC);
    const files = await filesOf(writer, root);
    await writer.push(root, 'main');
    expect(await orderAt(writer, root)).toEqual([]);
    await writer.orders.extend(root, files.slice(0, 2));
    expect((await writer.push(root, 'main')).changed).toBe(false);
    expect(await orderAt(writer, root)).toEqual(files.slice(0, 2));
    const other = await newMachine(place, { like: writer });
    await other.push(root, 'main');
    expect(await orderAt(writer, root)).toEqual(files.slice(0, 2));
    await other.push(root);
    await writer.orders.extend(root, files.slice(5, 8));
    await writer.push(root, 'main');
    const found = await readManifest(writer.storage, root, never);
    expect(found?.manifest).toMatchObject({
      pinned: true,
      order: [...files.slice(0, 2), ...files.slice(5, 8)],
    });
  });

  it('is that of an earlier tree of the name, as far as its files are there', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const first = await writer.plant(directory([...SPEC.entries, ['gone', file('gone')]]));
    const second = await writer.plant(directory([...SPEC.entries, ['new', file('new')]]));
    const kept = (await filesOf(writer, second)).slice(4, 7);
    const gone = (await filesOf(writer, first)).filter((link) => !kept.includes(link)).at(0) as Link;
    const order = [gone, ...kept];
    await writer.orders.extend(first, order);
    for (const root of [first, second]) await setRef(writer.store, { name: 'main', root, source: 'a test' });
    await writer.push(second, 'main');
    const there = new Set(await filesOf(writer, second));
    expect(await orderAt(writer, second)).toEqual(order.filter((link) => there.has(link)));
  });
});
