import { createHash } from 'node:crypto';
import {
  BlockMissingError,
  type BlockSource,
  createPackWriter,
  DAG_CBOR,
  formatLink,
  type Link,
  type LocalStore,
  MAX_BLOCK_BYTES,
  MAX_FRAME_BLOCKS,
  MAX_FRAME_BYTES,
  PACK_BYTES,
  PACK_HEADER,
  PACKS_AHEAD,
  RAW,
  type WrittenPack,
} from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { block, errorOf, FAST, pseudoRandom, temporaryDirectory, temporaryStore } from '../helpers.js';
import { readFrames } from './make-frame.js';

const never = new AbortController().signal;

const nowhere: BlockSource = {
  describe: () => 'nowhere',
  has: async () => false,
  get: async (link) => {
    throw new BlockMissingError(formatLink(link), 'nowhere');
  },
  close: async () => undefined,
};

async function fastStore(): Promise<LocalStore> {
  return temporaryStore({ directory: `${await temporaryDirectory(FAST)}/home` });
}

/** Content, then nodes. Nothing looks into a node here. */
async function fill(store: LocalStore, { content = 0, size = 2000, nodes = 0 }): Promise<Link[]> {
  const links: Link[] = [];
  for (let i = 0; i < content; i++) {
    const one = block(pseudoRandom(size, i));
    await store.put(one);
    links.push(one.link);
  }
  for (let i = 0; i < nodes; i++) {
    const one = block(Buffer.concat([Buffer.from([0x58, 40]), pseudoRandom(40, i)]), DAG_CBOR);
    await store.put(one);
    links.push(one.link);
  }
  await store.flush();
  return links;
}

interface WriteOptions {
  source?: BlockSource;
  compression?: 'snappy' | 'zstd';
  onPack?: (pack: WrittenPack) => Promise<void>;
  signal?: AbortSignal;
}

async function write(
  store: LocalStore,
  links: readonly Link[],
  options: WriteOptions = {},
): Promise<WrittenPack[]> {
  const packs: WrittenPack[] = [];
  const writer = createPackWriter(store, {
    signal: never,
    source: nowhere,
    ...options,
    async onPack(pack) {
      packs.push(pack);
      await options.onPack?.(pack);
    },
  });
  try {
    for (const link of links) await writer.add(link);
    await writer.finish();
  } finally {
    await writer.close();
  }
  return packs;
}

/** Everything that a pack says of itself is true, and its blocks in their order. */
async function expectPacks(
  packs: readonly WrittenPack[],
  store: LocalStore,
  links: readonly Link[],
): Promise<void> {
  const found: Link[] = [];
  for (const { id, parts, size, frames } of packs) {
    const bytes = Buffer.concat(parts);
    expect(bytes.length).toBe(size);
    expect(createHash('sha256').update(bytes).digest().toString('latin1')).toBe(id);
    expect(bytes.subarray(0, PACK_HEADER.length).equals(PACK_HEADER)).toBe(true);
    const content = readFrames(bytes.subarray(PACK_HEADER.length));
    expect(content).toHaveLength(frames.length);
    let at = PACK_HEADER.length;
    for (const [i, { offset, length, codec, digests }] of frames.entries()) {
      expect(offset).toBe(at);
      at += length;
      expect(content[i].codec).toBe(codec);
      expect(content[i].blocks).toHaveLength(digests.length);
      expect(digests.length).toBeLessThanOrEqual(MAX_FRAME_BLOCKS);
      const raw = content[i].blocks.reduce((sum, one) => sum + one.length + 4, 0);
      expect(raw).toBeLessThanOrEqual(Math.min(MAX_FRAME_BYTES, MAX_BLOCK_BYTES + 4));
      for (const [j, one] of content[i].blocks.entries()) {
        expect(createHash('sha256').update(one).digest().toString('latin1')).toBe(digests[j]);
        found.push(block(one, codec).link);
      }
    }
    expect(at).toBe(size);
  }
  expect(found).toEqual(links);
  for (const link of links) expect(await store.has(link)).toBe(true);
}

