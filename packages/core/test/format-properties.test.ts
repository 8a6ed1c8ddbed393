import {
  AVERAGE_CHUNK,
  chunkEnd,
  compareNames,
  createMemoryStore,
  DAG_CBOR,
  decodeDirectoryNode,
  decodeFileNode,
  decodeSnapshot,
  type Entry,
  encodeDirectory,
  encodeFile,
  encodeSnapshot,
  type FilePart,
  findEntry,
  formatLink,
  LazytreeError,
  type Link,
  linkTo,
  linkToCid,
  listDirectory,
  MAX_CHUNK,
  MIN_CHUNK,
  makeLink,
  nameFromBytes,
  nameToBytes,
  parseLink,
  RAW,
  type Snapshot,
} from '@lazytree/core';
import fc from 'fast-check';
import { base16, base16upper } from 'multiformats/bases/base16';
import { base32upper } from 'multiformats/bases/base32';
import { base36, base36upper } from 'multiformats/bases/base36';
import { base58btc } from 'multiformats/bases/base58';
import { base64url } from 'multiformats/bases/base64';
import { describe, expect, it } from 'vitest';
import { hashName } from '../dist/format/grouping.js';
import { errorOf, pseudoRandom, sha256 } from './helpers.js';

const bytesArbitrary = fc.oneof(
  fc.uint8Array({ maxLength: 30 }),
  fc.string({ unit: 'binary', maxLength: 20 }).map((text) => Buffer.from(text)),
  // Valid sequences, cut off ones, overlong ones and surrogates, next to one another.
  fc
    .array(
      fc.constantFrom(
        'c3a4',
        'e697a5',
        'f09f9880',
        'c3',
        'e697',
        'f09f98',
        'c0af',
        'eda080',
        'edb080',
        'f4908080',
        'ff',
        '61',
        'efbfbd',
        'efbbbf',
      ),
      { maxLength: 8 },
    )
    .map((parts) => Buffer.from(parts.join(''), 'hex')),
);

const BASES = [base16, base16upper, base32upper, base36, base36upper, base58btc, base64url];

