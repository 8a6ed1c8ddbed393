import {
  createTreeWriter,
  type Entry,
  formatLink,
  gc,
  type Link,
  type LocalStore,
  type OriginEntry,
  resolvePath,
  type TreeWriter,
  walkTree,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  collect,
  type DirectorySpec,
  describeSpec,
  directory,
  errorOf,
  exportDescription,
  file,
  importSpec,
  manyFiles,
  pseudoRandom,
  shuffled,
  symlink,
  temporaryStore,
  treeArbitrary,
} from './helpers.js';

const { signal } = new AbortController();

async function* inPieces(content: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
}

async function writeSpec(writer: TreeWriter, spec: DirectorySpec, seed = 0): Promise<void> {
  const tasks: (() => unknown)[] = [];
  collectTasks(spec, '');
  await Promise.all(shuffled(tasks, seed).map((task) => task()));

  function collectTasks(node: DirectorySpec, prefix: string): void {
    for (const [name, child] of node.entries) {
      const path = prefix + name;
      if (child.kind === 'directory') {
        tasks.push(() => writer.directory(path));
        collectTasks(child, `${path}/`);
      } else if (child.kind === 'symlink') tasks.push(() => writer.symlink(path, child.target));
      else {
        const { content, executable } = child;
        const size = 1 + ((content.length + seed * 13_007) % 99_991);
        tasks.push(() => writer.file(path, seed % 2 ? content : inPieces(content, size), { executable }));
      }
    }
  }
}

async function written(store: LocalStore, spec: DirectorySpec, seed = 0): Promise<Link> {
  const writer = createTreeWriter(store, { signal });
  await writeSpec(writer, spec, seed);
  return (await writer.finish()).link;
}

const paths = async (store: LocalStore, root: Link) =>
  (await collect(walkTree(store, root))).map(({ path, entry }) => `${path} ${entry.kind}`);

