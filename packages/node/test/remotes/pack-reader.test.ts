import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { decodeTable, type FramePlace, linkDigest } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { errorOf, manyFiles } from '../../../core/test/helpers.ts';
import { type FrameEntries, framesOf } from '../../dist/remotes/index/table-parts.js';
import { createPackReader } from '../../dist/remotes/packs/pack-reader.js';
import { never, newMachine, newPlace, objects, storageAt } from './machine.ts';

async function setUp() {
  const place = await newPlace();
  const writer = await newMachine(place);
  await writer.push(await writer.plant(manyFiles(40, { perDirectory: 10, size: 600_000 })), 'main');
  const storage = storageAt(place);
  const [name] = (await objects(place, 'index/')).keys();
  const object = await storage.get(name, { signal: never });
  const frames = framesOf(decodeTable(object?.bytes as Buffer, name));
  return { place, storage, frames, reader: createPackReader(storage) };
}

const wantedOf = (frames: readonly FrameEntries[]) =>
  new Map<FramePlace, string[]>(frames.map(({ frame, links }) => [frame, links.map(linkDigest)]));

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

describe('reading packs', () => {
  it('takes few requests for frames that lie together', async () => {
    const { frames, storage, reader } = await setUp();
    const { requests } = storage.traffic();
    let blocks = 0;
    await reader.read(wantedOf(frames), {
      signal: never,
      ahead: false,
      async onFrames({ found }) {
        blocks += found.length;
      },
    });
    expect(blocks).toBe(frames.flatMap(({ links }) => links).length);
    const bytes = frames.reduce((sum, { frame }) => sum + frame.length, 0);
    expect(storage.traffic().requests - requests).toBeLessThanOrEqual(Math.ceil((3 * bytes) / (4 << 20)));
    await reader.close();
  });

  it('asks once for a frame that several want at about the same time', async () => {
    const { frames, storage, reader } = await setUp();
    const { requests } = storage.traffic();
    const options = { signal: never, ahead: false, onFrames: async () => undefined };
    const one = wantedOf(frames.slice(0, 1));
    await Promise.all([1, 2, 3].map(() => reader.read(one, options)));
    expect(storage.traffic().requests - requests).toBe(1);
    await reader.close();
  });

  it('is not ended by another reader that gives up', async () => {
    const { frames, reader } = await setUp();
    const stop = new AbortController();
    const one = wantedOf(frames.slice(0, 1));
    const first = reader.read(one, { signal: stop.signal, ahead: false, onFrames: async () => undefined });
    let found = 0;
    const second = reader.read(one, {
      signal: never,
      ahead: false,
      async onFrames(unpacked) {
        found += unpacked.found.length;
      },
    });
    stop.abort(new Error('enough'));
    expect((await errorOf(first)).message).toBe('enough');
    await second;
    expect(found).toBe([...one.values()][0].length);
    await reader.close();
  });

  it('remembers frames, and not what was read around them', async () => {
    const { frames, reader } = await setUp();
    const read = (some: readonly FrameEntries[]) =>
      reader.read(wantedOf(some), { signal: never, ahead: true, onFrames: async () => undefined });
    collectGarbage();
    const before = process.memoryUsage().arrayBuffers;
    for (const frame of frames) await read([frame]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    collectGarbage();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40 << 20);
    await reader.close();
  });
});
