import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { manyFiles } from '../../../core/test/helpers.ts';
import type { Storage } from '../../dist/remotes/storage/storage.js';
import { type Machine, never, newMachine, newPlace, objects } from './machine.ts';

const check = async (machine: Machine, deep = false) => {
  const checks = await machine.remote.validate({ deep, signal: never });
  return checks.filter(({ ok }) => !ok).map(({ name, detail }) => ({ name, detail }));
};

async function setUp(wrap?: (storage: Storage) => Storage) {
  const place = await newPlace();
  const writer = await newMachine(place);
  const root = await writer.plant(manyFiles(60, { perDirectory: 10, size: 2000 }));
  await writer.push(root, 'main');
  const machine = await newMachine(place, wrap ? { wrap } : {});
  const only = async (prefix: string) => {
    const [name] = (await objects(place, prefix)).keys();
    return { name, path: join(place, name) };
  };
  return { place, writer, root, machine, only };
}

function flip(path: string, at: number): void {
  const bytes = fs.readFileSync(path);
  bytes[at] ^= 1;
  fs.writeFileSync(path, bytes);
}

describe('validation', () => {
  it('finds nothing wrong where nothing is, and leaves nothing behind', async () => {
    const { place, machine } = await setUp();
    const before = await objects(place, '');
    expect(await check(machine, true)).toEqual([]);
    expect(await objects(place, '')).toEqual(before);
  });

  it('of a storage with nothing in it finds nothing wrong', async () => {
    expect(await check(await newMachine(await newPlace()), true)).toEqual([]);
  });

  it('finds a pack that is missing', async () => {
    const { machine, only } = await setUp();
    const { name, path } = await only('packs/');
    fs.rmSync(path);
    const [{ name: what, detail }] = await check(machine);
    expect(what).toBe('tables and packs');
    expect(detail).toContain(name);
  });

  it('finds a pack that is cut short', async () => {
    const { machine, only } = await setUp();
    const { name, path } = await only('packs/');
    fs.truncateSync(path, fs.statSync(path).size - 1);
    const [{ detail }] = await check(machine);
    expect(detail).toContain(`'${name}' is cut short`);
  });

  it('finds a byte that is another one when it looks at all of them', async () => {
    const { machine, only } = await setUp();
    const { name, path } = await only('packs/');
    const size = fs.statSync(path).size;
    // Nodes come last, and are always read.
    for (const [at, found] of [
      [16, []],
      [40, []],
      [size >> 1, []],
      [size - 1, ['trees']],
    ] as const) {
      flip(path, at);
      expect((await check(machine)).map((one) => one.name)).toEqual(found);
      const deep = await check(machine, true);
      expect(deep.map((one) => one.name)).toEqual([...found, 'blocks']);
      for (const { detail } of deep) expect(detail).toContain(name);
      flip(path, at);
    }
  });

  it('finds a table that is damaged, at a machine that has it and at one that has not', async () => {
    const { writer, machine, only } = await setUp();
    const { name, path } = await only('index/');
    flip(path, fs.statSync(path).size >> 1);
    for (const where of [machine, writer]) {
      const [{ name: what, detail }] = await check(where);
      expect(what).toBe('tables and packs');
      expect(detail).toContain(name);
    }
  });

  it('finds nothing any more when what a damaged table listed has been pushed again', async () => {
    const { place, root, writer, only } = await setUp();
    const { path } = await only('index/');
    flip(path, fs.statSync(path).size >> 1);
    const again = await newMachine(place, { like: writer });
    await again.push(root, 'main');
    expect(again.warnings).not.toEqual([]);
    expect(await check(await newMachine(place), true)).toEqual([]);
  });

  it('finds a root that is missing', async () => {
    const { machine, only } = await setUp();
    const { name, path } = await only('roots/');
    fs.rmSync(path);
    const [{ name: what, detail }] = await check(machine);
    expect(what).toBe('roots and refs');
    expect(detail).toContain(name.slice('roots/'.length));
  });

  it('finds a ref that is damaged', async () => {
    const { machine, only } = await setUp();
    const { name, path } = await only('refs/');
    fs.writeFileSync(path, '{"version":1');
    const [{ detail }] = await check(machine);
    expect(detail).toContain(name);
  });

  it.each([
    ['writes over what is there', { expected: 'nothing' as const }],
    ['writes over another version', { expected: { version: 'x' } }],
  ])('finds a storage that %s', async (_, ignored) => {
    const { place, machine } = await setUp((storage) => ({
      ...storage,
      put: (name, bytes, { expected, ...rest }) =>
        storage.put(name, bytes, {
          ...rest,
          ...(expected && typeof expected !== typeof ignored.expected ? { expected } : {}),
        }),
    }));
    const found = await check(machine);
    expect(found.map(({ name }) => name)).toEqual(['write only if']);
    expect((await objects(place, 'probe/')).size).toBe(0);
  });

  it('finds a clock that is wrong, and a storage that does not answer', async () => {
    const { machine } = await setUp((storage) => ({ ...storage, now: async () => Date.now() + 3_600_000 }));
    expect((await check(machine)).map(({ name }) => name)).toEqual(['clock']);
    const { machine: mute } = await setUp((storage) => ({
      ...storage,
      // biome-ignore lint/correctness/useYield: it fails before it has anything
      async *list() {
        throw new Error('no route to host');
      },
    }));
    expect(await check(mute)).toEqual([{ name: 'list', detail: 'no route to host' }]);
  });
});
