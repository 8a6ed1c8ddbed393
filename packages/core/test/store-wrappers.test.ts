import {
  type Block,
  BlockMissingError,
  type BlockSource,
  type BlockStore,
  CorruptBlockError,
  caching,
  cachingStore,
  coalescing,
  createMemoryStore,
  type Faults,
  failover,
  faultInjecting,
  formatLink,
  getMany,
  LazytreeError,
  type Link,
  router,
  type StoreOptions,
  verifying,
} from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { block, collect, errorOf, pseudoRandom, runScript } from './helpers.js';

const A = block('block a');
const B = block('block b');

async function memoryWith(...blocks: Block[]): Promise<BlockStore> {
  const store = createMemoryStore();
  for (const item of blocks) await store.put(item);
  return store;
}

/** A store that counts what is asked of it, and fails while `failing` says why. */
async function counted(...blocks: Block[]) {
  const inner = await memoryWith(...blocks);
  const calls = { get: 0, has: 0, put: 0, flush: 0 };
  const state: { failing: Error | undefined } = { failing: undefined };
  const before: Faults['before'] = (operation) => {
    calls[operation] += 1;
    if (state.failing) throw state.failing;
  };
  return { store: faultInjecting(inner, { before }), inner, calls, state };
}

/** A source whose gets wait until the test says so; each one that was begun is in `gets`. */
function held() {
  const gets: { link: Link; signal: AbortSignal | undefined; answer: PromiseWithResolvers<Uint8Array> }[] =
    [];
  const source: BlockSource = {
    describe: () => 'held',
    get(link: Link, { signal }: StoreOptions = {}) {
      const answer = Promise.withResolvers<Uint8Array>();
      signal?.addEventListener('abort', () => answer.reject(signal.reason), { once: true });
      gets.push({ link, signal, answer });
      return answer.promise;
    },
    has: async () => true,
    close: async () => undefined,
  };
  return { source, gets };
}

const text = async (bytes: Promise<Uint8Array>) => Buffer.from(await bytes).toString();

describe('router', () => {
  it('takes the first source that has the block', async () => {
    const [first, second, third] = [await counted(), await counted(A), await counted(A)];
    const source = router(first.store, second.store, third.store);
    expect(await text(source.get(A.link))).toBe('block a');
    expect([first.calls.get, second.calls.get, third.calls.get]).toEqual([1, 1, 0]);
    expect(await source.has(A.link)).toBe(true);
    expect([first.calls.has, second.calls.has, third.calls.has]).toEqual([1, 1, 0]);
  });

  it('does not move on when a source fails', async () => {
    const [first, second] = [await counted(A), await counted(A)];
    first.state.failing = new Error('the cable is out');
    const source = router(first.store, second.store);
    expect(await errorOf(source.get(A.link))).toBe(first.state.failing);
    expect(await errorOf(source.has(A.link))).toBe(first.state.failing);
    expect(second.calls).toMatchObject({ get: 0, has: 0 });
  });

  it('says missing, by its own name, when all do', async () => {
    const source = router(await memoryWith(), await memoryWith(B));
    const error = await errorOf(source.get(A.link));
    expect(error).toBeInstanceOf(BlockMissingError);
    expect(error.message).toContain('router(memory, memory)');
    expect(await source.has(A.link)).toBe(false);
  });

  it('says missing when there is no source at all', async () => {
    expect(await errorOf(router().get(A.link))).toBeInstanceOf(BlockMissingError);
    expect(await router().has(A.link)).toBe(false);
  });
});