describe('packs', () => {
  it.each(['zstd', 'snappy'] as const)(
    'of %s hold the blocks in their order, content and nodes apart',
    async (compression) => {
      const store = await fastStore();
      const links = await fill(store, { content: 1500, nodes: 300 });
      const packs = await write(store, links, { compression });
      await expectPacks(packs, store, links);
      for (const { codec, digests } of packs.flatMap(({ frames }) => frames)) {
        for (const digest of digests) expect(links).toContain(String.fromCharCode(codec) + digest);
      }
      expect(new Set(packs.flatMap(({ frames }) => frames.map(({ codec }) => codec)))).toEqual(
        new Set([RAW, DAG_CBOR]),
      );
    },
  );

  it('of nothing are none', async () => {
    expect(await write(await fastStore(), [])).toEqual([]);
  });

  it('hold an empty block and the largest one', async () => {
    const store = await fastStore();
    const some = [block(''), block(pseudoRandom(MAX_BLOCK_BYTES)), block('x')];
    for (const one of some) await store.put(one);
    await store.flush();
    const links = some.map(({ link }) => link);
    await expectPacks(await write(store, links), store, links);
  });

  it('hold no more blocks in a frame than it can say', async () => {
    const store = await fastStore();
    const { link } = block('');
    await store.put(block(''));
    await store.flush();
    const links = Array.from({ length: MAX_FRAME_BLOCKS + 10 }, () => link);
    const [{ frames }] = await write(store, links);
    expect(frames.map(({ digests }) => digests.length)).toEqual([MAX_FRAME_BLOCKS, 10]);
  });

  it('are several, each of about one size, and the same whenever and wherever they are made', async () => {
    const store = await fastStore();
    const links = await fill(store, { content: 180, size: 200_000, nodes: 50 });
    const packs = await write(store, links);
    await expectPacks(packs, store, links);
    expect(packs.length).toBeGreaterThan(2);
    for (const { size } of packs.slice(0, -1)) {
      expect(size).toBeGreaterThanOrEqual(PACK_BYTES);
      expect(size).toBeLessThan(PACK_BYTES + (2 << 20));
    }
    const ids = packs.map(({ id }) => id);
    // Another store, in which they came in another order, and whoever takes packs is slow at times.
    const other = await fastStore();
    for (const link of [...links].reverse()) await other.put({ link, bytes: await store.get(link) });
    await other.flush();
    for (const [from, delay] of [
      [store, 0],
      [other, 0],
      [other, 30],
    ] as const) {
      const again = await write(from, links, {
        onPack: () => new Promise((resolve) => setTimeout(resolve, Math.random() * delay)),
      });
      expect(again.map(({ id }) => id)).toEqual(ids);
    }
    // One frame at a time, in this thread and in the others alike.
    const [first] = await write(store, links.slice(0, 3));
    const [same] = await write(store, [...links.slice(0, 3)]);
    expect(first.id).toBe(same.id);
  });

  it('are taken by few at a time', async () => {
    const store = await fastStore();
    const links = await fill(store, { content: 180, size: 300_000 });
    let active = 0;
    let most = 0;
    await write(store, links, {
      async onPack() {
        most = Math.max(most, ++active);
        await new Promise((resolve) => setTimeout(resolve, 50));
        active--;
      },
    });
    expect(most).toBeLessThanOrEqual(PACKS_AHEAD);
  });

  it('hold blocks that only the source has, which are in the store then', async () => {
    const store = await fastStore();
    const other = await fastStore();
    const links = await fill(other, { content: 40, nodes: 5 });
    const asked: Link[] = [];
    const source: BlockSource = {
      ...nowhere,
      async get(link) {
        asked.push(link);
        const bytes = await other.get(link);
        await store.put({ link, bytes });
        return bytes;
      },
    };
    await expectPacks(await write(store, links, { source }), store, links);
    expect(asked).toEqual(links);
  });

  it('fail for a block that nobody has, or that is not kept', async () => {
    const store = await fastStore();
    const { link } = block('nobody has it');
    expect(await errorOf(write(store, [link]))).toMatchObject({ code: 'BLOCK_MISSING' });
    const careless = { ...nowhere, get: async () => Buffer.from('nobody has it') };
    const error = await errorOf(write(store, [link], { source: careless }));
    expect(error.message).toContain(formatLink(link));
  });

  it('end when they are told to', async () => {
    const store = await fastStore();
    const links = await fill(store, { content: 60, size: 500_000 });
    const stop = new AbortController();
    const packs: number[] = [];
    const failed = await errorOf(
      write(store, links, {
        signal: stop.signal,
        async onPack({ size }) {
          packs.push(size);
          stop.abort(new Error('enough'));
        },
      }),
    );
    expect(failed.message).toBe('enough');
    expect(packs.length).toBeLessThanOrEqual(PACKS_AHEAD);
  });

  it('fail when one is not taken, and make no more of them', async () => {
    const store = await fastStore();
    const links = await fill(store, { content: 250, size: 500_000 });
    let taken = 0;
    const failed = await errorOf(
      write(store, links, {
        async onPack() {
          taken++;
          throw new Error('no room there');
        },
      }),
    );
    expect(failed.message).toBe('no room there');
    expect(taken).toBeLessThanOrEqual(PACKS_AHEAD);
    // The last one, too, counts.
    expect(
      (await errorOf(write(store, links.slice(0, 2), { onPack: () => Promise.reject(new Error('no')) })))
        .message,
    ).toBe('no');
  });

  it('fail for a record that is damaged, and say which', async () => {
    const store = await fastStore();
    const links = await fill(store, { content: 3 });
    const location = store.locate(links[1]);
    const { writeSync, openSync, closeSync } = await import('node:fs');
    const { segmentPath } = await import('../../dist/store/segments.js');
    const handle = openSync(segmentPath(`${store.directory}/segments`, location?.segment as number), 'r+');
    writeSync(handle, 'damage', (location?.offset as number) + 60);
    closeSync(handle);
    const failed = await errorOf(write(store, links));
    expect(failed).toMatchObject({ code: 'CORRUPT' });
    expect(failed.message).toContain(formatLink(links[1]));
  });
});
