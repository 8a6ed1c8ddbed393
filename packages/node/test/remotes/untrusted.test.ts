import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import {
  DAG_CBOR,
  decodeTable,
  encodeTable,
  formatLink,
  type Link,
  linkCodec,
  linkDigest,
} from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { directory, errorOf, file, manyFiles, pseudoRandom } from '../../../core/test/helpers.ts';
import { toHex } from '../../dist/remotes/object-names.js';
import { decodeRef } from '../../dist/remotes/remote-ref.js';
import { decodeManifest } from '../../dist/remotes/root-manifest.js';
import { age, allLinks, HOUR, never, newMachine, newPlace, objects, readWhole } from './machine.ts';

async function setUp() {
  const place = await newPlace();
  const writer = await newMachine(place);
  const root = await writer.plant(manyFiles(60, { perDirectory: 10, size: 2000 }));
  await writer.push(root, 'main');
  const only = async (prefix: string) => [...(await objects(place, prefix)).keys()][0];
  return { place, writer, root, only };
}

type Table = ReturnType<typeof decodeTable>;

/** Puts another table, valid in itself, in the place of the one that there is. */
async function replaceTable(place: string, change: (table: Table) => Table): Promise<void> {
  const [name] = (await objects(place, 'index/')).keys();
  const table = encodeTable(change(decodeTable(fs.readFileSync(join(place, name)), name)));
  fs.rmSync(join(place, name));
  fs.writeFileSync(
    join(place, 'index', toHex(createHash('sha256').update(table).digest().toString('latin1'))),
    table,
  );
}

async function replaceManifest(
  place: string,
  change: (manifest: { nodes: object[] }) => object,
): Promise<void> {
  const [name] = (await objects(place, 'roots/')).keys();
  const path = join(place, name);
  fs.writeFileSync(path, JSON.stringify(change(JSON.parse(fs.readFileSync(path, 'utf8')))));
}

/** Every request for a block ends with an error that names the remote and what of it, and soon. */
async function expectFailure(place: string, links: Iterable<Link>, pattern: RegExp): Promise<void> {
  const reader = await newMachine(place);
  for (const link of links) {
    const parcels = (async () => {
      let bytes = 0;
      for await (const { records } of reader.remote.provider.get([link], { signal: never, urgent: true })) {
        bytes += records.length;
      }
      return bytes;
    })();
    const error = await errorOf(parcels);
    expect(error).toMatchObject({ code: 'CORRUPT' });
    expect(error.message).toMatch(pattern);
    expect(error.message).toContain(reader.storage.describe());
    await errorOf(reader.chain.get(link));
  }
}