describe('failover', () => {
  it('goes to the next source when one fails, and stays there', async () => {
    const [first, second] = [await counted(A), await counted(A, B)];
    const source = failover(first.store, second.store);
    await source.get(A.link);
    expect([first.calls.get, second.calls.get]).toEqual([1, 0]);
    first.state.failing = new Error('gone');
    expect(await text(source.get(A.link))).toBe('block a');
    first.state.failing = undefined;
    expect(await text(source.get(B.link))).toBe('block b');
    expect([first.calls.get, second.calls.get]).toEqual([2, 2]);
  });

  it('comes back to the first when the second fails', async () => {
    const [first, second] = [await counted(A), await counted(A)];
    const source = failover(first.store, second.store);
    first.state.failing = new Error('gone');
    await source.get(A.link);
    first.state.failing = undefined;
    second.state.failing = new Error('gone as well');
    expect(await text(source.get(A.link))).toBe('block a');
    expect(await source.has(A.link)).toBe(true);
    expect(second.calls.has).toBe(0);
  });

  it('takes missing for the answer', async () => {
    const [first, second] = [await counted(), await counted(A)];
    const source = failover(first.store, second.store);
    expect(await errorOf(source.get(A.link))).toBeInstanceOf(BlockMissingError);
    expect(await source.has(A.link)).toBe(false);
    expect(second.calls).toMatchObject({ get: 0, has: 0 });
  });

  it('stays with a source whose answer, after a failure, was missing', async () => {
    const [first, second] = [await counted(A), await counted(B)];
    const source = failover(first.store, second.store);
    first.state.failing = new Error('gone');
    expect(await errorOf(source.get(A.link))).toBeInstanceOf(BlockMissingError);
    first.state.failing = undefined;
    expect(await text(source.get(B.link))).toBe('block b');
    expect(first.calls.get).toBe(1);
  });

  it('gives every reason when all fail', async () => {
    const [first, second] = [await counted(A), await counted(A)];
    first.state.failing = new Error('the cable is out');
    second.state.failing = new Error('the disk is on fire');
    const error = await errorOf(failover(first.store, second.store).get(A.link));
    expect(error).toBeInstanceOf(LazytreeError);
    expect(error).not.toBeInstanceOf(BlockMissingError);
    expect(error.message).toMatch(/the cable is out.*the disk is on fire/);
  });

  it('does not go on for one who has given up', async () => {
    const controller = new AbortController();
    const second = await counted(A);
    const first = faultInjecting(await memoryWith(A), {
      before() {
        controller.abort(new Error('enough'));
        throw new Error('failed meanwhile');
      },
    });
    const error = await errorOf(failover(first, second.store).get(A.link, { signal: controller.signal }));
    expect(error.message).toBe('enough');
    expect(second.calls.get).toBe(0);
  });

  it('refuses to be made of nothing', () => {
    expect(() => failover()).toThrow(LazytreeError);
  });
});

describe('caching', () => {
  it('asks the source once', async () => {
    const [cache, source] = [await counted(), await counted(A)];
    const cached = caching(cache.store, source.store);
    for (let i = 0; i < 3; i++) expect(await text(cached.get(A.link))).toBe('block a');
    expect(source.calls.get).toBe(1);
    expect(cache.calls).toMatchObject({ get: 3, put: 1 });
    expect(await cached.has(A.link)).toBe(true);
    expect(source.calls.has).toBe(0);
  });

  it('reads although the cache cannot be written', async () => {
    const failures: unknown[] = [];
    const cache = faultInjecting(await memoryWith(), {
      before(operation) {
        if (operation === 'put') throw new Error('the cache is full');
      },
    });
    const cached = caching(cache, await memoryWith(A), {
      onCacheError: (error, link) => failures.push((error as Error).message, link),
    });
    expect(await text(cached.get(A.link))).toBe('block a');
    expect(await text(cached.get(A.link))).toBe('block a');
    expect(failures).toEqual(['the cache is full', A.link, 'the cache is full', A.link]);
  });

  it('reads although the cache cannot be read', async () => {
    const failures: unknown[] = [];
    const [cache, source] = [await counted(A), await counted(A)];
    cache.state.failing = new Error('the cache is broken');
    const cached = caching(cache.store, source.store, { onCacheError: (error) => failures.push(error) });
    expect(await text(cached.get(A.link))).toBe('block a');
    expect(await cached.has(A.link)).toBe(true);
    expect(source.calls).toMatchObject({ get: 1, has: 1 });
    expect(failures).toContain(cache.state.failing);
  });

  it('reads around a block that is corrupt in the cache', async () => {
    const failures: unknown[] = [];
    const rotten = verifying(faultInjecting(await memoryWith(A), { tamper: () => Buffer.from('rotten') }));
    const cached = caching(rotten, await memoryWith(A), { onCacheError: (error) => failures.push(error) });
    expect(await text(cached.get(A.link))).toBe('block a');
    expect(failures[0]).toBeInstanceOf(CorruptBlockError);
  });

  it('fails when the source does, and says missing when both do', async () => {
    const [cache, source] = [await counted(), await counted()];
    const cached = caching(cache.store, source.store);
    expect(await errorOf(cached.get(A.link))).toBeInstanceOf(BlockMissingError);
    expect(await cached.has(A.link)).toBe(false);
    source.state.failing = new Error('no source');
    expect(await errorOf(cached.get(A.link))).toBe(source.state.failing);
    expect(cache.calls.put).toBe(0);
  });

  it('does not take a broken cache for a missing block', async () => {
    const [cache, source] = [await counted(A), await counted()];
    cache.state.failing = new Error('the cache is broken');
    source.state.failing = new Error('no source');
    expect(await errorOf(caching(cache.store, source.store).get(A.link))).toBe(source.state.failing);
  });

  it('writes to the store behind it', async () => {
    const [cache, source] = [await counted(), await counted()];
    const store = cachingStore(cache.store, source.store);
    await store.put(A);
    await store.flush();
    expect(source.calls).toMatchObject({ put: 1, flush: 1 });
    expect(await source.inner.has(A.link)).toBe(true);
    source.state.failing = new Error('read-only');
    expect(await errorOf(store.put(B))).toBe(source.state.failing);
  });
});

