import {
  addRecords,
  createRecordedTree,
  createTreeWriter,
  type TreeWriter,
  verifyStore,
} from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { exportDescription, pseudoRandom, temporaryStore } from './helpers.js';

const { signal } = new AbortController();
const FILES: [path: string, content: Buffer][] = [
  ['a', Buffer.from('a')],
  ['b/empty', Buffer.alloc(0)],
  ['b/c/large', pseudoRandom(6 << 20)],
  ['b/same', Buffer.from('a')],
];

async function write(tree: TreeWriter, files = FILES) {
  for (const [path, content] of files) await tree.file(path, content, { executable: path === 'a' });
  tree.symlink('b/link', '../a');
  return tree.finish();
}

describe('a tree made without a store', () => {
  it('is the tree that is made in one, and is all there when its records are', async () => {
    const [direct, store] = [await temporaryStore(), await temporaryStore()];
    const expected = await write(createTreeWriter(direct, { signal }));
    const recorded = createRecordedTree(signal);
    const made = await write(recorded);
    expect(made).toEqual(expected);
    expect(await store.has(made.link)).toBe(false);
    await addRecords(store, recorded.records());
    await store.flush();
    expect(await exportDescription(store, made.link)).toEqual(await exportDescription(direct, made.link));
    expect((await verifyStore(store)).blocks).toBe((await verifyStore(direct)).blocks);
  });

  it('adds nothing to a store but what that lacks', async () => {
    const store = await temporaryStore();
    const first = createRecordedTree(signal);
    await write(first);
    await addRecords(store, first.records());
    await store.flush();
    const bytes = () => [...store.segments.lengths()].reduce((sum, [, length]) => sum + length, 0);
    const before = bytes();
    const second = createRecordedTree(signal);
    const made = await write(second, [...FILES, ['new', Buffer.from('new')]]);
    await addRecords(store, second.records());
    await store.flush();
    expect(bytes() - before).toBeLessThan(1000);
    expect(await exportDescription(store, made.link)).toHaveLength(FILES.length + 4);
  });
});
