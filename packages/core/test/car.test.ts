import fs from 'node:fs';
import { join } from 'node:path';
import { CarReader, CarWriter } from '@ipld/car';
import * as dagCbor from '@ipld/dag-cbor';
import {
  createMemoryStore,
  DAG_CBOR,
  LazytreeError,
  linkToCid,
  loadCar,
  RAW,
  saveCar,
  walkTree,
} from '@lazytree/core';
import { CID } from 'multiformats/cid';
import { identity } from 'multiformats/hashes/identity';
import { sha256 } from 'multiformats/hashes/sha2';
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
  symlink,
  temporaryDirectory,
  temporaryStore,
} from './helpers.js';

const sample = (): DirectorySpec =>
  directory({
    'a.txt': file('hello\n'),
    again: file('hello\n'),
    bin: directory({ run: file('#!/bin/sh\n', true), link: symlink('../a.txt'), none: directory() }),
    empty: file(''),
    'large.bin': file(pseudoRandom(700_000, 1)),
    many: manyFiles(300, { perDirectory: 50 }),
  });

async function newFile(): Promise<string> {
  return join(await temporaryDirectory(), 'tree.car');
}

interface CarBlock {
  cid: CID;
  bytes: Uint8Array;
}

/** Writes a CAR with `@ipld/car` alone. */
async function writeCar(path: string, roots: CID[], blocks: CarBlock[]): Promise<void> {
  const { writer, out } = CarWriter.create(roots);
  const writing = collect(out);
  for (const item of blocks) await writer.put(item);
  await writer.close();
  fs.writeFileSync(path, Buffer.concat(await writing));
}

async function cborBlock(value: unknown): Promise<CarBlock> {
  const bytes = dagCbor.encode(value);
  return { cid: CID.createV1(DAG_CBOR, await sha256.digest(bytes)), bytes };
}

async function rawBlock(text: string): Promise<CarBlock> {
  const bytes = new TextEncoder().encode(text);
  return { cid: CID.createV1(RAW, await sha256.digest(bytes)), bytes };
}

