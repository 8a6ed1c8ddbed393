import { join } from 'node:path';
import { type LazytreeError, type Link, linkDigest } from '@lazytree/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { manyFiles, temporaryDirectory } from '../../../core/test/helpers.ts';
import { createIndexCache } from '../../dist/remotes/index/index-cache.js';
import { createRemoteIndex } from '../../dist/remotes/index/remote-index.js';
import { createPackReader } from '../../dist/remotes/packs/pack-reader.js';
import { createRemoteProvider } from '../../dist/remotes/remote-provider.js';
import type { Storage } from '../../dist/remotes/storage/storage.js';
import { allLinks, never, newMachine, newPlace, storageAt } from './machine.ts';

const log = { info() {}, warn() {}, error() {} };
/** Bytes of a record's header, and where in it the payload's length and the digest are: docs/store.md. */
const HEADER = 52;
const LENGTH_AT = 12;
const DIGEST_AT = 20;

describe('a byte that is not what was written, in a table that is read in parts', () => {
  let place: string;
  let links: Link[];
  let size = 0;

  beforeAll(async () => {
    place = await newPlace();
    const writer = await newMachine(place);
    const root = await writer.plant(manyFiles(90, { perDirectory: 10, size: 700 }));
    await writer.push(root, 'main');
    links = [...(await allLinks(writer.store, root))];
    expect(links.length).toBeGreaterThan(90);
    for await (const found of storageAt(place).list('index/', { signal: never })) size = found.size;
    expect(size).toBeGreaterThan(4000);
  });

  /** What is read of the table has a bit changed at some place, so many times that it is read. */
  function flipping(at: number, bit: number, times: number): Storage {
    const storage = storageAt(place);
    let left = times;
    return {
      ...storage,
      async get(name, options) {
        const object = await storage.get(name, options);
        const { offset = 0 } = options.range ?? {};
        const inside = at - offset;
        if (!object || !name.startsWith('index/') || inside < 0 || inside >= object.bytes.length)
          return object;
        if (left-- <= 0) return object;
        const bytes = Buffer.from(object.bytes);
        bytes[inside] ^= 1 << bit;
        return { ...object, bytes };
      },
    };
  }

  async function providerOf(storage: Storage) {
    const cache = createIndexCache(join(await temporaryDirectory(), 'index'));
    const index = createRemoteIndex({ storage, cache, log, wholeBytes: 0 });
    const packs = createPackReader(storage);
    const parts = { name: 'r', storage, index, packs, isHere: () => false, onOrder: async () => undefined };
    return { provider: createRemoteProvider(parts), close: () => packs.close() };
  }

  /** `whole` when all that was asked for came, or the code of the error. Nothing is ever said to be missing. */
  async function outcome(storage: Storage, wanted: readonly Link[]): Promise<string> {
    const { provider, close } = await providerOf(storage);
    const left = new Set(wanted.map(linkDigest));
    try {
      for await (const { records, missing } of provider.get(wanted, { signal: never, urgent: false })) {
        expect(missing).toEqual([]);
        for (let at = 0; at < records.length; at += HEADER + records.readUInt32LE(at + LENGTH_AT))
          left.delete(records.toString('latin1', at + DIGEST_AT, at + HEADER));
      }
      expect(left.size).toBe(0);
      return 'whole';
    } catch (error) {
      const { code } = error as LazytreeError;
      if (code === undefined) throw error;
      return code;
    } finally {
      await close();
    }
  }

  it('is damage wherever it is, or does not matter; no block is said not to be there', async () => {
    const seen = new Set<string>();
    for (let at = 0; at < size; at += 7) {
      seen.add(await outcome(flipping(at, at % 8, Number.POSITIVE_INFINITY), links));
      seen.add(
        await outcome(flipping(at, (at + 3) % 8, Number.POSITIVE_INFINITY), [links[at % links.length]]),
      );
    }
    expect([...seen].sort()).toEqual(['CORRUPT', 'NOT_FOUND', 'whole']);
  });

  it('on its way does not matter', async () => {
    for (let at = 0; at < size; at += 11)
      expect([at, await outcome(flipping(at, at % 8, 1), links)]).toEqual([at, 'whole']);
  });
});