describe('names', () => {
  it('hold every sequence of bytes', () => {
    fc.assert(
      fc.property(bytesArbitrary, (bytes) => {
        expect(nameToBytes(nameFromBytes(bytes)).equals(bytes)).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  it('are different for different bytes, and ordered as the bytes are', () => {
    fc.assert(
      fc.property(bytesArbitrary, bytesArbitrary, (a, b) => {
        const order = Math.sign(Buffer.compare(a, b));
        expect(Math.sign(compareNames(nameFromBytes(a), nameFromBytes(b)))).toBe(order);
        expect(nameFromBytes(a) === nameFromBytes(b)).toBe(order === 0);
      }),
      { numRuns: 3000 },
    );
  });
});

const linkArbitrary = (codec: typeof RAW | typeof DAG_CBOR): fc.Arbitrary<Link> =>
  fc
    .uint8Array({ minLength: 32, maxLength: 32 })
    .map((digest) => makeLink(codec, Buffer.from(digest).toString('latin1')));

const sizeArbitrary = fc.oneof(
  fc.nat(300),
  fc.nat(),
  fc.maxSafeNat().map((n) => Math.floor(n / 64)),
);
const nameArbitrary = fc
  .oneof(fc.uint8Array({ minLength: 1, maxLength: 255 }), bytesArbitrary)
  .map((bytes) => bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x5f : byte)))
  .map((bytes) => nameFromBytes(bytes))
  .filter((name) => name !== '' && name !== '.' && name !== '..');
const metadataArbitrary = fc.record({
  mode: fc.nat(0o1777),
  seconds: fc.oneof(fc.integer(), fc.maxSafeInteger()),
  nanoseconds: fc.nat(999_999_999),
});
const originText = fc.oneof(fc.string({ maxLength: 40 }), fc.string({ unit: 'grapheme', maxLength: 300 }));

const bodyArbitrary = fc.oneof(
  fc.record({
    kind: fc.constantFrom('file', 'executable'),
    link: linkArbitrary(RAW),
    size: fc.nat(MAX_CHUNK),
  }),
  fc.record({
    kind: fc.constantFrom('file', 'executable'),
    link: linkArbitrary(DAG_CBOR),
    size: sizeArbitrary,
  }),
  fc.record({
    kind: fc.constant('directory'),
    link: linkArbitrary(DAG_CBOR),
    size: sizeArbitrary,
    files: fc.nat(),
  }),
  fc.record({
    kind: fc.constant('symlink'),
    target: bytesArbitrary
      .filter((bytes) => bytes.length > 0 && !bytes.includes(0))
      .map((bytes) => nameFromBytes(bytes)),
  }),
  fc.record(
    {
      kind: fc.constant('origin'),
      of: fc.constant('directory'),
      driver: fc.constantFrom('npm', 'git', 'ä'),
      reference: originText,
      integrity: originText,
      plus: linkArbitrary(DAG_CBOR),
    },
    { requiredKeys: ['kind', 'of', 'driver', 'reference'] },
  ),
  fc.record(
    {
      kind: fc.constant('origin'),
      of: fc.constant('file'),
      driver: fc.constant('tar'),
      reference: originText,
      integrity: originText,
    },
    { requiredKeys: ['kind', 'of', 'driver', 'reference'] },
  ),
) as fc.Arbitrary<Omit<Entry, 'name'>>;

const entryArbitrary: fc.Arbitrary<Entry> = fc
  .tuple(nameArbitrary, bodyArbitrary, fc.option(metadataArbitrary, { nil: undefined }))
  .map(([name, body, metadata]) => ({ name, ...body, ...(metadata ? { metadata } : {}) }) as Entry);

const entriesArbitrary = fc
  .uniqueArray(entryArbitrary, { maxLength: 40, selector: ({ name }) => name })
  .map((entries) => entries.sort((a, b) => compareNames(a.name, b.name)));

describe('nodes are read as they were written', () => {
  it('directories', () => {
    fc.assert(
      fc.property(entriesArbitrary, (entries) => {
        const { nodes, size, files } = encodeDirectory(entries);
        expect(decodeDirectoryNode(nodes[0].bytes)).toEqual({ kind: 'leaf', entries, size, files });
      }),
      { numRuns: 500 },
    );
  });

  it('file nodes', () => {
    const part = fc.record({ link: linkArbitrary(RAW), size: fc.integer({ min: 1, max: MAX_CHUNK }) });
    fc.assert(
      fc.property(fc.array(part, { minLength: 2, maxLength: 50 }), (parts) => {
        const nodes = encodeFile(parts);
        const size = parts.reduce((sum, item) => sum + item.size, 0);
        expect(nodes).toHaveLength(1);
        expect(decodeFileNode(nodes[0].bytes)).toEqual({ level: 0, size, parts });
      }),
    );
  });

  it('snapshots', () => {
    const snapshot: fc.Arbitrary<Snapshot> = fc.record({
      root: linkArbitrary(DAG_CBOR),
      time: fc.maxSafeNat(),
      source: bytesArbitrary.map((bytes) => nameFromBytes(bytes)),
      message: fc.string({ unit: 'grapheme' }),
      parents: fc.array(linkArbitrary(DAG_CBOR), { maxLength: 5 }),
    });
    fc.assert(
      fc.property(snapshot, (value) => {
        expect(decodeSnapshot(encodeSnapshot(value).bytes)).toEqual(value);
      }),
    );
  });

  it('CIDs as text', () => {
    fc.assert(
      fc.property(fc.oneof(linkArbitrary(RAW), linkArbitrary(DAG_CBOR)), (link) => {
        expect(parseLink(formatLink(link))).toBe(link);
        for (const base of BASES) expect(parseLink(linkToCid(link).toString(base.encoder))).toBe(link);
      }),
    );
  });
});

describe('an encoder writes nothing that a decoder refuses', () => {
  const file = (name: string): Entry => ({
    kind: 'file',
    name,
    link: linkTo(RAW, Buffer.from('x')),
    size: 1,
  });
  const origin = { kind: 'origin', name: 'o', of: 'directory', driver: 'd', reference: 'r' } as const;
  const root = linkTo(DAG_CBOR, Buffer.from('root'));
  const snapshot = { root, time: 0, source: '', message: '', parents: [] };

  it.each<[string, Entry]>([
    ['a name of 256 bytes', file('x'.repeat(256))],
    ['a name of 256 bytes in 128 letters', file('ä'.repeat(128))],
    ['the name ..', file('..')],
    ['the name .', file('.')],
    ['an empty name', file('')],
    ['a name with a slash', file('a/b')],
    ['a name with a NUL', file('a\0b')],
    ['a target of 4096 bytes', { kind: 'symlink', name: 'l', target: 'x'.repeat(4096) }],
    ['an empty target', { kind: 'symlink', name: 'l', target: '' }],
    ['a target with a NUL', { kind: 'symlink', name: 'l', target: 'a\0b' }],
    ['a driver of 8193 bytes', { ...origin, driver: 'x'.repeat(8193) }],
    ['an empty driver', { ...origin, driver: '' }],
    ['a reference of 8193 bytes', { ...origin, reference: 'x'.repeat(8193) }],
    ['an integrity of 8193 bytes', { ...origin, integrity: 'x'.repeat(8193) }],
    ['a file with entries laid over it', { ...origin, of: 'file', plus: root }],
  ])('directory: %s', async (_, entry) => {
    const error = await errorOf(() => decodeDirectoryNode(encodeDirectory([entry]).nodes[0].bytes));
    expect(error, 'the encoder has to refuse it, not the decoder').toMatchObject({ code: 'UNSUPPORTED' });
  });

  it.each<[string, Snapshot]>([
    ['a message of 65537 bytes', { ...snapshot, message: 'x'.repeat(65537) }],
    ['a source of 65537 bytes', { ...snapshot, source: 'x'.repeat(65537) }],
    ['65 parents', { ...snapshot, parents: Array(65).fill(root) }],
  ])('snapshot: %s', async (_, value) => {
    const error = await errorOf(() => decodeSnapshot(encodeSnapshot(value).bytes));
    expect(error).toBeInstanceOf(LazytreeError);
    expect(error.code, 'the encoder has to refuse it, not the decoder').not.toBe('INVALID_NODE');
  });

  /** `count` shards of 256 entries, whose last name makes a cut and whose first name makes none. */
  function shards(count: number): Entry[] {
    const link = linkTo(RAW, Buffer.from('x'));
    const entries: Entry[] = [];
    for (let shard = 0; shard < count; shard++) {
      const prefix = String(shard).padStart(5, '0');
      const named = (middle: string, wanted: (hash: number) => boolean): string => {
        for (let i = 0; ; i++) {
          const name = `${prefix}-${middle}${i.toString(36)}`;
          if (wanted(hashName(name) & 1023)) return name;
        }
      };
      entries.push({
        kind: 'file',
        name: named(`000${'f'.repeat(230)}`, (hash) => hash !== 0),
        link,
        size: 1,
      });
      for (let i = 1; i < 255; i++)
        entries.push({ kind: 'file', name: `${prefix}-${String(i).padStart(3, '0')}`, link, size: 1 });
      entries.push({ kind: 'file', name: named('255', (hash) => hash === 0), link, size: 1 });
    }
    return entries;
  }

  it('a directory of several levels, and none of its nodes is beyond the limit of a block', async () => {
    const entries = shards(4200);
    const { link, nodes, files } = encodeDirectory(entries);
    expect(files).toBe(entries.length);
    const largest = Math.max(...nodes.map(({ bytes }) => bytes.length));
    const top = decodeDirectoryNode(nodes[nodes.length - 1].bytes);
    expect(top).toMatchObject({ kind: 'index', level: 2 });
    expect(largest).toBeLessThanOrEqual(1 << 20);

    const store = createMemoryStore();
    for (const node of nodes) await store.put(node);
    expect(await findEntry(store, link, entries[777_777].name)).toEqual(entries[777_777]);
    const listed = await listDirectory(store, link);
    expect(listed.length).toBe(entries.length);
    expect(listed.every(({ name }, i) => name === entries[i].name)).toBe(true);
  });
});

describe('an edit changes few nodes', () => {
  const names = Array.from({ length: 50_000 }, (_, i) => `f${sha256(String(i)).slice(0, 12)}`).sort();
  const entry = (name: string, content = name): Entry => ({
    kind: 'file',
    name,
    link: linkTo(RAW, Buffer.from(content)),
    size: content.length,
  });
  const before = names.map((name) => entry(name));
  const known = new Set(encodeDirectory(before).nodes.map(({ link }) => link));
  const changed = (entries: Entry[]) =>
    encodeDirectory(entries).nodes.filter(({ link }) => !known.has(link)).length;

  it('of one entry of a large directory', () => {
    fc.assert(
      fc.property(fc.nat(names.length - 1), (at) => {
        expect(changed(before.with(at, entry(names[at], 'new content')))).toBeLessThanOrEqual(2);
      }),
      { numRuns: 5 },
    );
  });

  it('removing and adding an entry', () => {
    fc.assert(
      fc.property(fc.nat(names.length - 1), fc.stringMatching(/^f[0-9a-f]{6}$/), (at, name) => {
        expect(changed(before.toSpliced(at, 1))).toBeLessThanOrEqual(6);
        const with1 = [...before, entry(name)].sort((a, b) => compareNames(a.name, b.name));
        expect(changed(with1)).toBeLessThanOrEqual(6);
      }),
      { numRuns: 5 },
    );
  });

  it('near the start of a long list of chunks', () => {
    const chunk = (text: string): FilePart => ({ link: linkTo(RAW, Buffer.from(text)), size: 65_536 });
    const parts = Array.from({ length: 50_000 }, (_, i) => chunk(`chunk ${i}`));
    const nodes = encodeFile(parts);
    const old = new Set(nodes.map(({ link }) => link));
    expect(nodes.length).toBeGreaterThan(20);
    for (const edited of [
      parts.toSpliced(3, 0, chunk('new')),
      parts.toSpliced(3, 1),
      parts.with(3, chunk('other')),
    ]) {
      expect(encodeFile(edited).filter(({ link }) => !old.has(link)).length).toBeLessThanOrEqual(6);
    }
  });
});

describe('chunks', () => {
  function cut(bytes: Uint8Array): Uint8Array[] {
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; ) {
      const end = chunkEnd(bytes, at, bytes.length);
      chunks.push(bytes.subarray(at, end));
      at = end;
    }
    return chunks;
  }

  const content = fc.oneof(
    fc.tuple(fc.nat(1 << 20), fc.nat(1000)).map(([size, seed]) => pseudoRandom(size, seed)),
    fc
      .tuple(fc.nat(1 << 20), fc.uint8Array({ minLength: 1, maxLength: 40 }))
      .map(([size, fill]) => Buffer.alloc(size, fill)),
  );

  it('are the content, and of the sizes that the format says', () => {
    fc.assert(
      fc.property(content, (bytes) => {
        const chunks = cut(bytes);
        expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
        chunks.forEach(({ length }, i) => {
          expect(length).toBeLessThanOrEqual(MAX_CHUNK);
          if (i + 1 < chunks.length) expect(length).toBeGreaterThan(MIN_CHUNK);
        });
      }),
      { numRuns: 100 },
    );
  });

  it('are of about the average size', () => {
    const count = cut(pseudoRandom(32 << 20, 7)).length;
    const average = (32 << 20) / count;
    expect(average).toBeGreaterThan(AVERAGE_CHUNK * 0.75);
    expect(average).toBeLessThan(AVERAGE_CHUNK * 1.5);
  });

  it('are the same again soon after an insertion or a deletion', () => {
    const bytes = pseudoRandom(4 << 20, 8);
    const digests = (content: Uint8Array) => cut(content).map((chunk) => sha256(chunk));
    const old = new Set(digests(bytes));
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 3000 }), fc.nat(bytes.length), (inserted, at) => {
        const edited = Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at)]);
        expect(digests(edited).filter((digest) => !old.has(digest)).length).toBeLessThanOrEqual(8);
        expect(
          digests(bytes.subarray(inserted.length)).filter((digest) => !old.has(digest)).length,
        ).toBeLessThanOrEqual(8);
      }),
      { numRuns: 20 },
    );
  });
});
