import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type LazytreeError, walkTree } from '@lazytree/core';
import { pack } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import {
  collect,
  describeDirectory,
  directory,
  errorOf,
  file,
  pseudoRandom,
  symlink,
  temporaryDirectory,
  writeTree,
} from '../../../core/test/helpers.js';
import { driver as dirDriver } from '../../src/origins/dir/dir-driver.js';
import { driver } from '../../src/origins/tar/tar-driver.js';
import { archiveServer } from './archive-server.js';
import { driverConformance } from './driver-conformance.js';
import { driverContext } from './driver-context.js';

const CONTENT = directory({
  'read.me': file('hello'),
  bin: directory({ run: file('#!/bin/sh\n', true), also: symlink('run') }),
  empty: directory(),
  'caf\udce9': file('not UTF-8'),
  [`long${'x'.repeat(200)}`]: directory({ [`deep${'y'.repeat(100)}`]: file(pseudoRandom(300_000)) }),
});

const sri = (bytes: Uint8Array) => `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
const WRONG = sri(Buffer.from('another'));

async function archived(format: string): Promise<{ tar: Buffer; expected: string[]; source: string }> {
  const source = join(await temporaryDirectory(), 'source');
  writeTree(source, CONTENT);
  const tar = execFileSync('tar', [`--format=${format}`, '-C', source, '-c', '.'], { maxBuffer: 1 << 26 });
  return { tar, expected: describeDirectory(source), source };
}

driverConformance('tar of a URL', async () => {
  const server = await archiveServer();
  const { tar, expected } = await archived('gnu');
  server.files.set('a.tgz', gzipSync(tar));
  return {
    driver,
    texts: [`${server.url}/a.tgz`, `${server.url}/x/../a.tgz`, `HTTP${server.url.slice(4)}/a.tgz#strip=0`],
    bad: [
      '',
      'ftp://example.org/a.tar',
      'http://',
      `${server.url}/a.tgz#md5-x`,
      'http://me:sesame@localhost/a.tar',
    ],
    expected,
    missing: `${server.url}/none.tgz`,
    wrongIntegrity: WRONG,
    secrets: ['sesame'],
    server: { requests: () => server.log.length, stall: server.stall, breakOff: server.breakOff },
  };
});

driverConformance('tar of a file', async () => {
  const { tar, expected } = await archived('oldgnu');
  const place = await temporaryDirectory();
  fs.writeFileSync(join(place, 'a.tar'), tar);
  return {
    driver,
    directory: place,
    texts: ['a.tar', './a.tar', join(place, 'a.tar'), `file://${place}/a.tar`],
    bad: ['', '#strip=1', 'a.tar#strip=x'],
    expected,
    missing: 'none.tar',
    wrongIntegrity: WRONG,
  };
});

driverConformance('dir', async () => {
  const { expected, source } = await archived('gnu');
  return {
    driver: dirDriver,
    directory: source,
    texts: [source, '.', './bin/..', `${source}/`],
    bad: ['', 'a\0b'],
    expected,
    missing: 'none',
    wrongIntegrity: 'cid:bafyreihuvze3yngrxllao23ssrvnbvp433wlcv2vwfqouod4exzkl63kki',
  };
});

interface Member {
  name: string;
  type?: 'file' | 'link' | 'symlink' | 'directory' | 'fifo' | 'character-device';
  linkname?: string;
  content?: string;
  mode?: number;
}

async function made(members: readonly Member[]): Promise<Buffer> {
  const archive = pack();
  for (const { content, ...header } of members) archive.entry(header as { name: string }, content ?? '');
  archive.finalize();
  const parts: Buffer[] = [];
  for await (const part of archive as unknown as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts);
}

/** What an archive becomes, or how it fails. */
async function unpacked(bytes: Uint8Array, options = '') {
  const place = await temporaryDirectory();
  fs.writeFileSync(join(place, 'a'), bytes);
  const context = await driverContext({ directory: place });
  try {
    const pin = await driver.pin(driver.parse(`a${options}`, { directory: place }), context);
    const { entry, notes, integrity } = await driver.fetch(pin, context);
    if (entry.kind !== 'directory') throw new Error('no directory');
    const paths = (await collect(walkTree(context.store, entry.link))).map(({ path, entry: item }) =>
      item.kind === 'symlink' ? `${path} -> ${item.target}` : path + (item.kind === 'directory' ? '/' : ''),
    );
    return { paths, notes, integrity };
  } finally {
    expect(context.open()).toBe(0);
  }
}