describe('coalescing', () => {
  it('makes concurrent requests into one', async () => {
    const { source, gets } = held();
    const shared = coalescing(source);
    const asked = Array.from({ length: 10 }, () => shared.get(A.link));
    const other = shared.get(B.link);
    expect(gets.map(({ link }) => link)).toEqual([A.link, B.link]);
    gets[0].answer.resolve(A.bytes);
    gets[1].answer.resolve(B.bytes);
    expect(await Promise.all(asked)).toEqual(Array(10).fill(A.bytes));
    expect(await other).toBe(B.bytes);
  });

  it('remembers nothing', async () => {
    const { store, calls } = await counted(A);
    const shared = coalescing(store);
    await shared.get(A.link);
    await shared.get(A.link);
    expect(calls.get).toBe(2);
  });

  it('shares a failure with those who wait, and with nobody else', async () => {
    const { source, gets } = held();
    const shared = coalescing(source);
    const asked = [shared.get(A.link), shared.get(A.link)].map((get) => errorOf(get));
    const failure = new Error('no');
    gets[0].answer.reject(failure);
    expect(await Promise.all(asked)).toEqual([failure, failure]);
    const again = shared.get(A.link);
    expect(gets).toHaveLength(2);
    gets[1].answer.resolve(A.bytes);
    expect(await again).toBe(A.bytes);
  });

  it('leaves the others alone when one gives up', async () => {
    const { source, gets } = held();
    const shared = coalescing(source);
    const [first, second] = [new AbortController(), new AbortController()];
    const gone = errorOf(shared.get(A.link, { signal: first.signal }));
    const stays = shared.get(A.link, { signal: second.signal });
    const patient = shared.get(A.link);
    first.abort(new Error('enough'));
    expect((await gone).message).toBe('enough');
    expect(gets[0].signal?.aborted).toBe(false);
    gets[0].answer.resolve(A.bytes);
    expect(await stays).toBe(A.bytes);
    expect(await patient).toBe(A.bytes);
  });

  it('cancels the request below when the last one gives up', async () => {
    const { source, gets } = held();
    const shared = coalescing(source);
    const controllers = [new AbortController(), new AbortController()];
    const asked = controllers.map(({ signal }) => errorOf(shared.get(A.link, { signal })));
    controllers[0].abort(new Error('first'));
    await asked[0];
    expect(gets[0].signal?.aborted).toBe(false);
    controllers[1].abort(new Error('last'));
    expect((await asked[1]).message).toBe('last');
    expect(gets[0].signal?.aborted).toBe(true);

    const again = shared.get(A.link);
    expect(gets).toHaveLength(2);
    gets[1].answer.resolve(A.bytes);
    expect(await again).toBe(A.bytes);
  });

  it('does not ask for one who has given up already', async () => {
    const { source, gets } = held();
    const signal = AbortSignal.abort(new Error('enough'));
    expect((await errorOf(coalescing(source).get(A.link, { signal }))).message).toBe('enough');
    expect(gets).toEqual([]);
  });

  it('does not cancel a request that has ended', async () => {
    const { source, gets } = held();
    const shared = coalescing(source);
    const controller = new AbortController();
    const asked = shared.get(A.link, { signal: controller.signal });
    gets[0].answer.resolve(A.bytes);
    await asked;
    controller.abort();
    expect(gets[0].signal?.aborted).toBe(false);
  });
});

