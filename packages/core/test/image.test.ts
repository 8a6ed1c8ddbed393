import fs from 'node:fs';
import { join } from 'node:path';
import {
  createMemoryStore,
  DAG_CBOR,
  type ImageCompression,
  LazytreeError,
  type Link,
  linkCodec,
  linkTo,
  listDirectory,
  loadImage,
  makeLink,
  openImage,
  RAW,
  saveImage,
  walkTree,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  block,
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
  symlink,
  temporaryDirectory,
  temporaryStore,
  treeArbitrary,
} from './helpers.js';

const KINDS: ImageCompression[] = ['snappy', 'zstd'];
const TRAILER = 40;

const sample = (): DirectorySpec =>
  directory({
    'a.txt': file('hello\n'),
    again: file('hello\n'),
    bin: directory({ run: file('#!/bin/sh\n', true), link: symlink('../a.txt'), none: directory() }),
    empty: file(''),
    'large.bin': file(pseudoRandom(700_000, 1)),
    'text.txt': file('all work and no play makes jack a dull boy\n'.repeat(9000)),
    'caf\udce9': file('not UTF-8'),
  });

async function newFile(): Promise<string> {
  return join(await temporaryDirectory(), 'tree.img');
}

describe('a saved image', () => {
  for (const compression of KINDS) {
    for (const kind of ['local', 'memory'] as const) {
      it(`brings a tree from a ${kind} store to an empty one with ${compression}`, async () => {
        const store = kind === 'local' ? await temporaryStore() : createMemoryStore();
        const root = await importSpec(store, sample());
        const path = await newFile();
        const saved = await saveImage(store, root, path, { compression });
        expect(saved.root).toBe(root);
        expect(saved.size).toBe(fs.statSync(path).size);

        for (const target of [createMemoryStore(), await temporaryStore()]) {
          const loaded = await loadImage(target, path);
          expect(loaded.roots).toEqual([root]);
          expect(loaded.blocks).toBe(saved.blocks);
          expect(loaded.added.blocks).toBe(saved.blocks);
          expect(await exportDescription(target, root)).toEqual(describeSpec(sample()));
          expect((await loadImage(target, path)).added.blocks).toBe(0);
        }
        expect(fs.readdirSync(join(path, '..'))).toEqual(['tree.img']);
      });
    }

    it(`takes a tree that is worth threads through ${compression}`, async () => {
      const store = await temporaryStore();
      const spec = manyFiles(1200, { size: 8000 });
      spec.entries.set('many', directory(Array.from({ length: 2100 }, (_, i) => [`f${i}`, file(`${i}`)])));
      const root = await importSpec(store, spec);
      const path = await newFile();
      const reports: number[] = [];
      const onProgress = ({ bytes }: { bytes: number }) => reports.push(bytes);
      const saved = await saveImage(store, root, path, { compression, threads: 2, onProgress });
      expect(reports.at(-1)).toBe(saved.bytes);
      expect(saved.bytes).toBeGreaterThan(8 << 20);
      for (const threads of [1, 3]) {
        const other = await newFile();
        await saveImage(store, root, other, { compression, threads });
        expect(fs.readFileSync(other).equals(fs.readFileSync(path)), `${threads} threads`).toBe(true);
      }
      const target = await temporaryStore();
      expect((await loadImage(target, path, { threads: 2, onProgress })).added.blocks).toBe(saved.blocks);
      expect(reports.at(-1)).toBe(saved.bytes);
      expect(await exportDescription(target, root)).toEqual(describeSpec(spec));

      const image = await openImage(path);
      expect((await collect(walkTree(image, root))).length).toBe(
        (await collect(walkTree(store, root))).length,
      );
      await image.close();

      damageAt(path, 200_000);
      const error = await errorOf(loadImage(await temporaryStore(), path, { threads: 2 }));
      expect(error).toMatchObject({ code: 'CORRUPT' });
      expect(error.hint).toBeTruthy();
    });
  }

  it('is the same file for the same tree', async () => {
    const [one, two] = [await temporaryStore(), createMemoryStore()];
    const root = await importSpec(one, sample());
    expect(await importSpec(two, sample())).toBe(root);
    const [a, b] = [await newFile(), await newFile()];
    await saveImage(one, root, a);
    await saveImage(two, root, b);
    expect(fs.readFileSync(a).equals(fs.readFileSync(b))).toBe(true);
  });

  it('brings any tree back', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), fc.constantFrom(...KINDS), async (spec, compression) => {
        const store = createMemoryStore();
        const root = await importSpec(store, spec);
        const path = await newFile();
        await saveImage(store, root, path, { compression });
        const target = createMemoryStore();
        expect((await loadImage(target, path)).roots).toEqual([root]);
        expect(await exportDescription(target, root)).toEqual(describeSpec(spec));
        const image = await openImage(path);
        expect(await exportDescription(image, root)).toEqual(describeSpec(spec));
        await image.close();
      }),
      { numRuns: 25 },
    );
  });

  it('keeps one block for bytes that are both a node and content', async () => {
    const store = createMemoryStore();
    const inner = await importSpec(store, directory({ x: file('x') }));
    const node = await store.get(inner);
    const root = await importSpec(
      store,
      directory({ copy: file(node), original: directory({ x: file('x') }) }),
    );
    const path = await newFile();
    await saveImage(store, root, path);
    const target = createMemoryStore();
    await loadImage(target, path);
    expect(await exportDescription(target, root)).toEqual(await exportDescription(store, root));
    const links = await collect(target.links());
    expect(new Set(links.map((link) => link.slice(1))).size).toBe(links.length);
  });

  it('begins and ends as docs/image.md says', async () => {
    const store = createMemoryStore();
    const root = await importSpec(store, directory({ a: file('a') }));
    const path = await newFile();
    await saveImage(store, root, path);
    const bytes = fs.readFileSync(path);
    expect(bytes.subarray(0, 16).toString('latin1')).toBe(`LZTIMG1\n${'\0'.repeat(8)}`);
    const trailer = bytes.subarray(-TRAILER);
    expect(trailer.subarray(32).toString('latin1')).toBe('LZTIMGE\n');
    const [offset, stored, raw] = [
      Number(trailer.readBigUInt64LE(0)),
      trailer.readUInt32LE(8),
      trailer.readUInt32LE(12),
    ];
    expect(offset + stored + TRAILER).toBe(bytes.length);
    // One root, two frames (the node, the content), two blocks.
    expect(raw).toBe(16 + 33 + 2 * 16 + 2 * 45);
  });
});