describe('a saved CAR', () => {
  it('brings a tree from one store to another', async () => {
    for (const store of [await temporaryStore(), createMemoryStore()]) {
      const root = await importSpec(store, sample());
      const path = await newFile();
      const saved = await saveCar(store, root, path);
      expect(saved.size).toBe(fs.statSync(path).size);
      for (const target of [await temporaryStore(), createMemoryStore()]) {
        const loaded = await loadCar(target, path);
        expect(loaded.roots).toEqual([root]);
        expect(loaded.blocks).toBe(saved.blocks);
        expect(await exportDescription(target, root)).toEqual(describeSpec(sample()));
      }
    }
  });

  it('can be walked with @ipld/car and @ipld/dag-cbor alone', async () => {
    const store = await temporaryStore();
    const root = await importSpec(store, sample());
    const path = await newFile();
    const saved = await saveCar(store, root, path);
    const reader = await CarReader.fromBytes(fs.readFileSync(path));
    expect(reader.version).toBe(1);
    const roots = await reader.getRoots();
    expect(roots.map(String)).toEqual([linkToCid(root).toString()]);

    const met = new Set<string>();
    const names = new Set<string>();
    const walk = async (cid: CID): Promise<void> => {
      if (met.has(cid.toString())) return;
      met.add(cid.toString());
      const item = await reader.get(cid);
      expect(item, `${cid}`).toBeDefined();
      const { bytes } = item as CarBlock;
      expect(Buffer.from((await sha256.digest(bytes)).digest).equals(Buffer.from(cid.multihash.digest))).toBe(
        true,
      );
      if (cid.code === DAG_CBOR) await visit(dagCbor.decode(bytes));
    };
    const visit = async (value: unknown): Promise<void> => {
      const cid = CID.asCID(value);
      if (cid) return walk(cid);
      if (typeof value === 'string') names.add(value);
      if (value === null || typeof value !== 'object') return;
      for (const inner of Object.values(value)) await visit(inner);
    };
    await walk(roots[0]);
    expect(met.size).toBe(saved.blocks);
    for await (const { entry } of walkTree(store, root)) expect(names).toContain(entry.name);

    // Parents come before their children, each block once.
    const order = (await collect(reader.blocks())).map(({ cid }) => cid.toString());
    expect(order[0]).toBe(roots[0].toString());
    expect(new Set(order).size).toBe(order.length);
  });

  it('leaves nothing behind when it fails', async () => {
    const store = createMemoryStore();
    const root = await importSpec(store, sample());
    const path = await newFile();
    for await (const { entry } of walkTree(store, root)) {
      if (entry.name === 'run' && entry.kind === 'executable') await store.delete([entry.link]);
    }
    expect(await errorOf(saveCar(store, root, path))).toMatchObject({ code: 'BLOCK_MISSING' });
    expect(fs.readdirSync(join(path, '..'))).toEqual([]);
    await expect(saveCar(store, root, path, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
  });
});

describe('a CAR of another program', () => {
  it('is loaded when its root is a lazytree directory', async () => {
    const hello = await rawBlock('hello');
    const inner = await cborBlock({ dir: [['hello.txt', 0, hello.cid, 5]], size: 5, files: 1 });
    const root = await cborBlock({
      dir: [
        ['d', 3, inner.cid, 5, 1],
        ['run', 1, hello.cid, 5],
        ['to', 2, 'd/hello.txt'],
      ],
      size: 10,
      files: 2,
    });
    const path = await newFile();
    await writeCar(path, [root.cid], [hello, root, inner]);
    const store = await temporaryStore();
    const { roots, added } = await loadCar(store, path);
    expect(added.blocks).toBe(3);
    expect(await exportDescription(store, roots[0])).toEqual(
      describeSpec(
        directory({
          d: directory({ 'hello.txt': file('hello') }),
          run: file('hello', true),
          to: symlink('d/hello.txt'),
        }),
      ),
    );
  });

  it('is refused when it is damaged, foreign or incomplete', async () => {
    const hello = await rawBlock('hello');
    const other = await rawBlock('other');
    const root = await cborBlock({ dir: [['a', 0, hello.cid, 5]], size: 5, files: 1 });
    const large = await rawBlock('x'.repeat((1 << 20) + 1));
    const huge = await rawBlock('x'.repeat(4 << 20));
    const notDirectory = await cborBlock({ some: 'thing' });
    const inline = { cid: CID.createV1(RAW, identity.digest(hello.bytes)), bytes: hello.bytes };
    const pb = { cid: CID.createV1(0x70, hello.cid.multihash), bytes: hello.bytes };
    const v0 = { cid: CID.createV0(hello.cid.multihash as never), bytes: hello.bytes };
    const cases: [string, CID[], CarBlock[], string, RegExp][] = [
      [
        'a wrong block',
        [root.cid],
        [root, { cid: hello.cid, bytes: other.bytes }],
        'CORRUPT',
        /another hash/,
      ],
      ['a missing block', [root.cid], [root], 'CORRUPT', /incomplete.*lacks/],
      ['a missing root', [root.cid], [hello], 'CORRUPT', /incomplete.*lacks/],
      ['no root', [], [hello], 'UNSUPPORTED', /has no root/],
      ['a root that is no directory', [notDirectory.cid], [notDirectory], 'INVALID_NODE', /directories/],
      ['a root that is content', [hello.cid], [hello], 'INVALID_NODE', /directories/],
      ['an inline CID', [root.cid], [root, inline], 'UNSUPPORTED', /sha2-256/],
      ['dag-pb', [root.cid], [root, pb], 'UNSUPPORTED', /neither raw nor dag-cbor/],
      ['a CIDv0', [root.cid], [root, v0], 'UNSUPPORTED', /CIDv1/],
      ['a large block', [root.cid], [root, large], 'UNSUPPORTED', /bytes/],
      ['a huge block', [root.cid], [root, huge], 'UNSUPPORTED', /bytes/],
    ];
    const path = await newFile();
    for (const [what, roots, blocks, code, message] of cases) {
      await writeCar(path, roots, blocks);
      const error = await errorOf(loadCar(createMemoryStore(), path));
      expect(error, what).toMatchObject({ code });
      expect(error.message, what).toMatch(message);
    }
  });

  it('is refused at every length that it can be cut to', { timeout: 120_000 }, async () => {
    const store = createMemoryStore();
    const root = await importSpec(store, directory({ a: file('hello\n'), b: directory({ c: file('c') }) }));
    const path = await newFile();
    await saveCar(store, root, path);
    const whole = fs.readFileSync(path);
    for (let length = 0; length < whole.length; length++) {
      fs.writeFileSync(path, whole.subarray(0, length));
      const error = await errorOf(loadCar(createMemoryStore(), path));
      expect(error, `${length} bytes`).toBeInstanceOf(LazytreeError);
      expect(error.code, `${length} bytes: ${error.message}`).toBe('CORRUPT');
    }
    for (let at = 0; at < whole.length; at++) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 1 << (at % 8);
      fs.writeFileSync(path, bytes);
      expect(await errorOf(loadCar(createMemoryStore(), path)), `byte ${at}`).toBeInstanceOf(LazytreeError);
    }
  });

  it('is refused when it is no CAR at all', async () => {
    const home = await temporaryDirectory();
    const path = join(home, 'x.car');
    for (const bytes of [
      Buffer.from('hello'),
      pseudoRandom(100_000),
      Buffer.alloc(500),
      Buffer.alloc(3 << 20, 0x7f),
    ]) {
      fs.writeFileSync(path, bytes);
      expect(await errorOf(loadCar(createMemoryStore(), path))).toBeInstanceOf(LazytreeError);
    }
    expect(await errorOf(loadCar(createMemoryStore(), home))).toMatchObject({ code: 'CORRUPT' });
    expect(await errorOf(loadCar(createMemoryStore(), join(home, 'none')))).toMatchObject({
      code: 'NOT_FOUND',
    });
  });
});