describe('archives', () => {
  it.each(['v7', 'ustar', 'oldgnu', 'gnu', 'posix'])('of the format %s are unpacked', async (format) => {
    const source = join(await temporaryDirectory(), 'source');
    writeTree(source, directory({ a: file('a'), d: directory({ x: file('x', true), l: symlink('x') }) }));
    const tar = execFileSync('tar', [`--format=${format}`, '-C', source, '-c', 'a', 'd']);
    expect((await unpacked(tar)).paths).toEqual(['a', 'd/', 'd/l -> x', 'd/x']);
  });

  it('may be compressed with gzip, zstd or xz, whatever their names are', async () => {
    const tar = await made([{ name: 'a', content: 'a'.repeat(100_000) }]);
    const xz = execFileSync('xz', ['-c'], { input: tar });
    for (const packed of [tar, gzipSync(tar), zstdCompressSync(tar), xz]) {
      expect(await unpacked(packed)).toMatchObject({ paths: ['a'], integrity: sri(packed) });
    }
    for (const other of [Buffer.from('BZh91AY&SY'), Buffer.from('PK\x03\x04zip')]) {
      expect(await errorOf(unpacked(other))).toMatchObject({ code: 'UNSUPPORTED' });
    }
  });

  it('have their integrity with all that follows their end', async () => {
    const packed = Buffer.concat([gzipSync(await made([{ name: 'a' }])), Buffer.alloc(200_000)]);
    expect((await unpacked(packed, `#${sri(packed)}`)).paths).toEqual(['a']);
    expect(await errorOf(unpacked(packed, `#${WRONG}`))).toMatchObject({ code: 'CORRUPT' });
  });

  it('lose their top directories when they are told to', async () => {
    const tar = await made([{ name: 'top/', type: 'directory' }, { name: 'top/a/b' }, { name: 'other' }]);
    expect((await unpacked(tar, '#strip=1')).paths).toEqual(['a/', 'a/b']);
    expect((await unpacked(tar)).paths).toEqual(['other', 'top/', 'top/a/', 'top/a/b']);
  });

  it.each([
    [[{ name: '../evil' }]],
    [[{ name: 'a/../../evil' }]],
    [[{ name: '/etc/evil' }]],
    [[{ name: 'a', type: 'link', linkname: '../../etc/passwd' }]],
    [[{ name: 'a', type: 'link', linkname: '/etc/passwd' }]],
    [[{ name: 'a', type: 'link', linkname: 'nothing' }]],
    [[{ name: `${'n'.repeat(300)}` }]],
    [[{ name: `${'d/'.repeat(2100)}f` }]],
  ] as [Member[]][])('that lead out of themselves are refused (%#)', async (members) => {
    const error = (await errorOf(unpacked(await made(members)))) as LazytreeError;
    expect(error).toMatchObject({ code: 'CORRUPT' });
    expect(error.message.length).toBeLessThan(500);
  });

  it('are not followed through their own links', async () => {
    const members: Member[] = [
      { name: 'out', type: 'symlink', linkname: '/etc' },
      { name: 'out/passwd', content: 'root::0:0' },
      { name: 'up', type: 'symlink', linkname: '../../up' },
      { name: 'up', content: 'a file after all' },
    ];
    const { paths, notes } = await unpacked(await made(members));
    expect(paths).toEqual(['out/', 'out/passwd', 'up']);
    expect(notes).toHaveLength(2);
  });

  it('have duplicates, hard links, devices and pipes', async () => {
    const members: Member[] = [
      { name: 'a', content: 'first' },
      { name: 'a', content: 'second', mode: 0o755 },
      { name: 'h', type: 'link', linkname: './a' },
      { name: 'p', type: 'fifo' },
      { name: 'null', type: 'character-device' },
    ];
    const { paths, notes } = await unpacked(await made(members));
    expect(paths).toEqual(['a', 'h']);
    expect(notes.join('\n')).toMatch(/p is a fifo.*\nnull is a character device/);
  });

  it('that are cut short, damaged, or no archives are refused', async () => {
    const tar = await made([{ name: 'a', content: 'a'.repeat(5000) }]);
    const packed = gzipSync(Buffer.concat([tar.subarray(0, 1024), pseudoRandom(4096), tar.subarray(1024)]));
    const broken: Uint8Array[] = [
      tar.subarray(0, 2000),
      tar.subarray(0, 300),
      packed.subarray(0, packed.length - 100),
      Buffer.concat([packed.subarray(0, 600), Buffer.alloc(20), packed.subarray(620)]),
      gzipSync(Buffer.from('no archive at all, only text'.repeat(100))),
      pseudoRandom(5000),
      Buffer.alloc(0),
      zstdCompressSync(tar).subarray(0, 30),
    ];
    for (const bytes of broken) expect(await errorOf(unpacked(bytes))).toMatchObject({ code: 'CORRUPT' });
  });

  it('that are bombs are refused before they go off', { timeout: 60_000 }, async () => {
    const zeros = Buffer.alloc(1 << 20);
    const header = (await made([{ name: 'zeros', content: '' }])).subarray(0, 512);
    header.write('77777777777\0', 124, 'latin1');
    header.fill(0x20, 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    const big = zstdCompressSync(Buffer.concat([header, ...Array.from({ length: 900 }, () => zeros)]));
    expect(big.length).toBeLessThan(200_000);
    expect(((await errorOf(unpacked(big))) as Error).message).toContain('bomb');
  });
});

describe('downloads', () => {
  it('go on where they broke off, and wait for servers that are busy', async () => {
    const server = await archiveServer();
    const tar = await made([{ name: 'a', content: pseudoRandom(400_000).toString('latin1') }]);
    server.files.set('a.tar', tar);
    const context = await driverContext();
    const pin = { reference: `${server.url}/a.tar`, integrity: sri(tar) };
    server.breakOff(2);
    await driver.fetch(pin, context);
    expect(server.log.filter((line) => line.includes('bytes='))).toHaveLength(2);
    server.fail(503, 2);
    await driver.fetch(pin, context);
    server.fail(403);
    expect(await errorOf(driver.fetch(pin, context))).toMatchObject({ code: 'REFUSED' });
    expect(context.open()).toBe(0);
  });

  it('never tell what follows a question mark', async () => {
    const server = await archiveServer();
    const reference = `${server.url}/none.tar?sig=sesame`;
    const error = await errorOf(driver.fetch({ reference }, await driverContext()));
    expect(error.code).toBe('NOT_FOUND');
    expect(error.message).not.toContain('sesame');
  });
});