describe('an open image', () => {
  it('lists a tree when all content is gone from it', async () => {
    const store = await temporaryStore();
    const root = await importSpec(store, sample());
    const path = await newFile();
    await saveImage(store, root, path);
    const image = await openImage(path);
    expect(image.roots).toEqual([root]);
    expect(image.size).toBe(fs.statSync(path).size);
    const names = (await collect(walkTree(image, root))).map((walked) => walked.path);
    const links = await collect(image.links());
    expect(links.length).toBe(image.blocks);
    for (const link of links) expect(linkTo(linkCodec(link), await image.get(link))).toBe(link);
    expect(await image.has(block('elsewhere').link)).toBe(false);
    expect(await errorOf(image.get(block('elsewhere').link))).toMatchObject({ code: 'BLOCK_MISSING' });
    await image.close();
    expect(await errorOf(image.get(root))).toMatchObject({ code: 'FAILED' });

    // The nodes of this tree are one small frame at the beginning.
    const bytes = fs.readFileSync(path);
    bytes.fill(0, 4096, Number(bytes.readBigUInt64LE(bytes.length - TRAILER)));
    fs.writeFileSync(path, bytes);
    const hollow = await openImage(path);
    expect((await collect(walkTree(hollow, root))).map((walked) => walked.path)).toEqual(names);
    const large = (await listDirectory(hollow, root)).find(({ name }) => name === 'a.txt') as { link: Link };
    expect(await errorOf(hollow.get(large.link))).toMatchObject({ code: 'CORRUPT' });
    await hollow.close();
  });
});

function damageAt(path: string, at: number, bits = 0x10): void {
  const bytes = fs.readFileSync(path);
  bytes[at] ^= bits;
  fs.writeFileSync(path, bytes);
}

/** Opens an image, reads all of it, and loads it. */
async function readEverything(path: string): Promise<void> {
  const image = await openImage(path);
  try {
    for await (const link of image.links()) await image.get(link);
  } finally {
    await image.close();
  }
  await loadImage(createMemoryStore(), path);
}