describe('what a storage says', () => {
  it('of where a block is, when something else is there, is damage, and not a missing block', async () => {
    const { place, writer, root } = await setUp();
    const content = [...(await allLinks(writer.store, root))].filter((link) => linkCodec(link) !== DAG_CBOR);
    await replaceTable(place, ({ frames, ...rest }) => ({
      ...rest,
      frames: frames.map(() => frames[frames.length - 1]),
    }));
    await expectFailure(place, content.slice(0, 3), /packs\/[0-9a-f]{64}/);
  });

  it.each([
    ['beyond the end of its pack', { offset: 2 ** 40 }],
    ['larger than a frame can be', { length: 2 ** 40 }],
    ['of no bytes', { length: 0 }],
    ['in the middle of another', { offset: 17 }],
  ])('of a frame %s is damage', async (_, wrong) => {
    const { place, root } = await setUp();
    await replaceTable(place, ({ frames, ...rest }) => ({
      ...rest,
      frames: frames.map((frame) => ({ ...frame, ...wrong })),
    }));
    await expectFailure(place, [root], /packs\/[0-9a-f]{64}/);
  });

  it.each([
    ['that reach far beyond the end', { length: 2 ** 45 }],
    ['that begin in the middle of a frame', { offset: 17, length: 300 }],
    ['of a pack that is not there', { pack: '0'.repeat(64) }],
  ])('of ranges of nodes %s is a hint that costs nothing but time', async (_, wrong) => {
    const { place, root } = await setUp();
    await replaceManifest(place, ({ nodes, ...rest }) => ({
      ...rest,
      nodes: nodes.map((range) => ({ ...range, ...wrong })),
    }));
    await readWhole(place, root);
  });

  it('of a tree is not valid when it is too much, or not what it should be', async () => {
    const { writer, root } = await setUp();
    const manifest = { version: 1, nodes: [] as object[], pinned: false, time: 1 };
    const range = { pack: '0'.repeat(64), offset: 0, length: 1 };
    const read = (value: unknown) => decodeManifest(root, Buffer.from(JSON.stringify(value)), 'here');
    expect(read({ ...manifest, nodes: [range] }).nodes).toHaveLength(1);
    // A hint of what is no link is none.
    for (const order of ['', 'AAAA', '%%%', Buffer.alloc(66, 1).toString('base64')])
      expect(read({ ...manifest, order }).order).toEqual([]);
    const wrong = [
      null,
      [],
      { ...manifest, version: 2 },
      { ...manifest, nodes: [{ ...range, pack: 'x' }] },
      { ...manifest, nodes: [{ ...range, offset: -1 }] },
      { ...manifest, nodes: [{ ...range, length: 0.5 }] },
      { ...manifest, nodes: Array.from({ length: 100_000 }, () => range) },
      { ...manifest, time: 'now' },
      { ...manifest, order: [] },
    ];
    for (const value of wrong) {
      const error = await errorOf(() => read(value));
      expect(error).toMatchObject({ code: 'CORRUPT' });
      expect(error.message).toContain(`roots/${formatLink(root)}`);
    }
    for (const text of [
      '',
      '{',
      '{"version":1}',
      '{"version":1,"sequence":1,"snapshots":[{"root":"x","time":1,"by":"","message":""}]}',
    ]) {
      const error = await errorOf(() => decodeRef('main', Buffer.from(text), 'here'));
      expect(error).toMatchObject({ code: 'CORRUPT', hint: 'push it again with --force' });
      expect(error.message).toContain('refs/main');
    }
    await writer.remote.close();
  });

  it('of a name, when it is damaged, is replaced by a push with --force', async () => {
    const { place, writer, root, only } = await setUp();
    fs.writeFileSync(join(place, await only('refs/')), 'damage');
    expect(await errorOf(writer.push(root, 'main', { force: false }))).toMatchObject({ code: 'CORRUPT' });
    await writer.push(root, 'main', { force: true });
    expect((await writer.remote.ref('main', never))?.ref.snapshots[0].root).toBe(root);
  });

  it('of a tree, when it is damaged, is replaced by another push', async () => {
    const { place, writer, root, only } = await setUp();
    fs.writeFileSync(join(place, await only('roots/')), 'damage');
    await writer.push(root, 'main');
    await readWhole(place, root);
  });

  it('is not read whole when it is larger than it can be', async () => {
    const { place, writer, root, only } = await setUp();
    for (const prefix of ['refs/', 'roots/']) {
      const path = join(place, await only(prefix));
      const before = fs.readFileSync(path);
      // A sparse file: it takes no room, and would take all memory.
      fs.truncateSync(path, 3 * 2 ** 30);
      const { received } = writer.storage.traffic();
      const asked =
        prefix === 'refs/'
          ? writer.remote.ref('main', never)
          : (async () => {
              for await (const _ of writer.remote.provider.tree(root, { signal: never, have: [] }));
            })();
      expect(await errorOf(asked)).toMatchObject({ code: 'CORRUPT' });
      expect(writer.storage.traffic().received - received).toBeLessThan(128 << 20);
      fs.writeFileSync(path, before);
    }
    fs.truncateSync(join(place, await only('index/')), 3 * 2 ** 30);
    const other = await newMachine(place);
    const before = other.storage.traffic().received;
    expect((await other.remote.validate({ deep: false, signal: never })).some(({ ok }) => !ok)).toBe(true);
    expect(other.storage.traffic().received - before).toBeLessThan(200 << 20);
  });
});

