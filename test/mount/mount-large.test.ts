import fs from 'node:fs';
import { join } from 'node:path';
import {
  type Block,
  compareNames,
  type Entry,
  encodeDirectory,
  encodeFile,
  type FilePart,
  formatLink,
  type Link,
  linkTo,
  openLocalStore,
  RAW,
} from '@lazytree/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pseudoRandom, ROOT, type Sandbox, sandbox, start } from '../helpers.ts';
import { stopDaemon, unlessMountable } from './mountable.ts';
import { mounts, shOk } from './mounted.ts';

const CHUNK = 256 << 10;
const HUGE_CHUNKS = 5 * 4096 + 3;
const DIRECTORIES = 1000;
const FILES_EACH = 1000;
const MANY = 100_000;

/** Chunks of the huge file that hold data; the others are zeros. */
const WITH_DATA = new Set([0, 1, 4095, 16_383, 16_384, 16_385, HUGE_CHUNKS - 1]);

describe.skipIf(unlessMountable('large mounts'))('a mount of', () => {
  let box: Sandbox;
  const roots: Record<'million' | 'wide' | 'huge' | 'random', string> = {
    million: '',
    wide: '',
    huge: '',
    random: '',
  };

  // What would take minutes to import is put into the store as what an import makes of it.
  beforeAll(async () => {
    box = sandbox();
    const store = await openLocalStore(join(box.home, 'store'));
    const put = async (blocks: Iterable<Block>) => {
      for (const block of blocks) await store.put(block);
    };
    const content = Buffer.from('content\n');
    const link = linkTo(RAW, content);
    await put([{ link, bytes: content }]);
    const file = (name: string): Entry => ({ kind: 'file', name, link, size: content.length });
    const directoryOf = async (entries: Entry[], name = '') => {
      const sorted = entries.sort((a, b) => compareNames(a.name, b.name));
      const { nodes, ...rest } = encodeDirectory(sorted);
      await put(nodes);
      return { kind: 'directory' as const, name, link: rest.link, size: rest.size, files: rest.files };
    };
    const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);
    const directories: Entry[] = [];
    for (const d of numbers(DIRECTORIES)) {
      directories.push(
        await directoryOf(
          numbers(FILES_EACH).map((f) => file(`file ${d} ${f}`)),
          `dir ${d}`,
        ),
      );
    }
    roots.million = formatLink((await directoryOf(directories)).link);
    roots.wide = formatLink((await directoryOf(numbers(MANY).map((f) => file(`file ${f}`)))).link);
    const fileOf = async (chunks: Iterable<Buffer>) => {
      const parts: FilePart[] = [];
      const known = new Set<Link>();
      for (const bytes of chunks) {
        const part = { link: linkTo(RAW, bytes), size: bytes.length };
        if (!known.has(part.link)) await put([{ link: part.link, bytes }]);
        known.add(part.link);
        parts.push(part);
      }
      const nodes = encodeFile(parts);
      await put(nodes);
      const size = parts.reduce((sum, part) => sum + part.size, 0);
      return { kind: 'file' as const, name: 'file', link: nodes[nodes.length - 1].link, size };
    };
    const source = fs.openSync(box.path('huge'), 'w');
    fs.ftruncateSync(source, HUGE_CHUNKS * CHUNK);
    const zeros = Buffer.alloc(CHUNK);
    const chunks = numbers(HUGE_CHUNKS).map((i) => {
      if (!WITH_DATA.has(i)) return zeros;
      const bytes = pseudoRandom(CHUNK, `huge ${i}`);
      fs.writeSync(source, bytes, 0, CHUNK, i * CHUNK);
      return bytes;
    });
    fs.closeSync(source);
    roots.huge = formatLink((await directoryOf([await fileOf(chunks)])).link);
    const random = numbers(120).map((i) => pseudoRandom(CHUNK - i * 977, `random ${i}`));
    fs.writeFileSync(box.path('random'), Buffer.concat(random));
    roots.random = formatLink((await directoryOf([await fileOf(random)])).link);
    await store.close();
  });

  afterAll(() => stopDaemon(box));

  const useOf = async (root: string) => {
    const found = (await mounts(box)).find((mount) => mount.root === root);
    if (!found) throw new Error(`${root} is not mounted`);
    return found;
  };

  test('a million files asks for what is looked at alone', async () => {
    await box.ok('mount', roots.million, 'million');
    expect(await useOf(roots.million)).toMatchObject({ files: DIRECTORIES * FILES_EACH, state: 'mounted' });
    expect((await shOk(box, 'ls million | wc -l')).trim()).toBe('1000');
    expect(await shOk(box, "cat 'million/dir 7/file 7 7'")).toBe('content\n');
    expect((await shOk(box, "find 'million/dir 500' -type f -size 8c | wc -l")).trim()).toBe('1000');
    const { use } = await useOf(roots.million);
    // A listing takes a request for every so many entries; nothing of it is for each of a million.
    expect(use.requests).toBeLessThan(200);
    expect(use.reads).toBeLessThanOrEqual(1);
  });

  test('a directory of 100,000 entries', async () => {
    await box.ok('mount', roots.wide, 'wide');
    expect((await shOk(box, 'ls wide | wc -l; ls -f wide | sort -u | wc -l')).trim().split('\n')).toEqual([
      String(MANY),
      String(MANY + 2),
    ]);
    expect((await shOk(box, "find wide -type f -size 8c -name '* 9999?' | sort | tail -1")).trim()).toBe(
      'wide/file 99999',
    );
    const picked = Array.from({ length: 200 }, (_, i) => (i * 7919) % MANY);
    const cat = await shOk(
      box,
      `cd wide; cat ${picked.map((i) => `'file ${i}'`).join(' ')} | sort | uniq -c`,
    );
    expect(cat.trim()).toBe('200 content');
    expect(await shOk(box, "stat 'wide/file 100000' 2>&1 || true")).toContain('No such file');
    // Listed once, it is known: no name that is there has to be looked up.
    const { use } = await useOf(roots.wide);
    expect(use.requests).toBeLessThan(MANY / 10);
  });

  test('a file of 5 GB', async () => {
    await box.ok('mount', roots.huge, 'huge-mount');
    expect(await shOk(box, 'stat -c %s huge-mount/file huge')).toBe(`${HUGE_CHUNKS * CHUNK}\n`.repeat(2));
    const places: number[] = [];
    for (const chunk of WITH_DATA) {
      for (const within of [0, 1, CHUNK - 1, CHUNK / 2 + 17]) places.push(chunk * CHUNK + within);
    }
    for (let i = 0; i < 100; i++) places.push((i * 53_687_091) % (HUGE_CHUNKS * CHUNK));
    places.push(2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, HUGE_CHUNKS * CHUNK - 1, HUGE_CHUNKS * CHUNK, 2 ** 40);
    await comparePlaces('huge-mount/file', 'huge', places, 1);
    const { use } = await useOf(roots.huge);
    expect(use.bytes).toBeLessThan(1 << 30);
  });

  test('a file that many read at once, at random places', async () => {
    await box.ok('mount', roots.random, 'random-mount');
    const size = fs.statSync(box.path('random')).size;
    const readers = Array.from({ length: 6 }, (_, reader) => {
      const places = Array.from({ length: 400 }, (__, i) => (reader * 7_368_787 + i * 15_485_863) % size);
      return comparePlaces('random-mount/file', 'random', places, 16);
    });
    await Promise.all(readers);
    await shOk(box, 'cmp random-mount/file random');
  });

  /** In a process of its own, `parallel` at a time. */
  async function comparePlaces(
    mounted: string,
    source: string,
    places: number[],
    parallel: number,
  ): Promise<void> {
    const runner = `${ROOT}/test/mount/compare-places.ts`;
    const args = [box.path(mounted), box.path(source), String(parallel), JSON.stringify(places)];
    const { code, err } = await start([process.execPath, runner, ...args], { home: box.home }).ended;
    expect({ code, err }).toEqual({ code: 0, err: '' });
  }
});