describe('a damaged image', () => {
  it('is refused at every length that it can be cut to', { timeout: 120_000 }, async () => {
    const store = createMemoryStore();
    const root = await importSpec(store, directory({ a: file('hello\n'), b: directory({ c: file('c') }) }));
    for (const compression of KINDS) {
      const path = await newFile();
      await saveImage(store, root, path, { compression });
      const whole = fs.readFileSync(path);
      for (let length = 0; length < whole.length; length++) {
        fs.writeFileSync(path, whole.subarray(0, length));
        for (const task of [openImage, (name: string) => loadImage(createMemoryStore(), name)]) {
          const error = await errorOf(task(path));
          expect(error, `${length} bytes`).toBeInstanceOf(LazytreeError);
          expect(error.code).toBe('CORRUPT');
          expect(error.message).toMatch(length === 0 ? /is not a lazytree image/ : /is cut short/);
          expect(error.hint).toBeTruthy();
        }
      }
      fs.writeFileSync(path, Buffer.concat([whole, Buffer.of(0)]));
      expect(await errorOf(openImage(path))).toMatchObject({ code: 'CORRUPT' });
    }
  });

  it('is found at every byte that is flipped', { timeout: 120_000 }, async () => {
    const store = createMemoryStore();
    const root = await importSpec(
      store,
      directory({ a: file('hello, hello, hello, hello\n'), b: file(pseudoRandom(99)) }),
    );
    for (const compression of KINDS) {
      const path = await newFile();
      await saveImage(store, root, path, { compression });
      const size = fs.statSync(path).size;
      for (let at = 0; at < size; at++) {
        const bits = 1 << (at % 8);
        damageAt(path, at, bits);
        const error = await errorOf(readEverything(path));
        expect(error, `byte ${at}`).toBeInstanceOf(LazytreeError);
        expect(['CORRUPT', 'UNSUPPORTED']).toContain(error.code);
        damageAt(path, at, bits);
      }
      await readEverything(path);
    }
  });

  it('has its index in order, also of digests that begin alike', async () => {
    const { digestOrder } = await import('../dist/image/format.js');
    const beginnings = ['', '\0\0\0\0\0\0', '\xff\xff\xff\xff\xff\xff\xff'];
    const digest = fc
      .tuple(fc.constantFrom(...beginnings), fc.uint8Array({ minLength: 32, maxLength: 32 }))
      .map(([beginning, bytes]) => (beginning + Buffer.from(bytes).toString('latin1')).slice(0, 32));
    fc.assert(
      fc.property(fc.uniqueArray(digest, { maxLength: 80 }), (digests) => {
        const order = digestOrder(digests.map((text) => makeLink(RAW, text)));
        expect([...order].map((i) => digests[i])).toEqual([...digests].sort());
      }),
    );
  });

  it('stays in bounds whatever its index says', { timeout: 120_000 }, async () => {
    const { decodeIndex, encodeIndex, digestOrder } = await import('../dist/image/format.js');
    const path = 'crafted.img';
    const { link } = block('x');
    const blocks = { links: [link, block('yy').link], frames: [0, 0], offsets: [0, 1], lengths: [1, 2] };
    const frame = { stored: 3, raw: 3, crc: 0, compression: 0 as const };
    const make = (change: Partial<typeof blocks>, frames = [frame], roots = [link]) =>
      encodeIndex(roots, frames, { ...blocks, ...change }, digestOrder(blocks.links));
    expect(decodeIndex(make({}), 19, path).blocks.count).toBe(2);
    const wrong = [
      make({ frames: [0, 1] }),
      make({ offsets: [0, 2] }),
      make({ offsets: [0xffffffff, 1] }),
      make({ lengths: [1, 3] }),
      make({ lengths: [0, 2] }),
      make({ links: [link, link] }),
      make({}, [frame, frame]),
      make({}, []),
      make({}, [{ ...frame, raw: 0xffffffff }]),
      make({}, [{ ...frame, compression: 9 as never }]),
      make({}, [frame], []),
    ];
    for (const index of wrong) {
      expect(await errorOf(async () => decodeIndex(index, 19, path))).toMatchObject({ code: 'CORRUPT' });
    }
    fc.assert(
      fc.property(fc.nat(make({}).length - 1), fc.integer({ min: 1, max: 255 }), (at, bits) => {
        const index = make({});
        index[at] ^= bits;
        try {
          decodeIndex(index, 19, path);
        } catch (error) {
          expect(error).toMatchObject({ code: 'CORRUPT' });
        }
      }),
      { numRuns: 500 },
    );
  });

  it('is refused when its tree is not whole or not a tree', async () => {
    const store = createMemoryStore();
    const root = await importSpec(store, sample());
    const [{ link }] = (await listDirectory(store, root)) as { link: Link }[];
    await store.delete([link]);
    const path = await newFile();
    expect(await errorOf(saveImage(store, root, path))).toMatchObject({ code: 'BLOCK_MISSING' });
    const plain = block('just content');
    await store.put(plain);
    expect(await errorOf(saveImage(store, plain.link, path))).toMatchObject({ code: 'USAGE' });
    expect(fs.existsSync(path)).toBe(false);
    expect(fs.readdirSync(join(path, '..'))).toEqual([]);

    // Nodes that a hostile writer makes: links to nothing, and something that is no directory.
    const { encodeHeader, encodeIndex, encodeTrailer, digestOrder } = await import('../dist/image/format.js');
    const { crc32 } = await import('node:zlib');
    for (const [bytes, code] of [
      [await store.get(root), 'CORRUPT'],
      [Buffer.from([0xa0]), 'INVALID_NODE'],
    ] as const) {
      const crc = crc32(bytes);
      const links = [linkTo(DAG_CBOR, bytes)];
      const frame = { stored: bytes.length, raw: bytes.length, crc, compression: 0 as const };
      const blocks = { links, frames: [0], offsets: [0], lengths: [bytes.length] };
      const index = encodeIndex(links, [frame], blocks, digestOrder(links));
      const end = {
        offset: 16 + bytes.length,
        stored: index.length,
        raw: index.length,
        crc: crc32(index),
        compression: 0 as const,
      };
      fs.writeFileSync(path, Buffer.concat([encodeHeader(), bytes, index, encodeTrailer(end)]));
      expect(await errorOf(loadImage(createMemoryStore(), path))).toMatchObject({ code });
    }
  });
});

