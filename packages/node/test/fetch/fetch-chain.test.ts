import fs from 'node:fs';
import { join } from 'node:path';
import {
  type Block,
  BlockMissingError,
  type BlockSource,
  CorruptBlockError,
  formatLink,
  type Link,
  type LocalStore,
} from '@lazytree/core';
import { beforeEach, describe, expect, it } from 'vitest';
import { block, errorOf, pseudoRandom, temporaryStore } from '../../../core/test/helpers.ts';
import { createFetchChain } from '../../dist/fetch/fetch-chain.js';

/** A provider that answers as it is told to, and counts how often it is asked. */
function provider(name: string, get: (link: Link, signal?: AbortSignal) => Promise<Uint8Array>) {
  const asked: Link[] = [];
  const source: BlockSource = {
    describe: () => name,
    get(link, options) {
      asked.push(link);
      return get(link, options?.signal);
    },
    has: async () => true,
    async close() {},
  };
  return { asked, source };
}

const wanted = block('wanted');
const having =
  ({ link, bytes }: Block) =>
  async (asked: Link) => {
    if (asked !== link) throw new BlockMissingError(formatLink(asked), 'missing');
    return bytes;
  };
const missing = async (link: Link): Promise<never> => {
  throw new BlockMissingError(formatLink(link), 'missing');
};
const failing = async (): Promise<never> => {
  throw new Error('it is on fire');
};

describe('a fetch chain', () => {
  let store: LocalStore;

  beforeEach(async () => {
    store = await temporaryStore();
  });

  it('asks nobody for what is here', async () => {
    const chain = createFetchChain(store);
    const other = provider('other', having(wanted));
    chain.add(other.source);
    await store.put(wanted);
    expect(Buffer.from(await chain.get(wanted.link)).toString()).toBe('wanted');
    expect(other.asked).toEqual([]);
  });

  it('asks one after another, whether they miss it or fail, and keeps what it gets', async () => {
    const chain = createFetchChain(store);
    const providers = [
      provider('a', missing),
      provider('b', failing),
      provider('c', having(wanted)),
      provider('d', missing),
    ];
    for (const { source } of providers) chain.add(source);
    expect(Buffer.from(await chain.get(wanted.link)).toString()).toBe('wanted');
    expect(providers.map(({ asked }) => asked.length)).toEqual([1, 1, 1, 0]);
    await chain.get(wanted.link);
    expect(providers.map(({ asked }) => asked.length)).toEqual([1, 1, 1, 0]);
    expect(await store.has(wanted.link)).toBe(true);
  });

  it('asks once for what many want at once', async () => {
    const chain = createFetchChain(store);
    const answer = Promise.withResolvers<void>();
    const slow = provider('slow', async () => {
      await answer.promise;
      return wanted.bytes;
    });
    chain.add(slow.source);
    const readers = Array.from({ length: 50 }, () => chain.get(wanted.link));
    answer.resolve();
    for (const reader of readers) expect(Buffer.from(await reader).toString()).toBe('wanted');
    expect(slow.asked).toEqual([wanted.link]);
  });

  it('takes nothing that is not what was asked for', async () => {
    const chain = createFetchChain(store);
    chain.add(provider('liar', async () => Buffer.from('something else')).source);
    chain.add(provider('honest', having(wanted)).source);
    expect(Buffer.from(await chain.get(wanted.link)).toString()).toBe('wanted');
  });

  it('tells missing from failed, and everyone that was asked', async () => {
    const chain = createFetchChain(store);
    chain.add(provider('first', missing).source);
    const nobody = await errorOf(chain.get(wanted.link));
    expect(nobody).toBeInstanceOf(BlockMissingError);
    expect(nobody.message).toContain('first');
    chain.add(provider('second', failing).source);
    const failed = await errorOf(chain.get(wanted.link));
    expect(failed).not.toBeInstanceOf(BlockMissingError);
    expect(failed).toMatchObject({ code: 'FAILED', cid: formatLink(wanted.link) });
    expect(failed.message).toMatch(/first.*missing.*second.*it is on fire/);
    expect(chain.providers()).toEqual([expect.stringContaining('first'), expect.stringContaining('second')]);
  });

  it('asks nobody who has been taken out', async () => {
    const chain = createFetchChain(store);
    const gone = provider('gone', having(wanted));
    const withdraw = chain.add(gone.source);
    withdraw();
    expect(await errorOf(chain.get(wanted.link))).toBeInstanceOf(BlockMissingError);
    expect(gone.asked).toEqual([]);
    expect(chain.providers()).toEqual([]);
  });

  it('ends for whoever gives up, and goes on for the others', async () => {
    const chain = createFetchChain(store);
    const answer = Promise.withResolvers<void>();
    chain.add(
      provider('slow', async () => {
        await answer.promise;
        return wanted.bytes;
      }).source,
    );
    const giver = new AbortController();
    const given = errorOf(chain.get(wanted.link, { signal: giver.signal }));
    const patient = chain.get(wanted.link);
    giver.abort();
    expect((await given).name).toBe('AbortError');
    answer.resolve();
    expect(Buffer.from(await patient).toString()).toBe('wanted');
  });

  it('replaces a damaged block by what a provider has, and says so', async () => {
    const repaired: string[] = [];
    const chain = createFetchChain(store, { onRepaired: (cid, by) => repaired.push(`${cid} ${by}`) });
    const random = block(pseudoRandom(5000, 42));
    await store.put(random);
    await store.flush();
    damage(store.directory, random.bytes);
    expect(await errorOf(chain.get(random.link))).toBeInstanceOf(CorruptBlockError);
    chain.add(provider('backup', having(random)).source);
    expect(Buffer.from(await chain.get(random.link)).equals(random.bytes)).toBe(true);
    expect(repaired).toEqual([expect.stringContaining(`${formatLink(random.link)} `)]);
    expect(repaired[0]).toContain('backup');
    expect(Buffer.from(await store.get(random.link)).equals(random.bytes)).toBe(true);
  });

  it('gives what it cannot keep', async () => {
    const notKept: string[] = [];
    const broken = { ...store, put: () => Promise.reject(new Error('the disk is full')) };
    const chain = createFetchChain(broken, {
      onNotKept: (error, blocks) => notKept.push(`${blocks} ${error}`),
    });
    chain.add(provider('other', having(wanted)).source);
    expect(Buffer.from(await chain.get(wanted.link)).toString()).toBe('wanted');
    expect(notKept).toEqual(['1 Error: the disk is full']);
  });
});

function damage(directory: string, bytes: Uint8Array): void {
  const segments = join(directory, 'segments');
  for (const name of fs.readdirSync(segments)) {
    const content = fs.readFileSync(join(segments, name));
    const at = content.indexOf(bytes);
    if (at < 0) continue;
    content[at + 100] ^= 1;
    fs.writeFileSync(join(segments, name), content);
    return;
  }
  throw new Error('the block is not there');
}
