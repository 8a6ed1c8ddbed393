import * as dagCbor from '@ipld/dag-cbor';
import {
  createMemoryStore,
  DAG_CBOR,
  decodeDirectoryNode,
  decodeFileNode,
  decodeSnapshot,
  diffTrees,
  type Entry,
  encodeDirectory,
  encodeFile,
  encodeSnapshot,
  exportTree,
  findEntry,
  InvalidNodeError,
  LazytreeError,
  type Link,
  linkTo,
  linkToCid,
  listDirectory,
  nameFromBytes,
  RAW,
  readFile,
  verifyTree,
  walkTree,
} from '@lazytree/core';
import fc from 'fast-check';
import { CID } from 'multiformats/cid';
import { identity } from 'multiformats/hashes/identity';
import { describe, expect, it } from 'vitest';
import { collect, errorOf, pseudoRandom, temporaryDirectory } from './helpers.js';

const decoders = { directory: decodeDirectoryNode, file: decodeFileNode, snapshot: decodeSnapshot };
type Kind = keyof typeof decoders;

/** The value as @ipld/dag-cbor writes it, from what our decoder made of it. */
function writeAgain(kind: Kind, bytes: Uint8Array): Uint8Array {
  const cid = (link: Link) => linkToCid(link);
  if (kind === 'snapshot') {
    const { root, time, source, message, parents } = decodeSnapshot(bytes);
    return encodeSnapshot({ root, time, source, message, parents }).bytes;
  }
  if (kind === 'file') {
    const { level, size, parts } = decodeFileNode(bytes);
    return dagCbor.encode({ size, level, parts: parts.map((part) => [cid(part.link), part.size]) });
  }
  const node = decodeDirectoryNode(bytes);
  if (node.kind === 'leaf') return encodeDirectory(node.entries).nodes[0].bytes;
  // Names that are not UTF-8 are rare enough in indexes here to be left to the leaves.
  if (node.shards.some(({ first }) => !first.isWellFormed())) return bytes;
  const { size, files, level, shards } = node;
  return dagCbor.encode({
    size,
    files,
    level,
    shards: shards.map((shard) => [shard.first, cid(shard.link), shard.size, shard.files, shard.count]),
  });
}

/** Whatever the input: one of our errors, or a value whose one encoding this is. */
function check(kind: Kind, bytes: Uint8Array): boolean {
  const copy = Uint8Array.from(bytes);
  try {
    decoders[kind](bytes);
  } catch (error) {
    if (!(error instanceof InvalidNodeError)) throw error;
    expect(error.message).toMatch(/^invalid node: [^\n]*/);
    return false;
  }
  expect(Buffer.compare(bytes, copy), 'a decoder leaves its input alone').toBe(0);
  expect(
    Buffer.compare(writeAgain(kind, bytes), bytes),
    Buffer.from(bytes.subarray(0, 2000)).toString('hex'),
  ).toBe(0);
  return true;
}

function checkAll(bytes: Uint8Array): void {
  for (const kind of Object.keys(decoders) as Kind[]) check(kind, bytes);
}

const raw = (text: string): Link => linkTo(RAW, Buffer.from(text));
const node = (text: string): Link => linkTo(DAG_CBOR, Buffer.from(text));
const metadata = { mode: 0o640, seconds: -5, nanoseconds: 123_456_789 };

const entries: Entry[] = [
  { kind: 'directory', name: 'dir', link: node('dir'), size: 2 ** 40 + 1, files: 70_000 },
  { kind: 'executable', name: 'exe', link: raw('exe'), size: 24 },
  { kind: 'file', name: 'file', link: raw('file'), size: 255, metadata },
  { kind: 'file', name: 'file-large', link: node('file'), size: 5_000_000_000 },
  {
    kind: 'origin',
    name: 'origin',
    of: 'directory',
    driver: 'npm',
    reference: 'react@19',
    plus: node('plus'),
  },
  {
    kind: 'origin',
    name: 'origin2',
    of: 'file',
    driver: 'tar',
    reference: 'x',
    integrity: 'sha512-x',
    metadata,
  },
  { kind: 'symlink', name: 'symlink', target: '../else/where' },
  {
    kind: 'symlink',
    name: nameFromBytes(Buffer.from([0xe4, 0x2e])),
    target: nameFromBytes(Buffer.from([0xff])),
    metadata,
  },
];
const manyEntries = Array.from(
  { length: 3000 },
  (_, i): Entry => ({
    kind: 'file',
    name: `f${String(i).padStart(4, '0')}`,
    link: raw(String(i)),
    size: i,
  }),
);
const parts = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ link: raw(`${i}`), size: 20_000 + i }));