describe('the links of a node', () => {
  it('are found in any order of bytes, or the node is refused', async () => {
    const { nodeLinks } = await import('../dist/image/node-links.js');
    const store = createMemoryStore();
    const root = await importSpec(store, sample());
    const entries = await listDirectory(store, root);
    const expected = entries.flatMap((entry) => ('link' in entry ? [entry.link] : []));
    const node = Buffer.from(await store.get(root));
    expect(nodeLinks(node)).toEqual(expected);
    const odd = fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      fc.tuple(fc.nat(node.length - 1), fc.nat(255)).map(([at, byte]) => node.with(at, byte)),
      fc.nat(node.length - 1).map((length) => node.subarray(0, length)),
    );
    fc.assert(
      fc.property(odd, (bytes) => {
        try {
          nodeLinks(bytes);
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_NODE' });
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('what is no image', () => {
  it('is refused with one clear line', async () => {
    const home = await temporaryDirectory();
    const path = join(home, 'x.img');
    for (const bytes of [Buffer.from('hello'), pseudoRandom(10_000), Buffer.alloc(500), Buffer.alloc(0)]) {
      fs.writeFileSync(path, bytes);
      const error = await errorOf(openImage(path));
      expect(error).toMatchObject({ code: 'CORRUPT' });
      expect(error.message).toBe(`'${path}' is not a lazytree image`);
    }
    fs.writeFileSync(path, 'LZTIMG2\nsome later version'.padEnd(200, '.'));
    expect(await errorOf(openImage(path))).toMatchObject({ code: 'UNSUPPORTED' });
    expect(await errorOf(openImage(home))).toMatchObject({ code: 'CORRUPT' });
    expect(await errorOf(openImage(join(home, 'none')))).toMatchObject({ code: 'NOT_FOUND' });
    expect(await errorOf(loadImage(createMemoryStore(), join(home, 'none')))).toMatchObject({
      code: 'NOT_FOUND',
    });
  });
});

describe('saving', () => {
  it('leaves the old file when it is interrupted or cannot write', async () => {
    const store = await temporaryStore();
    const root = await importSpec(store, sample());
    const path = await newFile();
    fs.writeFileSync(path, 'precious');
    const aborted = AbortSignal.abort();
    await expect(saveImage(store, root, path, { signal: aborted })).rejects.toThrow();
    expect(fs.readdirSync(join(path, '..'))).toEqual(['tree.img']);
    expect(fs.readFileSync(path, 'utf8')).toBe('precious');
    expect(await errorOf(saveImage(store, root, join(path, '..')))).toMatchObject({ code: 'USAGE' });
    expect(await errorOf(saveImage(store, root, join(path, '../no/where')))).toMatchObject({
      code: 'NOT_FOUND',
    });
    await saveImage(store, root, path);
    expect((await loadImage(createMemoryStore(), path)).roots).toEqual([root]);
  });

  it('stops in the middle when it is asked to', async () => {
    const store = await temporaryStore();
    const root = await importSpec(store, manyFiles(1200, { size: 8000 }));
    const path = await newFile();
    for (const task of [
      (signal: AbortSignal, onProgress: () => void) =>
        saveImage(store, root, path, { signal, onProgress, threads: 2 }),
      async (signal: AbortSignal, onProgress: () => void) => {
        await saveImage(store, root, path);
        return loadImage(await temporaryStore(), path, { signal, onProgress, threads: 2 });
      },
    ]) {
      const controller = new AbortController();
      await expect(task(controller.signal, () => controller.abort())).rejects.toThrow(/abort/);
    }
  });
});
