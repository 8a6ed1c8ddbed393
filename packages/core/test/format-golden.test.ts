import { createHash } from 'node:crypto';
import fs from 'node:fs';
import * as dagCbor from '@ipld/dag-cbor';
import {
  chunkEnd,
  DAG_CBOR,
  decodeDirectoryNode,
  decodeFileNode,
  decodeSnapshot,
  type EncodedNode,
  type Entry,
  encodeDirectory,
  encodeFile,
  encodeSnapshot,
  type FilePart,
  formatLink,
  type Link,
  linkTo,
  MAX_CHUNK,
  nameFromBytes,
  parseLink,
  RAW,
} from '@lazytree/core';
import { CID } from 'multiformats/cid';
import { describe, expect, it } from 'vitest';
import { GEAR } from '../dist/format/gear.js';
import { hex, pseudoRandom, sha256 } from './helpers.js';

/**
 * Format v1 as it was released. A difference here means that old and new versions give one tree two roots: it is
 * never to be taken over with UPDATE_GOLDEN=1 without a new version of the format.
 */
const UPDATE = process.env.UPDATE_GOLDEN === '1';

function expectGolden(name: string, value: unknown): void {
  const path = new URL(`./golden/${name}.json`, import.meta.url);
  if (UPDATE) fs.writeFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`);
  expect(JSON.parse(JSON.stringify(value))).toEqual(JSON.parse(fs.readFileSync(path, 'utf8')));
}

/** Checks that other IPLD software reads a node and would write it the same way. */
function expectCanonical({ link, bytes }: EncodedNode): void {
  expect(Buffer.compare(dagCbor.encode(dagCbor.decode(bytes)), bytes)).toBe(0);
  const text = formatLink(link);
  const cid = CID.parse(text);
  expect(cid.toString()).toBe(text);
  expect([cid.version, cid.code, cid.multihash.code]).toEqual([1, dagCbor.code, 0x12]);
  expect(hex(cid.multihash.digest)).toBe(sha256(bytes));
  expect(parseLink(text)).toBe(link);
}

/** A node in full when it is small, else what tells it from others. */
function summary({ link, bytes }: EncodedNode) {
  const cid = formatLink(link);
  return bytes.length <= 2000 ? { cid, hex: hex(bytes) } : { cid, bytes: bytes.length };
}

function cutAll(bytes: Uint8Array): number[] {
  const ends: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    at = chunkEnd(bytes, at, bytes.length);
    ends.push(at);
  }
  return ends;
}

const raw = (text: string): Link => linkTo(RAW, Buffer.from(text));
const node = (text: string): Link => linkTo(DAG_CBOR, Buffer.from(text));

describe('gear table', () => {
  it('is derived as the format says', () => {
    const derived = Array.from({ length: 256 }, (_, i) =>
      createHash('sha256').update(`lazytree gear v1 ${i}`).digest().readUInt32BE(0),
    );
    expect([...GEAR]).toEqual(derived);
    expectGolden(
      'gear',
      derived.map((value) => value.toString(16).padStart(8, '0')),
    );
  });
});

describe('chunk boundaries', () => {
  const inputs: [string, Buffer][] = [
    ['empty', Buffer.alloc(0)],
    ['one byte', Buffer.from('x')],
    ['random 16383', pseudoRandom(16383)],
    ['random 16384', pseudoRandom(16384)],
    ['random 16385', pseudoRandom(16385)],
    ['random 64K', pseudoRandom(65536)],
    ['random 256K', pseudoRandom(262144)],
    ['random 256K+1', pseudoRandom(262145)],
    ['random 4M, seed 1', pseudoRandom(4 << 20, 1)],
    ['random 4M, seed 2', pseudoRandom(4 << 20, 2)],
    ['zeros 1M', Buffer.alloc(1 << 20)],
    ['zeros 1M+1', Buffer.alloc((1 << 20) + 1)],
    ['ones 600K', Buffer.alloc(600_000, 0xff)],
    ['text 1M', Buffer.alloc(1 << 20, 'The quick brown fox jumps over the lazy dog.\n')],
    ['period 4096', Buffer.concat(Array.from({ length: 256 }, () => pseudoRandom(4096, 3)))],
  ];

  it('are those of version 1', () => {
    expectGolden(
      'chunks',
      inputs.map(([name, bytes]) => ({
        name,
        size: bytes.length,
        sha256: sha256(bytes),
        ends: cutAll(bytes),
      })),
    );
  });

  it('do not depend on how much follows once it is a largest chunk', () => {
    const bytes = pseudoRandom(2 << 20, 4);
    for (let at = 0; at + MAX_CHUNK < bytes.length; ) {
      const end = chunkEnd(bytes, at, bytes.length);
      expect(chunkEnd(bytes, at, at + MAX_CHUNK)).toBe(end);
      at = end;
    }
  });
});

describe('file nodes', () => {
  const chunks = (count: number): FilePart[] =>
    Array.from({ length: count }, (_, i) => ({
      link: raw(`chunk ${i}`),
      size: 16384 + ((i * 7919) % 245_761),
    }));
  const counts = [2, 3, 256, 2048, 2049, 5000, 20_000];

  it.each(counts)('of %i chunks are canonical and read back', (count) => {
    const parts = chunks(count);
    const nodes = encodeFile(parts);
    const byLink = new Map(nodes.map(({ link, bytes }) => [link, bytes]));
    for (const encoded of nodes) expectCanonical(encoded);

    function read(link: Link, level?: number): FilePart[] {
      const decoded = decodeFileNode(byLink.get(link) as Buffer);
      if (level !== undefined) expect(decoded.level).toBe(level);
      return decoded.level === 0
        ? decoded.parts
        : decoded.parts.flatMap((part) => read(part.link, decoded.level - 1));
    }
    const top = nodes.at(-1) as EncodedNode;
    expect(read(top.link)).toEqual(parts);
    expect(decodeFileNode(top.bytes).size).toBe(parts.reduce((sum, { size }) => sum + size, 0));
    expect(decodeFileNode(top.bytes).level).toBe(nodes.length === 1 ? 0 : 1);
    if (count <= 2048) expect(nodes).toHaveLength(1);
    if (count > 4096) expect(nodes.length).toBeGreaterThan(1);
  });

  it('are those of version 1', () => {
    expectGolden(
      'file-nodes',
      counts.map((count) => {
        const nodes = encodeFile(chunks(count));
        return { chunks: count, nodes: nodes.map(summary) };
      }),
    );
  });
});

const metadata = { mode: 0o640, seconds: 1_700_000_000, nanoseconds: 123_456_789 };

const directories: [string, Entry[]][] = [
  ['empty', []],
  ['one empty file', [{ kind: 'file', name: 'empty', link: raw(''), size: 0 }]],
  [
    'every kind',
    [
      { kind: 'directory', name: 'dir', link: node('dir'), size: 2 ** 40 + 1, files: 70_000 },
      { kind: 'executable', name: 'exe', link: raw('exe'), size: 24 },
      { kind: 'file', name: 'file', link: raw('file'), size: 255 },
      { kind: 'file', name: 'file-large', link: node('file'), size: 5_000_000_000 },
      { kind: 'origin', name: 'origin', of: 'directory', driver: 'npm', reference: 'react@19.0.0' },
      { kind: 'symlink', name: 'symlink', target: '../else/where' },
    ],
  ],
  [
    'names',
    [
      '\u0001',
      ' ',
      '-rf',
      '...',
      '.a',
      '0',
      'A',
      '\\',
      'a',
      'a\n',
      'a0',
      'aa',
      'n'.repeat(23),
      'n'.repeat(24),
      'n'.repeat(255),
      '\u007f',
      nameFromBytes(Buffer.from([0x80])),
      'ä',
      nameFromBytes(Buffer.from([0xc3, 0x28])),
      '日本語',
      '\uffee',
      nameFromBytes(Buffer.from([0xed, 0xa0, 0x80])),
      '😀',
      nameFromBytes(Buffer.from([0xff, 0xfe])),
    ]
      .sort((a, b) => Buffer.compare(bytesOf(a), bytesOf(b)))
      .map((name, i) => ({ kind: 'file', name, link: raw(String(i)), size: i })),
  ],
  [
    'symlink targets',
    ['.', '..', '/', '/etc/passwd', 'a//b', 'ä', nameFromBytes(Buffer.from([0xff])), 'x'.repeat(4095)].map(
      (target, i) => ({ kind: 'symlink', name: `l${i}`, target }),
    ),
  ],
  [
    'metadata',
    [
      {
        kind: 'directory',
        name: 'd',
        link: node('d'),
        size: 0,
        files: 0,
        metadata: { ...metadata, mode: 0o1777 },
      },
      {
        kind: 'executable',
        name: 'e',
        link: raw('e'),
        size: 1,
        metadata: { mode: 0o755, seconds: 0, nanoseconds: 0 },
      },
      { kind: 'file', name: 'f', link: raw('f'), size: 1, metadata },
      {
        kind: 'file',
        name: 'g',
        link: raw('g'),
        size: 1,
        metadata: { mode: 0, seconds: -1, nanoseconds: 999_999_999 },
      },
      {
        kind: 'file',
        name: 'h',
        link: raw('h'),
        size: 1,
        metadata: { mode: 0o600, seconds: -(2 ** 40), nanoseconds: 1 },
      },
      {
        kind: 'file',
        name: 'i',
        link: raw('i'),
        size: 1,
        metadata: { mode: 0o600, seconds: 2 ** 34, nanoseconds: 1 },
      },
      { kind: 'symlink', name: 's', target: 't', metadata: { ...metadata, mode: 0o777 } },
    ],
  ],
  [
    'origins',
    [
      { kind: 'origin', name: 'a', of: 'directory', driver: 'npm', reference: 'a@1.0.0' },
      {
        kind: 'origin',
        name: 'b',
        of: 'directory',
        driver: 'npm',
        reference: 'b@1.0.0',
        integrity: 'sha512-abc==',
      },
      {
        kind: 'origin',
        name: 'c',
        of: 'directory',
        driver: 'git',
        reference: 'https://ä/x#main',
        plus: node('plus'),
      },
      {
        kind: 'origin',
        name: 'd',
        of: 'directory',
        driver: 'git',
        reference: '',
        integrity: 'x',
        plus: node('plus'),
        metadata,
      },
      { kind: 'origin', name: 'e', of: 'file', driver: 'tar', reference: 'r'.repeat(300), integrity: '' },
    ],
  ],
];

function bytesOf(name: string): Buffer {
  const bytes: number[] = [];
  for (const char of name) {
    const code = char.codePointAt(0) as number;
    if (code >= 0xdc80 && code <= 0xdcff) bytes.push(code - 0xdc00);
    else bytes.push(...Buffer.from(char));
  }
  return Buffer.from(bytes);
}

describe('directory nodes', () => {
  it.each(directories)('(%s) are canonical and read back', (_, entries) => {
    const { link, nodes, size, files } = encodeDirectory(entries);
    expect(nodes).toHaveLength(1);
    expect(nodes[0].link).toBe(link);
    expectCanonical(nodes[0]);
    expect(decodeDirectoryNode(nodes[0].bytes)).toEqual({ kind: 'leaf', entries, size, files });
  });

  it('are those of version 1', () => {
    expectGolden(
      'directories',
      directories.map(([name, entries]) => {
        const { nodes, size, files } = encodeDirectory(entries);
        return {
          name,
          size,
          files,
          nodes: nodes.map(({ link, bytes }) => ({ cid: formatLink(link), hex: hex(bytes) })),
        };
      }),
    );
  });
});

describe('sharded directories', () => {
  const numbered = (count: number): Entry[] =>
    Array.from({ length: count }, (_, i) => ({
      kind: 'file',
      name: `file-${String(i).padStart(7, '0')}`,
      link: raw(String(i)),
      size: i,
    }));
  /** Few entries, and more bytes than a node holds. */
  const bulky = (count: number): Entry[] =>
    Array.from({ length: count }, (_, i) => ({
      kind: 'symlink',
      name: `link-${String(i).padStart(7, '0')}`,
      target: `${i}/`.repeat(1000).slice(0, 4000),
    }));
  const cases: [string, Entry[]][] = [
    ['2048 files', numbered(2048)],
    ['2049 files', numbered(2049)],
    ['50000 files', numbered(50_000)],
    ['100 long symlinks', bulky(100)],
    ['1000 long symlinks', bulky(1000)],
  ];

  it.each(cases)('(%s) are canonical and read back', (_, entries) => {
    const { link, nodes, size, files } = encodeDirectory(entries);
    for (const encoded of nodes) {
      expectCanonical(encoded);
      expect(encoded.bytes.length).toBeLessThanOrEqual(1 << 20);
    }
    const byLink = new Map(nodes.map((encoded) => [encoded.link, encoded.bytes]));
    const top = decodeDirectoryNode(byLink.get(link) as Buffer);
    expect(top).toMatchObject({ size, files });
    if (top.kind === 'leaf') return expect(top.entries).toEqual(entries);
    const read = top.shards.flatMap((shard) => {
      const leaf = decodeDirectoryNode(byLink.get(shard.link) as Buffer);
      if (leaf.kind !== 'leaf') throw new Error('one level is enough here');
      expect({ count: leaf.entries.length, size: leaf.size, files: leaf.files }).toEqual({
        count: shard.count,
        size: shard.size,
        files: shard.files,
      });
      expect(leaf.entries[0].name).toBe(shard.first);
      return leaf.entries;
    });
    expect(read).toEqual(entries);
  });

  it('are those of version 1', () => {
    expectGolden(
      'sharded-directories',
      cases.map(([name, entries]) => {
        const { link, nodes, size, files } = encodeDirectory(entries);
        return {
          name,
          root: formatLink(link),
          size,
          files,
          nodes: nodes.map((item) => [formatLink(item.link), item.bytes.length]),
        };
      }),
    );
  });

  it('begin beyond 2048 entries', () => {
    expect(encodeDirectory(numbered(2048)).nodes).toHaveLength(1);
    expect(encodeDirectory(numbered(2049)).nodes.length).toBeGreaterThan(1);
  });
});

describe('snapshots', () => {
  const snapshots = [
    { root: node('root'), time: 0, source: '', message: '', parents: [] },
    {
      root: node('root'),
      time: 1_763_800_000_123,
      source: '/home/me/ä',
      message: 'first\nsecond',
      parents: [node('p')],
    },
    {
      root: node('root'),
      time: 2 ** 53 - 1,
      source: nameFromBytes(Buffer.from('/caf\xe9', 'latin1')),
      message: 'm'.repeat(70),
      parents: [node('p'), node('q'), node('p')],
    },
  ];

  it('are canonical, read back, and those of version 1', () => {
    for (const snapshot of snapshots) {
      const encoded = encodeSnapshot(snapshot);
      expectCanonical(encoded);
      expect(decodeSnapshot(encoded.bytes)).toEqual(snapshot);
    }
    expectGolden(
      'snapshots',
      snapshots.map((snapshot) => summary(encodeSnapshot(snapshot))),
    );
  });
});