describe('a tree writer', () => {
  it('makes the root that an import makes, in any order and in pieces of any size', async () => {
    const store = await temporaryStore();
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), fc.nat(9), async (spec, seed) => {
        expect(formatLink(await written(store, spec, seed))).toBe(formatLink(await importSpec(store, spec)));
      }),
      { numRuns: 40 },
    );
  });

  it('stores content that is read back, large files in bounded pieces', async () => {
    const store = await temporaryStore();
    const spec = directory({
      'big.bin': file(pseudoRandom(9_000_000)),
      'zeros.bin': file(Buffer.alloc(5_000_000)),
      empty: file(''),
      'run.sh': file('#!/bin/sh\n', true),
      link: symlink('../elsewhere'),
      hollow: directory(),
    });
    const root = await written(store, spec);
    expect(await exportDescription(store, root)).toEqual(describeSpec(spec));
  });

  it('takes the later entry; directories stay what they were', async () => {
    const store = await temporaryStore();
    const writer = createTreeWriter(store, { signal });
    await writer.file('a', Buffer.from('first'), { executable: false });
    await writer.file('a', Buffer.from('second'), { executable: true });
    await writer.file('d/x', Buffer.from('x'), { executable: false });
    writer.directory('d');
    writer.symlink('s', 'd');
    // Not through the link.
    await writer.file('s/y', Buffer.from('y'), { executable: false });
    expect(writer.get('a')).toMatchObject({ kind: 'executable', size: 6 });
    expect(writer.get('nowhere/at/all')).toBeUndefined();
    const { link } = await writer.finish();
    expect(await paths(store, link)).toEqual([
      'a executable',
      'd directory',
      'd/x file',
      's directory',
      's/y file',
    ]);
  });

  it('lays what comes below an entry that was put over that', async () => {
    const store = await temporaryStore();
    const other = await importSpec(store, directory({ in: directory({ a: file('a'), b: file('b') }) }));
    const put = (await resolvePath(store, other, '')) as Entry;
    const origin: OriginEntry = {
      kind: 'origin',
      name: '',
      of: 'directory',
      driver: 'npm',
      reference: 'x@1.0.0',
    };
    const writer = createTreeWriter(store, { signal });
    writer.put('tree', put);
    await writer.file('tree/in/b', Buffer.from('other'), { executable: false });
    await writer.file('tree/in/c', Buffer.from('c'), { executable: false });
    writer.put('x', origin);
    writer.put('x/node_modules/y', { ...origin, reference: 'y@2.0.0' });
    const { link } = await writer.finish();
    expect(await paths(store, link)).toEqual([
      'tree directory',
      'tree/in directory',
      'tree/in/a file',
      'tree/in/b file',
      'tree/in/c file',
      'x origin',
    ]);
    expect(await resolvePath(store, link, 'tree/in/b')).toMatchObject({ size: 5 });
    const { plus } = (await resolvePath(store, link, 'x')) as OriginEntry;
    expect(await resolvePath(store, plus as Link, 'node_modules/y')).toMatchObject({ reference: 'y@2.0.0' });
  });

  it.each([
    '..',
    'a/../b',
    '.',
    './a',
    '',
    '/etc',
    'a//b',
    'a/',
    'nul\0',
    'n'.repeat(256),
    `${'d/'.repeat(2048)}f`,
  ])('refuses the path %j', async (path) => {
    const writer = createTreeWriter(await temporaryStore(), { signal });
    const options = { executable: false };
    expect(await errorOf(writer.file(path, Buffer.from('x'), options))).toMatchObject({ code: 'CORRUPT' });
    expect(await errorOf(() => writer.directory(path))).toMatchObject({ code: 'CORRUPT' });
    expect(await errorOf(() => writer.symlink(path, 'x'))).toMatchObject({ code: 'CORRUPT' });
    expect(await errorOf(() => writer.symlink('x', path.includes('\0') ? path : ''))).toMatchObject({
      code: 'CORRUPT',
    });
    writer.abort();
  });

  it('keeps what it has written from a gc, until it is given up', async () => {
    const store = await temporaryStore();
    const kept = await importSpec(store, directory({ k: file(pseudoRandom(1000, 7)) }));
    const writer = createTreeWriter(store, { signal });
    writer.put('kept', await resolvePath(store, kept, ''));
    await writer.file('f', pseudoRandom(3_000_000), { executable: false });
    await gc(store);
    await writer.file('g', pseudoRandom(3_000_000, 1), { executable: false });
    await gc(store);
    const lease = store.lease([kept]);
    const { link } = await writer.finish();
    await gc(store);
    expect(await exportDescription(store, link)).toHaveLength(4);
    lease.release();
    await gc(store);
    expect(await store.has(link)).toBe(false);

    const other = createTreeWriter(store, { signal });
    await other.file('f', pseudoRandom(500_000, 2), { executable: false });
    other.abort();
    expect(await errorOf(other.finish())).toMatchObject({ code: 'FAILED' });
    expect((await gc(store)).kept).toBe(0);
  });

  it('takes what is known from before, if it is there and one block', async () => {
    const store = await temporaryStore();
    const first = createTreeWriter(store, { signal });
    const small = await first.file('small', pseudoRandom(1000), { executable: false });
    const large = await first.file('large', pseudoRandom(2_000_000, 1), { executable: false });
    const { link } = await first.finish();
    const second = createTreeWriter(store, { signal });
    expect(second.reuse('d/again', { ...small, kind: 'executable' })).toBe(true);
    expect(second.reuse('large', large)).toBe(false);
    await gc(store);
    expect(await store.has(link)).toBe(false);
    const lease = store.lease();
    const made = await second.finish();
    expect(await paths(store, made.link)).toEqual(['d directory', 'd/again executable']);
    expect(await exportDescription(store, made.link)).toHaveLength(2);
    lease.release();
    await gc(store);
    const third = createTreeWriter(store, { signal });
    expect(third.reuse('gone', small)).toBe(false);
    third.abort();
  });

  it('stores much content, by two writers at a time, and is given up in the middle of it', async () => {
    const store = await temporaryStore();
    const spec = manyFiles(1000, { size: 12_000 });
    const other = manyFiles(1000, { size: 12_000, seed: 1 });
    const writer = createTreeWriter(store, { signal });
    const [first, second] = await Promise.all([
      written(store, spec),
      written(store, other),
      writeSpec(writer, other),
    ]);
    writer.abort();
    expect(formatLink(first)).toBe(formatLink(await importSpec(store, spec)));
    expect(await exportDescription(store, second)).toEqual(describeSpec(other));
    expect(formatLink(await written(store, spec, 1))).toBe(formatLink(first));
  });

  it('stores what is there already only once', async () => {
    const store = await temporaryStore();
    const spec = directory({ a: file(pseudoRandom(2_000_000)), b: file(pseudoRandom(2_000_000)) });
    await written(store, spec);
    const before = store.segments.lengths();
    await written(store, spec, 1);
    expect(store.segments.lengths()).toEqual(before);
  });

  it('ends with the failure of the content, and with the signal', async () => {
    const store = await temporaryStore();
    const stop = new AbortController();
    const writer = createTreeWriter(store, { signal: stop.signal });
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('some');
      throw new Error('cut short');
    }
    const options = { executable: false };
    await expect(writer.file('a', broken(), options)).rejects.toThrow('cut short');
    expect(writer.get('a')).toBeUndefined();
    stop.abort(new Error('enough'));
    await expect(writer.file('b', Buffer.from('b'), options)).rejects.toThrow('enough');
    await expect(writer.finish()).rejects.toThrow('enough');
    writer.abort();
  });
});
