import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createTreeWriter } from '@lazytree/core';
import fc from 'fast-check';
import pacote from 'pacote';
import { describe, expect, it } from 'vitest';
import {
  describeDirectory,
  errorOf,
  exportDescription,
  pseudoRandom,
  temporaryDirectory,
  temporaryStore,
} from '../../../../core/test/helpers.js';
import { unpackPackage } from '../../../src/origins/npm/unpack-package.js';
import { type PackedEntry, packed, packedPackage } from './packed.js';

const signal = new AbortController().signal;
const JSON_FILE = { path: 'package/package.json', content: '{"name":"x","version":"1.0.0"}' };

async function ours(tarball: Buffer | AsyncIterable<Uint8Array>): Promise<string[]> {
  const store = await temporaryStore();
  const tree = createTreeWriter(store, { signal });
  await unpackPackage(tree, tarball, { what: 'x@1.0.0', signal });
  return exportDescription(store, (await tree.finish()).link);
}

/** As pacote unpacks it, which is what npm does. */
async function npms(tarball: Buffer): Promise<string[]> {
  const directory = await temporaryDirectory();
  const file = join(directory, 'x.tgz');
  await writeFile(file, tarball);
  const target = join(directory, 'out');
  await pacote.extract(`file:${file}`, target, { cache: join(directory, 'cache') });
  return describeDirectory(target);
}

const ODD: Record<string, PackedEntry[]> = {
  'modes, and directories that are empty': [
    { path: 'package/a', content: 'a', mode: 0o755 },
    { path: 'package/b', content: 'b', mode: 0o4611 },
    { path: 'package/c', content: 'c', mode: 0 },
    { path: 'package/empty/', type: 'Directory', mode: 0o755 },
  ],
  'another first directory, and none': [
    { path: 'other/a', content: 'a' },
    { path: 'b', content: 'left out' },
    { path: './c', content: 'at the top' },
    { path: './package/d', content: 'not at the top' },
    { path: '/e/f', content: 'absolute' },
    { path: 'package', content: 'itself' },
  ],
  'paths that lead out': [
    { path: 'package/../../a', content: 'a' },
    { path: '../b', content: 'b' },
    { path: 'package/..\\c', content: 'c' },
    { path: 'package//d', content: 'd' },
    { path: 'package/./e/./f', content: 'e' },
    { path: 'package//../g', content: 'g' },
    { path: 'package/C:/h', content: 'h' },
    { path: 'package/back\\slash', content: 'h' },
  ],
  'links and devices': [
    { path: 'package/a', content: 'a' },
    { path: 'package/soft', type: 'SymbolicLink', linkpath: 'a' },
    { path: 'package/hard', type: 'Link', linkpath: 'package/a' },
    { path: 'package/out', type: 'SymbolicLink', linkpath: '/etc' },
    { path: 'package/out/passwd', content: 'mine' },
    { path: 'package/pipe', type: 'FIFO' },
    { path: 'package/device', type: 'CharacterDevice' },
    { path: 'package/old', type: 'OldFile', content: 'old' },
    { path: 'package/contiguous', type: 'ContiguousFile', content: 'contiguous' },
  ],
  'names that are long': [
    { path: `package/${'d/'.repeat(120)}file`, content: 'deep' },
    { path: `package/${'n'.repeat(255)}`, content: 'long' },
    { path: `package/${'t'.repeat(256)}`, content: 'too long' },
    { path: 'package/ä/日本.js', content: 'ä' },
  ],
  'what is there twice': [
    { path: 'package/a', content: 'first', mode: 0o755 },
    { path: 'package/a', content: 'second' },
    { path: 'package/b', content: 'a file' },
    { path: 'package/b/c', content: 'below a file' },
    { path: 'package/d/e', content: 'in a directory' },
    { path: 'package/d', content: 'over a directory' },
    { path: 'package/d/', type: 'Directory' },
  ],
  'ignore files': [
    { path: 'package/.gitignore', content: 'git' },
    { path: 'package/a/.npmignore', content: 'npm' },
    { path: 'package/a/.gitignore', content: 'git' },
    { path: 'package/b/.gitignore', content: 'git' },
    { path: 'package/b/.npmignore', content: 'npm' },
    { path: 'package/c.gitignore', content: 'git' },
  ],
  'no package.json': [{ path: 'package/a', content: 'a' }],
  'a large file between small ones': [
    { path: 'package/a', content: 'a' },
    { path: 'package/large', content: pseudoRandom(9 << 20) },
    { path: 'package/b', content: 'b' },
  ],
};

