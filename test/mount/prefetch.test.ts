import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pseudoRandom, type Sandbox, sandbox, writeFiles } from '../helpers.ts';
import { stopDaemon, unlessMountable } from './mountable.ts';
import { shOk } from './mounted.ts';

/** Files that are large enough to be told from directories by what a store has of them. */
const FILES = {
  'a/first': pseudoRandom(60_000, 1),
  'b/second': pseudoRandom(60_000, 2),
  'c/never': pseudoRandom(60_000, 3),
  'd/never': pseudoRandom(60_000, 4),
};

describe.skipIf(unlessMountable('prefetching'))('prefetch', () => {
  let box: Sandbox;
  let source: Sandbox;

  beforeEach(async () => {
    source = sandbox();
    writeFiles(source.path('tree'), FILES);
    await source.ok('import', 'tree', '--name', 'tree');
    await source.ok('save', 'tree', 'tree.image');
    box = sandbox();
  });

  afterEach(() => stopDaemon(box));

  const image = () => `image:${source.path('tree.image')}`;
  const stored = async () => (await box.json<{ rawBytes: number }>('status')).rawBytes;

  /** Mounts, reads two files, and gives all that was fetched for it away again; what was read stays known. */
  async function readOnce(): Promise<void> {
    await box.ok('mount', image(), 'mounted', '--no-prefetch');
    await shOk(box, 'cat mounted/b/second mounted/a/first > /dev/null');
    await box.ok('unmount', 'mounted');
    await box.ok('gc');
    expect(await stored()).toBeLessThan(60_000);
  }

  test('brings what was read the last time, and no more', async () => {
    await readOnce();
    expect(fs.readdirSync(join(box.home, 'access'))).toHaveLength(1);
    await box.ok('mount', image(), 'mounted');
    while ((await stored()) < 120_000) await sleep(100);
    await sleep(1000);
    expect(await stored()).toBeLessThan(180_000);
    const { mounts } = await box.json<{ mounts: { use: { reads: number } }[] }>('mounts');
    // Those of the first time, if it was the same daemon.
    expect(mounts[0].use.reads).toBeLessThanOrEqual(2);
  });

  test('is not done when it is not wanted', async () => {
    await readOnce();
    await box.ok('mount', image(), 'mounted', '--no-prefetch');
    await sleep(1500);
    expect(await stored()).toBeLessThan(60_000);
  });

  test('of a tree brings all of it, and it is mounted without the image', async () => {
    await box.ok('mount', image(), 'mounted', '--no-prefetch');
    expect(await box.json('prefetch', image())).toEqual({ files: 4, bytes: 240_000 });
    fs.rmSync(source.path('tree.image'));
    expect(await shOk(box, 'cat mounted/*/* | wc -c')).toBe('240000\n');
  });
});