describe('content with the bytes of a node', () => {
  // Tables do not say whether a block is content or a node: whoever looks for a node there finds either.
  it('is not taken for the node: what is below it is sent', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const inner = await writer.plant(directory({ below: file(pseudoRandom(3000, 5)) }));
    const outer = await writer.plant(directory({ copy: file(await writer.store.get(inner)) }));
    await writer.push(outer, 'first');
    await writer.push(inner, 'second');
    await readWhole(place, outer);
    await readWhole(place, inner);
  });
});

describe('a provider', () => {
  it('whose answer is no longer wanted asks for nothing more', async () => {
    const { place, writer, root } = await setUp();
    const links = [...(await allLinks(writer.store, root))];
    const reader = await newMachine(place);
    for await (const _ of reader.remote.provider.get(links, { signal: never, urgent: false })) break;
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    for (const ask of [
      () => reader.remote.provider.get(links, { signal: stop.signal, urgent: true }),
      () => reader.remote.provider.tree(root, { signal: stop.signal, have: [] }),
    ]) {
      const { requests } = reader.storage.traffic();
      const error = await errorOf(
        (async () => {
          for await (const _ of ask());
        })(),
      );
      expect(error.message).toBe('enough');
      expect(reader.storage.traffic().requests).toBe(requests);
    }
  });

  it('answers for each block once, also when packs go meanwhile', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const roots: Link[] = [];
    // Two packs: the first one is read, and the other one has gone.
    for (const seed of [1, 2]) {
      roots.push(await writer.plant(manyFiles(20, { perDirectory: 5, size: 3000, seed })));
      await writer.push(roots[roots.length - 1], 'main');
    }
    const reader = await newMachine(place);
    const links = new Set(
      (await Promise.all(roots.map((root) => allLinks(writer.store, root)))).flatMap((all) => [...all]),
    );
    // Its tables are known here from now on.
    for await (const _ of reader.remote.provider.get([roots[0]], { signal: never, urgent: false }));
    const packs = [...(await objects(place, 'packs/')).keys()].map((name) => join(place, name));
    const [stays] = packs;
    const kept = fs.readFileSync(stays);
    for (let i = 0; i < 2; i++) {
      age(place, 3 * HOUR);
      await writer.remote.collect({ graceMs: HOUR, signal: never });
    }
    expect(packs.filter((pack) => fs.existsSync(pack))).toEqual([]);
    fs.writeFileSync(stays, kept);
    const seen: string[] = [];
    for await (const { records, missing } of reader.remote.provider.get([...links], {
      signal: never,
      urgent: false,
    })) {
      expect(missing).toEqual([]);
      for (let at = 0; at < records.length; at += 52 + records.readUInt32LE(at + 12)) {
        seen.push(records.toString('latin1', at + 20, at + 52));
      }
    }
    expect(seen.sort()).toEqual([...links].map(linkDigest).sort());
  });

  it('sends what can be read before it fails', async () => {
    const place = await newPlace();
    const writer = await newMachine(place);
    const links: Link[] = [];
    for (const seed of [1, 2, 3]) {
      const root = await writer.plant(manyFiles(5, { perDirectory: 5, size: 3000, seed }));
      await writer.push(root, 'main');
      links.push(root);
    }
    const [pack] = (await objects(place, 'packs/')).keys();
    fs.truncateSync(join(place, pack), 20);
    const reader = await newMachine(place);
    let found = 0;
    const error = await errorOf(
      (async () => {
        for await (const { records } of reader.remote.provider.get(links, { signal: never, urgent: false })) {
          found += records.length > 0 ? 1 : 0;
        }
      })(),
    );
    expect(error).toMatchObject({ code: 'CORRUPT' });
    expect(found).toBe(2);
  });

  it('answers for each block once', async () => {
    const { place, writer, root } = await setUp();
    const links = [...(await allLinks(writer.store, root))];
    const absent = `\u0055${'x'.repeat(32)}` as Link;
    const reader = await newMachine(place);
    const missing: Link[] = [];
    let records = 0;
    for await (const parcel of reader.remote.provider.get([...links, absent], {
      signal: never,
      urgent: true,
    })) {
      missing.push(...parcel.missing);
      records += parcel.records.toString('latin1').split('LZR1').length - 1;
    }
    expect(missing).toEqual([absent]);
    expect(records).toBeGreaterThanOrEqual(new Set(links.map(linkDigest)).size);
  });
});