describe('a tarball is unpacked as npm does it', () => {
  for (const [what, entries] of Object.entries(ODD)) {
    it(what, async () => {
      const tarball = packed([JSON_FILE, ...entries]);
      expect(await ours(tarball)).toEqual(await npms(tarball));
    });
  }

  it('what is in bin', async () => {
    const manifest = {
      name: '@s/x',
      version: '1.0.0',
      bin: { a: './bin/a.js', b: 'bin/../b.js', c: '../out', d: 1 },
    };
    const tarball = packedPackage(manifest, { 'bin/a.js': 'a', 'b.js': 'b', out: 'c' });
    expect(await ours(tarball)).toEqual(await npms(tarball));
    const alone = packedPackage({ name: '@s/x', version: '1.0.0', bin: 'cli' }, { cli: 'a' });
    expect(await ours(alone)).toEqual(await npms(alone));
  });

  it('any entries', async () => {
    const name = fc.constantFrom('a', 'b', '.gitignore', '.npmignore', '..', '', '.', 'c\\d');
    const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => `package/${names.join('/')}`);
    const type = fc.constantFrom<PackedEntry['type']>('File', 'File', 'Directory', 'SymbolicLink', 'OldFile');
    const entry = fc.record({ path, type, mode: fc.constantFrom(0o644, 0o755, 0o600), text: fc.string() });
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 8 }), async (entries) => {
        const tarball = packed([
          JSON_FILE,
          ...entries.map(({ text, type, ...rest }) => ({
            ...rest,
            type,
            content: type === 'Directory' || type === 'SymbolicLink' ? '' : text,
            ...(type === 'SymbolicLink' && { linkpath: 'a' }),
          })),
        ]);
        expect(await ours(tarball)).toEqual(await npms(tarball));
      }),
      { numRuns: 40 },
    );
  });

  it('in pieces of any size', async () => {
    const tarball = packedPackage({ name: 'x', version: '1.0.0' }, { a: 'a'.repeat(5000), 'b/c': '' });
    const expected = await npms(tarball);
    for (const size of [1, 7, 512, 4096]) {
      async function* pieces(): AsyncIterable<Uint8Array> {
        for (let at = 0; at < tarball.length; at += size) yield tarball.subarray(at, at + size);
      }
      expect(await ours(pieces())).toEqual(expected);
    }
  });
});

it('a script loses the carriage return of its first line, as when npm links it, also in what is bundled', async () => {
  const crlf = '#!/usr/bin/env node\r\nrun()\r\n';
  const tarball = packedPackage(
    { name: 'x', version: '1.0.0', bin: 'x.js' },
    {
      'x.js': crlf,
      'other.js': crlf,
      'node_modules/@s/y/package.json': '{"name":"@s/y","bin":{"y":"y.js"}}',
      'node_modules/@s/y/y.js': crlf,
      'lib/node_modules/z/package.json': '{"name":"z","bin":"z.js"}',
      'lib/node_modules/z/z.js': crlf,
    },
  );
  const lines = await ours(tarball);
  const sizes = Object.fromEntries(
    lines.map((line) => line.split(' ')).map(([path, size, , x]) => [path, `${size}${x ?? ''}`]),
  );
  expect(sizes).toMatchObject({
    'x.js': '27x',
    'other.js': '28',
    'node_modules/@s/y/y.js': '27x',
    'lib/node_modules/z/z.js': '28',
  });
});

describe('a tarball that is none', () => {
  const whole = packedPackage({ name: 'x', version: '1.0.0' }, { a: 'a'.repeat(100_000) });
  const cases: Record<string, Buffer> = {
    text: Buffer.from('<html>not found</html>'),
    'cut gzip': whole.subarray(0, whole.length - 20),
    'far more than it seems': packed([{ path: 'package/a', content: Buffer.alloc(80 << 20) }]),
    'damaged gzip': Buffer.concat([whole.subarray(0, 40), Buffer.alloc(20, 0xff), whole.subarray(60)]),
  };
  for (const [what, bytes] of Object.entries(cases)) {
    it(what, async () => {
      expect(await errorOf(ours(bytes))).toMatchObject({ code: 'CORRUPT' });
    });
  }
});
