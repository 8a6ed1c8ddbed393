import {
  type Block,
  BlockMissingError,
  type BlockSource,
  type BlockStore,
  DAG_CBOR,
  formatLink,
  getMany,
  linkDigest,
  makeLink,
  type PrunableStore,
  RAW,
} from '@lazytree/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { block, collect, errorOf, pseudoRandom } from './helpers.js';

/** A store to test, and how to open it again if its content outlives it. */
export interface Harness {
  store: BlockStore;
  /** Closes the store and opens it again on the same content. */
  reopen?: () => Promise<BlockStore>;
}

const SAMPLES: [string, Block][] = [
  ['an empty block', block('')],
  ['one byte', block('x')],
  ['a compressible block', block(Buffer.alloc(50_000, 'lazytree '))],
  ['an incompressible block', block(pseudoRandom(50_000, 1))],
  ['an incompressible block of 1 MiB', block(pseudoRandom(1 << 20, 2))],
  ['a compressible block of 1 MiB', block(Buffer.alloc(1 << 20))],
  ['a node', block(Buffer.from('a0', 'hex'), DAG_CBOR)],
];

/** What every store does, whatever it is made of. */
export function storeConformance(name: string, factory: () => Promise<Harness>): void {
  describe(`${name} is a store`, () => {
    let harness: Harness;
    let store: BlockStore;

    beforeEach(async () => {
      harness = await factory();
      store = harness.store;
    });
    afterEach(() => store.close());

    it.each(SAMPLES)('returns %s as it was put', async (_, sample) => {
      await store.put(sample);
      expect(await store.has(sample.link)).toBe(true);
      expect(Buffer.compare(await store.get(sample.link), sample.bytes)).toBe(0);
    });

    it('returns every block after a flush', async () => {
      for (const [, sample] of SAMPLES) await store.put(sample);
      await store.flush();
      for (const [, sample] of SAMPLES)
        expect(Buffer.compare(await store.get(sample.link), sample.bytes)).toBe(0);
    });

    it('says missing of what it does not have', async () => {
      const { link } = block('never put');
      expect(await store.has(link)).toBe(false);
      const error = await errorOf(store.get(link));
      expect(error).toBeInstanceOf(BlockMissingError);
      expect(error).toMatchObject({ code: 'BLOCK_MISSING', cid: formatLink(link) });
    });

    it('takes a block twice', async () => {
      const sample = block('twice');
      await store.put(sample);
      await store.put(sample);
      await store.flush();
      await store.put(sample);
      expect(Buffer.from(await store.get(sample.link)).toString()).toBe('twice');
    });

    it('keeps its own copy of what was put', async () => {
      const bytes = Buffer.from('the caller goes on using its buffer');
      const sample = block(Buffer.from(bytes));
      await store.put({ link: sample.link, bytes });
      bytes.fill(0);
      expect(Buffer.compare(await store.get(sample.link), sample.bytes)).toBe(0);
    });

    it('knows a block by its digest, whatever the codec', async () => {
      const sample = block(Buffer.from('a0', 'hex'), DAG_CBOR);
      await store.put(sample);
      const other = makeLink(RAW, linkDigest(sample.link));
      expect(await store.has(other)).toBe(true);
      expect(Buffer.from(await store.get(other))).toEqual(Buffer.from('a0', 'hex'));
    });

    it('flushes when there is nothing to do', async () => {
      await store.flush();
      await store.flush();
    });

    it('does nothing for a signal that has aborted', async () => {
      const sample = block('aborted');
      const reason = new Error('enough');
      const signal = AbortSignal.abort(reason);
      expect(await errorOf(store.put(sample, { signal }))).toBe(reason);
      expect(await errorOf(store.get(sample.link, { signal }))).toBe(reason);
      expect(await errorOf(store.has(sample.link, { signal }))).toBe(reason);
      expect(await store.has(sample.link)).toBe(false);
    });

    it('takes and gives many blocks at once', async () => {
      const many = Array.from({ length: 200 }, (_, i) => block(pseudoRandom(1 + i * 37, i)));
      await Promise.all([...many, ...many].map((sample) => store.put(sample)));
      const got = await Promise.all(many.map(({ link }) => store.get(link)));
      for (const [i, bytes] of got.entries()) expect(Buffer.compare(bytes, many[i].bytes)).toBe(0);
    });

    it('gives a block that is put while others are flushed', async () => {
      const many = Array.from({ length: 50 }, (_, i) => block(`during a flush ${i}`));
      await Promise.all(
        many.map(async (sample, i) => {
          await store.put(sample);
          if (i % 5 === 0) await store.flush();
          expect(await store.has(sample.link)).toBe(true);
          await store.get(sample.link);
        }),
      );
    });

    it('gives many in the order asked for, repeated ones too', async () => {
      const many = Array.from({ length: 60 }, (_, i) => block(`number ${i}`));
      for (const sample of many) await store.put(sample);
      const asked = [...many.toReversed(), many[3], many[3]];
      const got = await collect(
        getMany(
          store,
          asked.map(({ link }) => link),
        ),
      );
      expect(got.map(({ link }) => link)).toEqual(asked.map(({ link }) => link));
      expect(got.map(({ bytes }) => Buffer.from(bytes).toString())).toEqual(
        asked.map(({ bytes }) => Buffer.from(bytes).toString()),
      );
    });

    it('fails in the middle of many when one is missing', async () => {
      await store.put(block('here'));
      const error = await errorOf(collect(getMany(store, [block('here').link, block('not here').link])));
      expect(error).toBeInstanceOf(BlockMissingError);
    });

    it('describes itself', () => {
      expect(store.describe()).toMatch(/^[a-z]+(\(.*\))?$/);
    });

    it('keeps what was flushed when it is closed and opened again', async ({ skip }) => {
      if (!harness.reopen) return skip('keeps nothing by nature');
      for (const [, sample] of SAMPLES) await store.put(sample);
      await store.flush();
      store = await harness.reopen();
      for (const [, sample] of SAMPLES)
        expect(Buffer.compare(await store.get(sample.link), sample.bytes)).toBe(0);
    });

    it('keeps what was put when it is closed in good order', async ({ skip }) => {
      if (!harness.reopen) return skip('keeps nothing by nature');
      for (const [, sample] of SAMPLES) await store.put(sample);
      store = await harness.reopen();
      for (const [, sample] of SAMPLES) expect(await store.has(sample.link)).toBe(true);
    });

    it('lists and deletes, if it can', async ({ skip }) => {
      if (!('delete' in store)) return skip('not prunable');
      const prunable = store as PrunableStore;
      const many = Array.from({ length: 30 }, (_, i) => block(`item ${i}`, i % 2 ? RAW : DAG_CBOR));
      for (const sample of many) await prunable.put(sample);
      const links = many.map(({ link }) => link).sort();
      expect((await collect(prunable.links())).sort()).toEqual(links);

      await prunable.delete([...links.slice(0, 10), block('never here').link]);
      expect((await collect(prunable.links())).sort()).toEqual(links.slice(10));
      expect(await prunable.has(links[0])).toBe(false);
      expect(await errorOf(prunable.get(links[0]))).toBeInstanceOf(BlockMissingError);
      expect(await prunable.has(links[10])).toBe(true);

      const back = many.find(({ link }) => link === links[0]) as Block;
      await prunable.put(back);
      expect(Buffer.compare(await prunable.get(back.link), back.bytes)).toBe(0);

      await prunable.delete([]);
      const reason = new Error('enough');
      expect(await errorOf(collect(prunable.links({ signal: AbortSignal.abort(reason) })))).toBe(reason);
    });

    it('forgets for good what was deleted', async ({ skip }) => {
      if (!('delete' in store) || !harness.reopen) return skip('not prunable, or keeps nothing');
      await store.put(block('stays'));
      await store.put(block('goes'));
      await (store as PrunableStore).delete([block('goes').link]);
      store = await harness.reopen();
      expect(await store.has(block('goes').link)).toBe(false);
      expect(await store.has(block('stays').link)).toBe(true);
    });
  });
}