describe('verifying', () => {
  it('lets nothing out that is not what its CID says', async () => {
    const inner = faultInjecting(await memoryWith(A, B), {
      tamper: (link, bytes) => (link === A.link ? Buffer.from('block A') : bytes),
    });
    const checked = verifying(inner);
    const error = await errorOf(checked.get(A.link));
    expect(error).toBeInstanceOf(CorruptBlockError);
    expect(error).toMatchObject({ code: 'CORRUPT', cid: formatLink(A.link) });
    expect(await text(checked.get(B.link))).toBe('block b');
  });

  it.each([
    ['another block', Buffer.from('block b')],
    ['less', Buffer.from('block')],
    ['more', Buffer.from('block a ')],
    ['nothing', Buffer.alloc(0)],
    ['2 MiB', Buffer.alloc(2 << 20)],
  ])('finds %s', async (_, bytes) => {
    const inner = faultInjecting(await memoryWith(A), { tamper: () => bytes });
    expect(await errorOf(verifying(inner).get(A.link))).toBeInstanceOf(CorruptBlockError);
  });

  it('lets nothing in that is not what its CID says', async () => {
    const inner = await counted();
    const checked = verifying(inner.store);
    expect(await errorOf(checked.put({ link: A.link, bytes: B.bytes }))).toBeInstanceOf(CorruptBlockError);
    expect(inner.calls.put).toBe(0);
    await checked.put(A);
    expect(await text(checked.get(A.link))).toBe('block a');
  });

  it('refuses a block beyond 1 MiB, even with the right hash', async () => {
    const checked = verifying(createMemoryStore());
    expect(await errorOf(checked.put(block(Buffer.alloc((1 << 20) + 1))))).toBeInstanceOf(LazytreeError);
  });

  it('is read-only over what is', async () => {
    expect('put' in verifying(router(await memoryWith()))).toBe(false);
  });
});

describe('faulty', () => {
  it('lets the test decide', async () => {
    const seen: string[] = [];
    const store = faultInjecting(await memoryWith(A), {
      before(operation) {
        seen.push(operation);
        if (operation === 'flush') throw new Error('no flush');
      },
      tamper: () => Buffer.from('lies'),
    });
    expect(await text(store.get(A.link))).toBe('lies');
    await store.put(B);
    await store.has(B.link);
    expect((await errorOf(store.flush())).message).toBe('no flush');
    expect(seen).toEqual(['get', 'put', 'has', 'flush']);
  });
});

describe('describe()', () => {
  it('names the stores from the outside in', () => {
    const memory = createMemoryStore();
    const tree = coalescing(
      verifying(caching(memory, router(memory, failover(memory, faultInjecting(memory, {}))))),
    );
    expect(tree.describe()).toBe(
      'coalescing(verifying(caching(memory, router(memory, failover(memory, faulty(memory))))))',
    );
  });
});

describe('closing', () => {
  it('closes everything below', async () => {
    const closed: string[] = [];
    const closable = (name: string): BlockStore => ({
      ...createMemoryStore(),
      close: async () => void closed.push(name),
    });
    await coalescing(verifying(cachingStore(closable('a'), faultInjecting(closable('b'), {})))).close();
    await router(closable('c'), closable('d')).close();
    await failover(closable('e'), closable('f')).close();
    expect(closed.sort()).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });
});

describe('getMany', () => {
  const many = Array.from({ length: 100 }, (_, i) => block(pseudoRandom(10, i)));

  it('asks ahead, a few at a time', async () => {
    let underWay = 0;
    let most = 0;
    const inner = await memoryWith(...many);
    const source: BlockSource = {
      ...inner,
      async get(link, options) {
        most = Math.max(most, ++underWay);
        await new Promise((resolve) => setImmediate(resolve));
        underWay -= 1;
        return inner.get(link, options);
      },
    };
    const got = await collect(
      getMany(
        source,
        many.map(({ link }) => link),
      ),
    );
    expect(got.map(({ link }) => link)).toEqual(many.map(({ link }) => link));
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(32);
  });

  it('stops asking when nobody takes any more', async () => {
    const { store, calls } = await counted(...many);
    for await (const { link } of getMany(
      store,
      many.map((item) => item.link),
    )) {
      expect(link).toBe(many[0].link);
      break;
    }
    expect(calls.get).toBeLessThanOrEqual(32);
  });

  it('fails in order, and not as an unhandled rejection, when a block that was asked for ahead fails first', async () => {
    // In a process of its own: an unhandled rejection ends it.
    const output = await runScript(`
      const links = ['a', 'b', 'c'].map((text) => core.linkTo(core.RAW, Buffer.from(text)));
      const source = {
        ...core.createMemoryStore(),
        async get(link) {
          if (link !== links[0]) throw new Error('failed early');
          await new Promise((resolve) => setTimeout(resolve, 20));
          return Buffer.from('a');
        },
      };
      let got = 0;
      try {
        for await (const item of core.getMany(source, links)) {
          got += 1;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      } catch (error) {
        console.log(got, error.message);
      }
    `);
    expect(output).toBe('1 failed early\n');
  });
});
