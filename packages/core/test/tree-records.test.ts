import fs from 'node:fs';
import {
  createMemoryStore,
  createReceivedChecker,
  fileChunks,
  isFile,
  type Link,
  type LocalStore,
  linkDigest,
  makeLink,
  RAW,
  type ReceivedRecord,
  readRecords,
  splitReceived,
  treeRecords,
  walkTree,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  block,
  collect,
  directory,
  file,
  importSpec,
  manyFiles,
  pseudoRandom,
  temporaryStore,
  treeArbitrary,
} from './helpers.js';

/** The records, found true. */
function checked(bytes: Buffer): ReceivedRecord[] {
  const records = splitReceived(bytes);
  createReceivedChecker()(bytes, records);
  return records;
}

const text = (links: Iterable<Link>) => [...links].map(linkDigest).sort();

describe('records of blocks', () => {
  it('are as they are stored, whole and checked; what is not here is missing', async () => {
    const store = await temporaryStore();
    const blocks = [10, 200, 5000, 300_000, 1_000_000].map((size, i) => block(pseudoRandom(size, i)));
    for (const one of blocks) await store.put(one);
    await store.flush();
    // Not in a segment yet.
    const late = block('late');
    await store.put(late);
    const absent = makeLink(RAW, linkDigest(block('absent').link));
    const asked = [...blocks, late].map(({ link }) => link);
    const batches = await collect(readRecords(store, [absent, ...asked]));
    const found = batches.flatMap(({ records }) => checked(records));
    expect(text(found.map(({ link }) => link))).toEqual(text(asked));
    expect(batches.flatMap(({ missing }) => missing)).toEqual([absent]);
    for (const { records } of batches) expect(records.length).toBeLessThan((256 << 10) + 1_100_000);
    expect(batches.length).toBeGreaterThan(2);
  });

  it('that lie beside each other are given as they were read, without a copy', async () => {
    const store = await temporaryStore();
    const blocks = Array.from({ length: 40 }, (_, i) => block(pseudoRandom(60_000, i)));
    for (const one of blocks) await store.put(one);
    await store.flush();
    const read: Buffer[] = [];
    const segments = {
      ...store.segments,
      read: (...[place, length]: Parameters<typeof store.segments.read>) => {
        const bytes = store.segments.read(place, length);
        read.push(bytes);
        return bytes;
      },
    };
    const links = blocks.map(({ link }) => link);
    const batches = await collect(readRecords({ ...store, segments }, links));
    expect(batches.flatMap(({ records }) => checked(records))).toHaveLength(blocks.length);
    expect(batches).toHaveLength(read.length);
    for (const [i, { records }] of batches.entries()) expect(records.buffer).toBe(read[i].buffer);
  });

  it('that are damaged are not given', async () => {
    const store = await temporaryStore();
    const blocks = [1, 2, 3].map((seed) => block(pseudoRandom(1000, seed)));
    for (const one of blocks) await store.put(one);
    await store.flush();
    const { segment, offset } = store.locate(blocks[1].link) ?? { segment: 0, offset: 0 };
    const fd = fs.openSync(store.segments.path(segment), 'r+');
    fs.writeSync(fd, Buffer.of(255, 255), 0, 2, offset + 100);
    fs.closeSync(fd);
    const [{ records, missing, damaged }] = await collect(
      readRecords(
        store,
        blocks.map(({ link }) => link),
      ),
    );
    expect(checked(records).map(({ link }) => link)).toEqual([blocks[0].link, blocks[2].link]);
    expect([missing, damaged]).toEqual([[], [blocks[1].link]]);
  });
});

/** The nodes that a tree has, and those among them that come with its records. */
async function sent(store: LocalStore, root: Link, have: Link[], content?: number): Promise<Link[]> {
  const links: Link[] = [];
  for await (const { records, missing } of treeRecords(store, root, { have, content })) {
    expect(missing).toEqual([]);
    links.push(...checked(records).map(({ link }) => link));
  }
  return links;
}

async function contentOf(store: LocalStore, root: Link): Promise<Set<Link>> {
  const links = new Set<Link>();
  for await (const { entry } of walkTree(store, root))
    if (isFile(entry)) for await (const { link } of fileChunks(store, entry)) links.add(link);
  return links;
}

describe('records of a tree', () => {
  it('are its nodes, each once, parents first, and no content', async () => {
    const store = await temporaryStore();
    const tree = directory({
      ...Object.fromEntries(manyFiles(300).entries),
      large: file(pseudoRandom(3 << 20)),
    });
    const root = await importSpec(store, tree);
    await store.flush();
    const links = await sent(store, root, []);
    expect(links[0]).toBe(root);
    expect(new Set(links).size).toBe(links.length);
    expect(links.length).toBeGreaterThan(4);
    const other = createMemoryStore();
    for (const link of links) await other.put({ link, bytes: await store.get(link) });
    // With them alone every directory can be read.
    expect(await collect(walkTree(other, root))).toEqual(await collect(walkTree(store, root)));
  });

  it('leave out what the reader has, and nothing that it lacks', async () => {
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), treeArbitrary(), treeArbitrary(), async (a, b, common) => {
        const store = await temporaryStore();
        const first = await importSpec(store, directory({ a, common }));
        const second = await importSpec(store, directory({ b, common }));
        await store.flush();
        const had = new Set(await sent(store, first, []));
        const all = await sent(store, second, []);
        const rest = await sent(store, second, [first]);
        for (const link of all) expect(had.has(link) || rest.includes(link)).toBe(true);
        for (const link of rest) expect(all).toContain(link);
        expect(await sent(store, first, [first])).toEqual([]);
        await store.close();
      }),
      { numRuns: 25 },
    );
  });

  it('may have content after them, in all about as much as is asked for', async () => {
    const store = await temporaryStore();
    const same = pseudoRandom(5000, 1);
    const entries = {
      same: file(same),
      again: file(same),
      empty: file(''),
      large: file(pseudoRandom(3 << 20)),
    };
    const root = await importSpec(store, directory({ ...entries, below: directory(entries) }));
    await store.flush();
    const nodes = await sent(store, root, []);
    const content = await contentOf(store, root);
    expect(content.size).toBeGreaterThan(10);
    const all = await sent(store, root, [], 4 << 20);
    expect(all.slice(0, nodes.length)).toEqual(nodes);
    expect(all.slice(nodes.length).toSorted()).toEqual([...content].toSorted());
    const some = await sent(store, root, [], 1);
    expect(some.length).toBeGreaterThan(nodes.length);
    expect(some.length).toBeLessThan(all.length);
    // What is not here is for others to send.
    await store.delete([[...content][0]]);
    expect((await sent(store, root, [], 4 << 20)).length).toBe(all.length - 1);
  });

  it('of an edit are those of its path', async () => {
    const store = await temporaryStore();
    const entries = Object.fromEntries(manyFiles(2000).entries);
    const before = await importSpec(
      store,
      directory({ deep: directory({ down: directory(entries) }), entries: directory(entries) }),
    );
    const after = await importSpec(
      store,
      directory({
        deep: directory({ down: directory({ ...entries, new: file('x') }) }),
        entries: directory(entries),
      }),
    );
    await store.flush();
    expect((await sent(store, after, [before])).length).toBe(3);
    expect((await sent(store, after, [])).length).toBeGreaterThan(20);
  });
});