const valid: [Kind, Buffer][] = [
  ['directory', encodeDirectory([]).nodes[0].bytes],
  ['directory', encodeDirectory(entries).nodes[0].bytes],
  ['directory', encodeDirectory(manyEntries).nodes.at(-1)?.bytes as Buffer],
  ['file', encodeFile(parts(3))[0].bytes],
  ['file', encodeFile(parts(5000)).at(-1)?.bytes as Buffer],
  [
    'snapshot',
    encodeSnapshot({ root: node('r'), time: 1e12, source: 's', message: 'm', parents: [node('p')] }).bytes,
  ],
  [
    'snapshot',
    encodeSnapshot({
      root: node('r'),
      time: 0,
      source: nameFromBytes(Buffer.from([0xff])),
      message: '',
      parents: [],
    }).bytes,
  ],
];

describe('decoders', () => {
  it('accept what the encoders write', () => {
    for (const [kind, bytes] of valid) expect(check(kind, bytes)).toBe(true);
  });

  it('withstand every single byte changed to every edge value', () => {
    for (const [kind, bytes] of valid) {
      const step = Math.max(1, Math.floor(bytes.length / 600));
      for (let at = 0; at < bytes.length; at += step) {
        for (let bit = 0; bit < 8; bit++) {
          const mutated = Buffer.from(bytes);
          mutated[at] ^= 1 << bit;
          check(kind, mutated);
        }
        for (const value of [
          0x00, 0x1b, 0x3b, 0x5b, 0x5f, 0x7b, 0x7f, 0x9b, 0x9f, 0xbb, 0xbf, 0xdb, 0xf6, 0xf9, 0xfb, 0xff,
        ]) {
          const mutated = Buffer.from(bytes);
          mutated[at] = value;
          check(kind, mutated);
        }
      }
    }
  });

  it('withstand truncation at every byte, and anything appended', () => {
    for (const [kind, bytes] of valid) {
      const step = Math.max(1, Math.floor(bytes.length / 1500));
      for (let at = 0; at < bytes.length; at += step) expect(check(kind, bytes.subarray(0, at))).toBe(false);
      expect(check(kind, Buffer.concat([bytes, Buffer.of(0)]))).toBe(false);
      expect(check(kind, Buffer.concat([bytes, bytes]))).toBe(false);
    }
  });

  it('withstand random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => checkAll(bytes)),
      { numRuns: 3000 },
    );
    for (let seed = 0; seed < 20; seed++) checkAll(pseudoRandom(1 << 16, seed));
    // A valid beginning makes a decoder go on for longer.
    fc.assert(
      fc.property(
        fc.nat(valid.length - 1),
        fc.nat(400),
        fc.uint8Array({ maxLength: 60 }),
        (which, at, tail) => {
          const [kind, bytes] = valid[which];
          check(kind, Buffer.concat([bytes.subarray(0, at), tail]));
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('withstand pieces duplicated, dropped and moved', () => {
    fc.assert(
      fc.property(
        fc.nat(valid.length - 1),
        fc.nat(2000),
        fc.nat(200),
        fc.nat(2000),
        (which, from, length, to) => {
          const [kind, bytes] = valid[which];
          const piece = bytes.subarray(from % bytes.length, (from % bytes.length) + length);
          const at = to % bytes.length;
          check(kind, Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]));
          check(kind, Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]));
          check(kind, Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at + length)]));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('allocate nothing for lengths that the input cannot have', () => {
    const lengths = [
      '1a7fffffff',
      '1affffffff',
      '1b0000000100000000',
      '1b001fffffffffffff',
      '1bffffffffffffffff',
      '1903e8',
      '1f',
    ];
    const prefixes: [string, number][] = [
      ['', 0x80],
      ['', 0xa0],
      ['', 0x40],
      ['', 0x60],
      ['a363646972', 0x80],
      ['a36364697281', 0x80],
      ['a3636469728184', 0x60],
      ['a3636469728184', 0x40],
      ['a46473697a650065', 0x60],
      ['a46473697a650065666961657300656c6576656c0166736861726473', 0x80],
      ['a36473697a6500656c6576656c00657061727473', 0x80],
    ];
    const before = process.memoryUsage();
    for (const [prefix, type] of prefixes) {
      for (const length of lengths) {
        const head = Buffer.from(length, 'hex');
        head[0] |= type;
        checkAll(Buffer.concat([Buffer.from(prefix, 'hex'), head]));
        checkAll(Buffer.concat([Buffer.from(prefix, 'hex'), head, Buffer.alloc(1000, 0x80)]));
      }
    }
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(64 << 20);
    expect(after.heapUsed - before.heapUsed).toBeLessThan(256 << 20);
  });

  it('refuse a megabyte and more', async () => {
    const large = dagCbor.encode({
      dir: Array.from({ length: 40_000 }, (_, i) => [`${i}`, 2, 'x'.repeat(20)]),
      size: 0,
      files: 0,
    });
    expect(large.length).toBeGreaterThan(1 << 20);
    expect(await errorOf(() => decodeDirectoryNode(large))).toBeInstanceOf(InvalidNodeError);
    expect(await errorOf(() => decodeFileNode(Buffer.alloc(50 << 20)))).toBeInstanceOf(InvalidNodeError);
  });

  it('withstand deep nesting', () => {
    for (const byte of [0x81, 0xa1, 0xc1, 0xd8]) checkAll(Buffer.alloc(1 << 20, byte));
    checkAll(Buffer.concat([Buffer.from('a363646972', 'hex'), Buffer.alloc(1 << 19, 0x81)]));
  });
});

const cid = (link: Link) => linkToCid(link);
const c = cid(raw('x'));
const d = cid(node('x'));
const leaf = (dir: unknown[], size = 0, files = 0) => ({ dir, size, files });
const index = (shards: unknown[], { size = 0, files = 0, level = 1 } = {}) => ({
  size,
  files,
  level,
  shards,
});
const named = (name: string | Uint8Array) => leaf([[name, 0, c, 1]], 1, 1);
const textNode = (size: number, level: number, list: unknown[]) => ({ size, level, parts: list });
const snapshot = { root: d, time: 0, source: '', message: '', parents: [] as unknown[] };

describe('well-formed CBOR that is no node', () => {
  const cases: [string, Kind, unknown][] = [
    [
      'entries out of order',
      'directory',
      leaf(
        [
          ['b', 0, c, 1],
          ['a', 0, c, 1],
        ],
        2,
        2,
      ),
    ],
    [
      'an entry twice',
      'directory',
      leaf(
        [
          ['a', 0, c, 1],
          ['a', 0, c, 1],
        ],
        2,
        2,
      ),
    ],
    [
      'UTF-16 order instead of byte order',
      'directory',
      leaf(
        [
          ['😀', 0, c, 1],
          ['\uffee', 0, c, 1],
        ],
        2,
        2,
      ),
    ],
    [
      'bytes that sort before text',
      'directory',
      leaf(
        [
          ['a', 0, c, 1],
          [Buffer.from([0x41, 0xff]), 0, c, 1],
        ],
        2,
        2,
      ),
    ],
    ["the name '.'", 'directory', named('.')],
    ["the name '..'", 'directory', named('..')],
    ["the name 'a/b'", 'directory', named('a/b')],
    ["the name '/'", 'directory', named('/')],
    ["the name '../x'", 'directory', named('../x')],
    ['an empty name', 'directory', named('')],
    ['an empty name of bytes', 'directory', named(Buffer.alloc(0))],
    ['a name with NUL', 'directory', named('a\0')],
    ['bytes with NUL', 'directory', named(Buffer.from([0xff, 0]))],
    ['bytes with a slash', 'directory', named(Buffer.from([0xff, 0x2f, 0x61]))],
    ['bytes that are valid UTF-8', 'directory', named(Buffer.from('abc'))],
    ['the name .. as bytes', 'directory', named(Buffer.from('..'))],
    ['a name of 256 bytes', 'directory', named('x'.repeat(256))],
    ['a name that is a number', 'directory', leaf([[1, 0, c, 1]], 1, 1)],
    ['a name that is null', 'directory', leaf([[null, 0, c, 1]], 1, 1)],
    ['an unknown kind', 'directory', leaf([['a', 5, c, 1]], 1, 1)],
    ['a kind of -1', 'directory', leaf([['a', -1, c, 1]], 1, 1)],
    ['a kind of 1.5', 'directory', leaf([['a', 1.5, c, 1]], 1, 1)],
    ['too few fields', 'directory', leaf([['a', 0, c]], 0, 1)],
    ['too many fields', 'directory', leaf([['a', 0, c, 1, [0, 0, 0], 0]], 1, 1)],
    ['no fields', 'directory', leaf([[]])],
    ['an entry that is a map', 'directory', leaf([{ name: 'a' }])],
    ['an entry that is text', 'directory', leaf(['a'])],
    ['a size of -1', 'directory', leaf([['a', 0, c, -1]], 0, 1)],
    ['a size of 2^53', 'directory', leaf([['a', 0, d, 2n ** 53n]], 0, 1)],
    ['a size of 2^64-1', 'directory', leaf([['a', 0, d, 2n ** 64n - 1n]], 0, 1)],
    ['a size that is a float', 'directory', leaf([['a', 0, d, 0.5]], 0.5 as number, 1)],
    [
      'sizes that overflow together',
      'directory',
      leaf(
        [
          ['a', 0, d, 2 ** 53 - 1],
          ['b', 0, d, 2 ** 53 - 1],
        ],
        2 ** 53 - 1,
        2,
      ),
    ],
    ['one chunk beyond the largest', 'directory', leaf([['a', 0, c, 262_145]], 262_145, 1)],
    ['a wrong total of bytes', 'directory', leaf([['a', 0, c, 1]], 2, 1)],
    ['a wrong total of files', 'directory', leaf([['a', 0, c, 1]], 1, 2)],
    ['a directory whose CID is raw', 'directory', leaf([['a', 3, c, 0, 0]])],
    ['a directory without a count of files', 'directory', leaf([['a', 3, d, 0]])],
    ['a link that is text', 'directory', leaf([['a', 0, c.toString(), 1]], 1, 1)],
    ['a link that is null', 'directory', leaf([['a', 0, null, 1]], 1, 1)],
    ['a link with another codec', 'directory', leaf([['a', 0, CID.createV1(0x70, c.multihash), 1]], 1, 1)],
    [
      'a link with another hash',
      'directory',
      leaf([['a', 0, CID.createV1(0x55, identity.digest(Buffer.alloc(32))), 1]], 1, 1),
    ],
    ['a CIDv0', 'directory', leaf([['a', 0, CID.createV0(c.multihash as never), 1]], 1, 1)],
    ['a symlink without a target', 'directory', leaf([['a', 2, '']])],
    ['a symlink to NUL', 'directory', leaf([['a', 2, 'x\0y']])],
    ['a symlink of 4096 bytes', 'directory', leaf([['a', 2, 'x'.repeat(4096)]])],
    ['a symlink to a link', 'directory', leaf([['a', 2, c]])],
    ['a symlink to UTF-8 as bytes', 'directory', leaf([['a', 2, Buffer.from('x')]])],
    ['a mode of 04755', 'directory', leaf([['a', 0, c, 1, [0o4755, 0, 0]]], 1, 1)],
    ['a huge mode', 'directory', leaf([['a', 0, c, 1, [2 ** 32 + 0o755, 0, 0]]], 1, 1)],
    ['a billion nanoseconds', 'directory', leaf([['a', 0, c, 1, [0o755, 0, 1e9]]], 1, 1)],
    ['metadata of two', 'directory', leaf([['a', 0, c, 1, [0o755, 0]]], 1, 1)],
    ['metadata that is null', 'directory', leaf([['a', 0, c, 1, null]], 1, 1)],
    ['an origin of a symlink', 'directory', leaf([['a', 4, 2, 'npm', 'x', null, null]])],
    ['an origin without a driver', 'directory', leaf([['a', 4, 3, '', 'x', null, null]])],
    ['an origin with a raw plus', 'directory', leaf([['a', 4, 3, 'npm', 'x', null, c]])],
    ['an origin file with plus', 'directory', leaf([['a', 4, 0, 'npm', 'x', null, d]])],
    ['an origin with undefined in it', 'directory', leaf([['a', 4, 3, 'npm', 'x', false, null]])],
    ['an origin of 9000 bytes', 'directory', leaf([['a', 4, 3, 'npm', 'x'.repeat(9000), null, null]])],
    ['a field too many', 'directory', { ...leaf([]), zzzzzz: 0 }],
    ['a field less', 'directory', { dir: [], size: 0 }],
    ['other field names', 'directory', { Dir: [], size: 0, files: 0 }],
    ['a list', 'directory', [[], 0, 0]],
    ['null', 'directory', null],
    ['a number', 'directory', 3],
    ['text', 'directory', 'dir'],
    ['an index without shards', 'directory', index([])],
    ['an index of level 0', 'directory', index([['a', d, 0, 0, 1]], { level: 0 })],
    ['an index of level 9', 'directory', index([['a', d, 0, 0, 1]], { level: 9 })],
    [
      'shards out of order',
      'directory',
      index([
        ['b', d, 0, 0, 1],
        ['a', d, 0, 0, 1],
      ]),
    ],
    [
      'a shard twice',
      'directory',
      index([
        ['a', d, 0, 0, 1],
        ['a', d, 0, 0, 1],
      ]),
    ],
    ['an empty shard', 'directory', index([['a', d, 0, 0, 0]])],
    ['a raw shard', 'directory', index([['a', c, 0, 0, 1]])],
    ['a shard named ..', 'directory', index([['..', d, 0, 0, 1]])],
    ['a shard without a count', 'directory', index([['a', d, 0, 0]])],
    ['a wrong total over shards', 'directory', index([['a', d, 5, 1, 1]], { size: 4, files: 1 })],
    ['a file without parts', 'file', textNode(0, 0, [])],
    ['parts that are nodes at level 0', 'file', textNode(1, 0, [[d, 1]])],
    ['parts that are chunks at level 1', 'file', textNode(1, 1, [[c, 1]])],
    [
      'an empty part',
      'file',
      textNode(1, 0, [
        [c, 1],
        [c, 0],
      ]),
    ],
    ['a part beyond the largest chunk', 'file', textNode(262_145, 0, [[c, 262_145]])],
    [
      'a wrong size',
      'file',
      textNode(3, 0, [
        [c, 1],
        [c, 1],
      ]),
    ],
    ['level 9', 'file', textNode(1, 9, [[d, 1]])],
    ['level -1', 'file', textNode(1, -1, [[d, 1]])],
    ['a part of three', 'file', textNode(1, 0, [[c, 1, 1]])],
    ['a part of one', 'file', textNode(1, 0, [[c]])],
    [
      'sizes that overflow together',
      'file',
      textNode(2 ** 53 - 1, 1, [
        [d, 2 ** 53 - 1],
        [d, 2 ** 53 - 1],
      ]),
    ],
    ['a field too many', 'file', { ...textNode(1, 0, [[c, 1]]), zzzzzz: 1 }],
    ['a raw root', 'snapshot', { ...snapshot, root: c }],
    ['a raw parent', 'snapshot', { ...snapshot, parents: [c] }],
    ['65 parents', 'snapshot', { ...snapshot, parents: Array(65).fill(d) }],
    ['a time before 1970', 'snapshot', { ...snapshot, time: -1 }],
    ['a time that is text', 'snapshot', { ...snapshot, time: 'now' }],
    ['a message of 65537 bytes', 'snapshot', { ...snapshot, message: 'x'.repeat(65537) }],
    ['no message', 'snapshot', { root: d, time: 0, source: '', parents: [] }],
    ['a field too many', 'snapshot', { ...snapshot, zzzzzzzzz: 0 }],
  ];

  it.each(cases)('%s (%s)', (_, kind, value) => {
    expect(check(kind, dagCbor.encode(value))).toBe(false);
  });

  it('while the same shapes, filled in rightly, are nodes', () => {
    expect(check('directory', dagCbor.encode(named('a')))).toBe(true);
    expect(check('directory', dagCbor.encode(leaf([['a', 4, 3, 'npm', 'x', null, d]])))).toBe(true);
    expect(check('directory', dagCbor.encode(index([['a', d, 5, 1, 1]], { size: 5, files: 1 })))).toBe(true);
    expect(
      check(
        'file',
        dagCbor.encode(
          textNode(2, 0, [
            [c, 1],
            [c, 1],
          ]),
        ),
      ),
    ).toBe(true);
    expect(check('snapshot', dagCbor.encode({ ...snapshot, parents: [d] }))).toBe(true);
  });

  it.each([
    ['a list of indefinite length', 'bf63646972', '9fff'],
    ['a map of indefinite length', 'bf', '63646972806473697a65006566696c657300ff'],
    ['text of indefinite length', 'a37f63646972ff', '806473697a65006566696c657300'],
    ['a key in two bytes of length', 'a3780363646972'.replace('7803', '7803'), '6473697a65006566696c657300'],
    ['a count in two bytes', 'a3636469729800', '6473697a65006566696c657300'],
    ['a size in two bytes', 'a363646972806473697a651800', '6566696c657300'],
    ['a size in nine bytes', 'a363646972806473697a651b0000000000000000', '6566696c657300'],
    ['a size that is a float', 'a363646972806473697a65f90000', '6566696c657300'],
    ['a size that is -0.0', 'a363646972806473697a65fb8000000000000000', '6566696c657300'],
    ['a size that is a bignum', 'a363646972806473697a65c240', '6566696c657300'],
    ['a tag around it all', 'd9d9f7a363646972806473697a65', '006566696c657300'],
    ['a tag around a size', 'a363646972806473697a65c000', '6566696c657300'],
    ['keys in another order', 'a36473697a650063646972806566696c657300', ''],
    ['a key twice', 'a36364697280636469728065', '66696c657300'],
  ])('%s', (_, head, tail) => {
    expect(check('directory', Buffer.from(head + tail, 'hex'))).toBe(false);
    expect(
      check('directory', Buffer.from('a363646972806473697a65006566696c657300', 'hex')),
      'as it should be',
    ).toBe(true);
  });

  it('a leaf of more entries than any encoder puts in one', async () => {
    const crowd = Array.from({ length: 5000 }, (_, i) => [`f${String(i).padStart(4, '0')}`, 0, c, 1]);
    const bytes = dagCbor.encode(leaf(crowd, 5000, 5000));
    expect(await errorOf(() => decodeDirectoryNode(bytes))).toBeInstanceOf(InvalidNodeError);
  });
});

describe('nodes that are valid alone and lie about others', () => {
  async function storeOf(...values: unknown[]) {
    const store = createMemoryStore();
    await store.put({ link: raw('x'), bytes: Buffer.from('x') });
    const links: Link[] = [];
    for (const value of values) {
      const bytes = dagCbor.encode(value);
      links.push(linkTo(DAG_CBOR, bytes));
      await store.put({ link: links[links.length - 1], bytes });
    }
    return { store, links };
  }

  /** A node that refers to ones made before it. */
  async function grow(count: number, make: (below: CID | undefined, i: number) => unknown) {
    const store = createMemoryStore();
    let link: Link | undefined;
    for (let i = 0; i < count; i++) {
      const bytes = dagCbor.encode(make(link && cid(link), i));
      link = linkTo(DAG_CBOR, bytes);
      await store.put({ link, bytes });
    }
    return { store, root: link as Link };
  }

  it.each([
    ['another first name', ['b', 1, 1, 1]],
    ['another size', ['a', 2, 1, 1]],
    ['another number of files', ['a', 1, 2, 1]],
    ['another count', ['a', 1, 1, 2]],
  ] as const)('a shard with %s', async (_, [first, size, files, count]) => {
    const { store, links } = await storeOf(named('a'));
    const top = dagCbor.encode(index([[first, cid(links[0]), size, files, count]], { size, files }));
    const root = linkTo(DAG_CBOR, top);
    await store.put({ link: root, bytes: top });
    expect(await errorOf(listDirectory(store, root))).toBeInstanceOf(InvalidNodeError);
    expect(await errorOf(findEntry(store, root, first))).toBeInstanceOf(InvalidNodeError);
    expect((await verifyTree(store, { link: root, name: 'x' })).bad).not.toEqual([]);
  });

  it('a shard that overlaps the next one', async () => {
    const { store, links } = await storeOf(
      leaf(
        [
          ['a', 0, c, 1],
          ['c', 0, c, 1],
        ],
        2,
        2,
      ),
      leaf([['b', 0, c, 1]], 1, 1),
    );
    const shards = [
      ['a', cid(links[0]), 2, 2, 2],
      ['b', cid(links[1]), 1, 1, 1],
    ];
    const top = dagCbor.encode(index(shards, { size: 3, files: 3 }));
    const root = linkTo(DAG_CBOR, top);
    await store.put({ link: root, bytes: top });
    expect(await errorOf(listDirectory(store, root))).toBeInstanceOf(InvalidNodeError);
    expect((await verifyTree(store, { link: root, name: 'x' })).bad).not.toEqual([]);
  });

  it('a shard that overlaps the next one across indexes of two levels', async () => {
    const store = createMemoryStore();
    const put = async (value: unknown) => {
      const bytes = dagCbor.encode(value);
      const link = linkTo(DAG_CBOR, bytes);
      await store.put({ link, bytes });
      return cid(link);
    };
    const left = await put(
      leaf(
        [
          ['a', 0, c, 1],
          ['z', 0, c, 1],
        ],
        2,
        2,
      ),
    );
    const right = await put(
      leaf(
        [
          ['b', 0, c, 1],
          ['z', 0, c, 1],
        ],
        2,
        2,
      ),
    );
    const leftIndex = await put(index([['a', left, 2, 2, 2]], { size: 2, files: 2 }));
    const rightIndex = await put(index([['b', right, 2, 2, 2]], { size: 2, files: 2 }));
    const top = index(
      [
        ['a', leftIndex, 2, 2, 2],
        ['b', rightIndex, 2, 2, 2],
      ],
      { size: 4, files: 4, level: 2 },
    );
    const root = linkTo(DAG_CBOR, dagCbor.encode(top));
    await put(top);
    expect(await errorOf(listDirectory(store, root))).toBeInstanceOf(InvalidNodeError);
  });

  it('an index whose shard is an index of the same level', async () => {
    const { store, root } = await grow(3, (below, i) =>
      i === 0 ? named('a') : index([['a', below, 1, 1, 1]], { size: 1, files: 1, level: 1 }),
    );
    expect(await errorOf(listDirectory(store, root))).toBeInstanceOf(InvalidNodeError);
    expect(await errorOf(findEntry(store, root, 'a'))).toBeInstanceOf(InvalidNodeError);
  });

  it('a directory whose size, or number of files, is not that of the one above', async () => {
    const { store, links } = await storeOf(named('a'));
    const top = dagCbor.encode(leaf([['d', 3, cid(links[0]), 1000, 50]], 1000, 50));
    const root = linkTo(DAG_CBOR, top);
    await store.put({ link: root, bytes: top });
    expect((await verifyTree(store, { link: root, name: 'x' })).bad).not.toEqual([]);
  });

  it('a file node with another size than its entry', async () => {
    const chunk = Buffer.from('0123456789');
    const link = linkTo(RAW, chunk);
    const { store, links } = await storeOf(
      textNode(20, 0, [
        [cid(link), 10],
        [cid(link), 10],
      ]),
    );
    await store.put({ link, bytes: chunk });
    expect(Buffer.concat(await collect(readFile(store, { link: links[0], size: 20 }))).length).toBe(20);
    expect(await errorOf(collect(readFile(store, { link: links[0], size: 19 })))).toBeInstanceOf(
      InvalidNodeError,
    );
  });

  it('a chunk with another length than its file says', async () => {
    const chunk = Buffer.from('0123456789');
    const link = linkTo(RAW, chunk);
    const { store, links } = await storeOf(
      textNode(19, 0, [
        [cid(link), 10],
        [cid(link), 9],
      ]),
    );
    await store.put({ link, bytes: chunk });
    expect(await errorOf(collect(readFile(store, { link: links[0], size: 19 })))).toMatchObject({
      code: 'CORRUPT',
    });
    expect(await errorOf(collect(readFile(store, { link, size: 9 })))).toMatchObject({ code: 'CORRUPT' });
  });

  it('file nodes whose levels do not fall by one', async () => {
    const chunk = Buffer.from('0123456789');
    const link = linkTo(RAW, chunk);
    const { store, root } = await grow(3, (below, i) =>
      textNode(10, [0, 2, 3][i], [[i === 0 ? cid(link) : below, 10]]),
    );
    await store.put({ link, bytes: chunk });
    expect(await errorOf(collect(readFile(store, { link: root, size: 10 })))).toBeInstanceOf(
      InvalidNodeError,
    );
  });

  it('a tree deeper than the limit', async () => {
    const { store, root } = await grow(2200, (below) => (below ? leaf([['d', 3, below, 0, 0]]) : leaf([])));
    expect(await errorOf(collect(walkTree(store, root)))).toMatchObject({ code: 'UNSUPPORTED' });
    const target = `${await temporaryDirectory()}/t`;
    expect(await errorOf(exportTree(store, root, target))).toBeInstanceOf(LazytreeError);
    const empty = encodeDirectory([]).nodes[0];
    await store.put(empty);
    expect(await errorOf(collect(diffTrees(store, root, empty.link)))).toMatchObject({ code: 'UNSUPPORTED' });
    const report = await verifyTree(store, { link: root, name: 'x' }).catch((error: unknown) => error);
    if (report instanceof Error) expect(report).toBeInstanceOf(LazytreeError);
  });

  it('a tree whose paths are exponentially many', async () => {
    // 30 nodes, 2^30 paths: what only has to know each node once may not walk each path.
    const { store, root } = await grow(30, (below, i) =>
      below
        ? leaf([
            ['a', 3, below, 0, 0],
            ['b', 3, below, 0, 0],
          ])
        : leaf([[`x${i}`, 2, 'y']]),
    );
    const report = await verifyTree(store, { link: root, name: 'x' });
    expect(report.bad).toEqual([]);
    expect(report.blocks).toBeLessThan(100);
  });

  it('a directory where a file belongs, and the other way round', async () => {
    const { store, links } = await storeOf(named('a'), textNode(1, 0, [[c, 1]]));
    await store.put({ link: raw('x'), bytes: Buffer.from('x') });
    expect(await errorOf(collect(readFile(store, { link: links[0], size: 1 })))).toBeInstanceOf(
      InvalidNodeError,
    );
    expect(await errorOf(listDirectory(store, links[1]))).toBeInstanceOf(InvalidNodeError);
  });
});