/** What every source of blocks does. `factory` makes one that has `blocks` and no others. */
export function sourceConformance(
  name: string,
  factory: (blocks: readonly Block[]) => Promise<BlockSource>,
): void {
  describe(`${name} is a source`, () => {
    let source: BlockSource;

    beforeEach(async () => {
      source = await factory(SAMPLES.map(([, sample]) => sample));
    });
    afterEach(() => source.close());

    it.each(SAMPLES)('returns %s, again and again', async (_, sample) => {
      for (let i = 0; i < 3; i++) {
        expect(await source.has(sample.link)).toBe(true);
        expect(Buffer.compare(await source.get(sample.link), sample.bytes)).toBe(0);
      }
    });

    it('says missing of what it does not have', async () => {
      const { link } = block('never put');
      expect(await source.has(link)).toBe(false);
      const error = await errorOf(source.get(link));
      expect(error).toBeInstanceOf(BlockMissingError);
      expect(error).toMatchObject({ code: 'BLOCK_MISSING', cid: formatLink(link) });
    });

    it('does nothing for a signal that has aborted', async () => {
      const [, sample] = SAMPLES[1];
      const reason = new Error('enough');
      expect(await errorOf(source.get(sample.link, { signal: AbortSignal.abort(reason) }))).toBe(reason);
      expect(await errorOf(source.has(sample.link, { signal: AbortSignal.abort(reason) }))).toBe(reason);
    });

    it('gives many at once, in order', async () => {
      const asked = [...SAMPLES, ...SAMPLES].map(([, { link }]) => link);
      expect((await collect(getMany(source, asked))).map(({ link }) => link)).toEqual(asked);
      const bytes = await Promise.all(asked.map((link) => source.get(link)));
      for (const [i, got] of bytes.entries()) {
        expect(Buffer.compare(got, SAMPLES[i % SAMPLES.length][1].bytes)).toBe(0);
      }
    });

    it('describes itself', () => {
      expect(source.describe()).toMatch(/^[a-z]+(\(.*\))?$/);
    });
  });
}
