import { createHash } from 'node:crypto';
import { decodeTable, type FramePlace, linkDigest, PACK_HEADER } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { errorOf, manyFiles } from '../../../core/test/helpers.ts';
import { repack } from '../../dist/remotes/collect/repack.js';
import { type FrameEntries, framesOf, tablesOf } from '../../dist/remotes/index/table-parts.js';
import { packName } from '../../dist/remotes/object-names.js';
import { createPackReader } from '../../dist/remotes/packs/pack-reader.js';
import { never, newMachine, newPlace, objects, storageAt } from './machine.ts';

/** A remote of pushes of these sizes, and all frames in it. */
async function setUp(sizes: readonly { count: number; size: number }[]) {
  const place = await newPlace();
  const writer = await newMachine(place);
  for (const [seed, { count, size }] of sizes.entries()) {
    await writer.push(await writer.plant(manyFiles(count, { perDirectory: 50, size, seed })), `n${seed}`);
  }
  const storage = storageAt(place);
  const frames: FrameEntries[] = [];
  for (const name of (await objects(place, 'index/')).keys()) {
    const object = await storage.get(name, { signal: never });
    frames.push(...framesOf(decodeTable(object?.bytes as Buffer, name)));
  }
  const packs = createPackReader(storage);
  return { place, storage, packs, frames };
}

type Remote = Awaited<ReturnType<typeof setUp>>;

/** Every block is where its entry says. */
async function expectReadable({ packs }: Remote, frames: readonly FrameEntries[]): Promise<void> {
  const wanted = new Map<FramePlace, string[]>(
    frames.map(({ frame, links }) => [frame, links.map(linkDigest)]),
  );
  const found: string[] = [];
  await packs.read(wanted, {
    signal: never,
    ahead: false,
    onFrames: async (some) => void found.push(...some.found),
  });
  expect(found.sort()).toEqual(frames.flatMap(({ links }) => links.map(linkDigest)).sort());
}

const digestsOf = (frames: readonly FrameEntries[]) =>
  frames.flatMap(({ links }) => links.map(linkDigest)).sort();
const SMALL = { count: 20, size: 2000 };
const LARGE = { count: 30, size: 300_000 };

describe('repacking', () => {
  it('puts small packs together, and says where everything is and was', async () => {
    const remote = await setUp([SMALL, SMALL, SMALL, LARGE]);
    const before = await objects(remote.place, 'packs/');
    const { frames, moved } = await repack(remote, remote.frames, never);
    expect(digestsOf(frames)).toEqual(digestsOf(remote.frames));
    await expectReadable(remote, frames);
    await expectReadable(remote, moved);
    const after = await objects(remote.place, 'packs/');
    // Nothing is removed.
    for (const name of before.keys()) expect(after.has(name)).toBe(true);
    expect(after.size).toBe(before.size + 1);
    const used = new Set(frames.map(({ frame }) => packName(frame.pack)));
    expect(used.size).toBe(2);
    expect(new Set(moved.map(({ frame }) => packName(frame.pack))).size).toBe(3);
    // The packs are what their names say.
    for (const name of after.keys()) {
      const bytes = (await remote.storage.get(name, { signal: never }))?.bytes as Buffer;
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(name.slice('packs/'.length));
      expect(bytes.subarray(0, PACK_HEADER.length).equals(PACK_HEADER)).toBe(true);
    }
  });

  it('copies out of a pack that is mostly unused, and leaves one that is not', async () => {
    const remote = await setUp([LARGE]);
    const some = remote.frames.slice(0, 3);
    const little = await repack(remote, some, never);
    expect(little.moved).toEqual(some);
    await expectReadable(remote, little.frames);
    expect((await repack(remote, remote.frames, never)).moved).toEqual([]);
  });

  it('leaves one small pack alone, and nothing when there is nothing', async () => {
    const remote = await setUp([SMALL]);
    expect((await repack(remote, remote.frames, never)).moved).toEqual([]);
    expect(await repack(remote, [], never)).toEqual({ frames: [], moved: [] });
  });

  it('copies a frame once that several tables name', async () => {
    const remote = await setUp([SMALL, SMALL]);
    const halves = remote.frames.flatMap(({ frame, links, slots }) =>
      [0, 1].map((odd) => ({
        frame,
        links: links.filter((_, i) => i % 2 === odd),
        slots: slots.filter((_, i) => i % 2 === odd),
      })),
    );
    const { frames } = await repack(remote, halves, never);
    await expectReadable(remote, frames);
    const places = new Set(frames.map(({ frame }) => `${frame.pack}${frame.offset}`));
    expect(places.size).toBe(remote.frames.length);
  });

  it('makes the same packs again', async () => {
    const remote = await setUp([SMALL, SMALL, SMALL]);
    const first = await repack(remote, remote.frames, never);
    const packs = await objects(remote.place, 'packs/');
    const second = await repack(remote, [...remote.frames].reverse(), never);
    expect(await objects(remote.place, 'packs/')).toEqual(packs);
    expect(digestsOf(second.frames)).toEqual(digestsOf(first.frames));
  });

  it('ends with the signal', async () => {
    const remote = await setUp([SMALL, SMALL]);
    expect(
      (await errorOf(repack(remote, remote.frames, AbortSignal.abort(new Error('enough'))))).message,
    ).toBe('enough');
  });
});

describe('parts of tables', () => {
  it('are the table again', async () => {
    const { frames } = await setUp([SMALL, SMALL]);
    const [table, ...others] = tablesOf(frames);
    expect(others).toEqual([]);
    const again = framesOf(decodeTable(table, 'x'));
    expect(digestsOf(again)).toEqual(digestsOf(frames));
    // What comes twice is where it came first.
    const [twice] = tablesOf([
      ...frames,
      ...frames.map((entry) => ({ ...entry, frame: { ...entry.frame, offset: 99 } })),
    ]);
    expect(twice.equals(table)).toBe(true);
    expect([...tablesOf([])]).toEqual([]);
  });
});
