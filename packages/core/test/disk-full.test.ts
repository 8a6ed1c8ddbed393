import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import {
  exportTree,
  gc,
  getRef,
  importTree,
  LazytreeError,
  type Link,
  type LocalStore,
  setRef,
  verifyStore,
  verifyTree,
} from '@lazytree/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  describeDirectory,
  errorOf,
  file,
  manyFiles,
  pseudoRandom,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from './helpers.js';

/** Why nothing can be tested here, or undefined. */
function obstacle(): string | undefined {
  if (process.platform !== 'linux') return 'tmpfs is Linux';
  if (process.getuid?.() !== 0) return 'only root can mount a tmpfs';
  return undefined;
}

describe('on a full disk', () => {
  const problem = obstacle();
  if (problem) {
    it.skip(`NOT TESTED: ${problem}`, () => undefined);
    return;
  }

  let disk: string;
  let base: string;
  const home = () => join(disk, 'home');
  /** Takes all the space that there is but `leave` bytes. */
  const fill = (leave: number) => {
    const fd = fs.openSync(join(disk, 'filler'), 'w');
    const step = Buffer.alloc(4096);
    let at = 0;
    try {
      for (;;) at += fs.writeSync(fd, step, 0, step.length, at);
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
      fs.ftruncateSync(fd, Math.max(0, at - leave));
    } finally {
      fs.closeSync(fd);
    }
  };

  beforeAll(async () => {
    disk = await temporaryDirectory();
    base = await temporaryDirectory();
    const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(stderr);
  });
  afterAll(() => {
    spawnSync('umount', ['-l', disk]);
  });

  let small: string;
  let big: string;
  let root: Link;

  it('an import ends with a clear error, and what was there before is whole', async () => {
    small = join(base, 'small');
    big = join(base, 'big');
    writeTree(small, manyFiles(200, { size: 2000 }));
    const spec = manyFiles(400, { size: 40_000, seed: 1 });
    spec.entries.set('large', file(pseudoRandom(30_000_000, 2)));
    writeTree(big, spec);

    const store = await temporaryStore({ directory: home() });
    root = (await importTree(store, small, { statCache: join(disk, 'caches/small') })).root;
    await setRef(store, { name: 'main', root, source: small });

    const error = await errorOf(importTree(store, big, { statCache: join(disk, 'caches/big') }));
    expect(error).toBeInstanceOf(LazytreeError);
    expect(error).toMatchObject({ code: 'NO_SPACE', hint: expect.stringMatching(/free/) });
    expect((await verifyTree(store, { link: root, name: 'main' })).bad).toEqual([]);
    await store.close().catch((closing: unknown) => expect(closing).toMatchObject({ code: 'NO_SPACE' }));
  });

  /** Runs `task` on the store; closing may say once more that there is no room. */
  async function withStore(task: (store: LocalStore) => Promise<void>): Promise<void> {
    const store = await temporaryStore({ directory: home() });
    try {
      await task(store);
    } finally {
      await store.close().catch((closing: unknown) => expect(closing).toMatchObject({ code: 'NO_SPACE' }));
    }
  }

  it('the store opens again, and gives back what it has', async () => {
    await withStore(async (store) => {
      expect(getRef(store, 'main')?.root).toBe(root);
      const { bad, damage } = await verifyStore(store);
      expect([bad, damage]).toEqual([[], []]);
      const target = join(base, 'target');
      await exportTree(store, root, target);
      expect(describeDirectory(target)).toEqual(describeDirectory(small));
    });
  });

  it('a collection gives the space back that the failed import took', async () => {
    await withStore(async (store) => {
      await gc(store);
      expect((await verifyTree(store, { link: root, name: 'main' })).bad).toEqual([]);
    });
    const { bavail, bsize } = fs.statfsSync(disk);
    expect(bavail * bsize).toBeGreaterThan(20 << 20);
  });

  it('the store opens even where not one byte is left, to be read and collected', async () => {
    fill(0);
    await withStore(async (store) => {
      expect((await verifyTree(store, { link: root, name: 'main' })).bad).toEqual([]);
      await gc(store);
    });
  });

  it('an import that adds nothing but needs its cache fails clearly or not at all', async () => {
    fill(200 << 10);
    await withStore(async (store) => {
      fill(0);
      for (const statCache of [join(disk, 'caches/small'), join(disk, 'new/cache')]) {
        const outcome = await importTree(store, small, { statCache }).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toMatchObject({ code: 'NO_SPACE' });
        else expect(outcome).toMatchObject({ root });
      }
    });
  });

  it('an export there ends with a clear error, and leaves nothing', async () => {
    const elsewhere = await temporaryStore();
    const { root: large } = await importTree(elsewhere, big);
    const error = await errorOf(exportTree(elsewhere, large, join(disk, 'target')));
    expect(error).toMatchObject({ code: 'NO_SPACE' });
    expect(error.message).toMatch(/d\d+\/f\d+|large/);
    expect(fs.readdirSync(disk).sort()).not.toContain('target');
    expect(fs.readdirSync(disk).filter((name) => name.includes('partial'))).toEqual([]);
  });

  it('a store cannot be made, and says why', async () => {
    const outcome = await temporaryStore({ directory: join(disk, 'second') }).then(
      async (store) => {
        const failure = await importTree(store, small).catch((error: unknown) => error);
        await store.close().catch(() => undefined);
        return failure;
      },
      (error: unknown) => error,
    );
    expect(outcome).toMatchObject({ code: 'NO_SPACE' });
    fs.rmSync(join(disk, 'second'), { recursive: true, force: true });
  });

  it('the same import succeeds in the same process once there is room', async () => {
    fill(1 << 20);
    const more = join(base, 'more');
    writeTree(more, manyFiles(100, { size: 20_000, seed: 3 }));
    let result: { root: Link } | undefined;
    await withStore(async (store) => {
      const error = await errorOf(importTree(store, more));
      expect(error).toBeInstanceOf(LazytreeError);
      expect(error).toMatchObject({ code: 'NO_SPACE', hint: expect.stringMatching(/free/) });
      fs.rmSync(join(disk, 'filler'));
      result = await importTree(store, more);
      await setRef(store, { name: 'more', root: result.root, source: more });
      expect((await verifyTree(store, { link: result.root, name: 'more' })).bad).toEqual([]);
    });
    await withStore(async (store) => {
      expect((await verifyStore(store)).bad).toEqual([]);
      for (const link of [root, result?.root as Link])
        expect((await verifyTree(store, { link, name: '' })).bad).toEqual([]);
    });
  });
});
