import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { type Files, pseudoRandom, writeFiles } from '../helpers.ts';
import type { Node } from './nodes.ts';

const MEGABYTE = 1 << 20;

/** Something that can be run: a program, what it needs, and much that it does not. */
export const WORKSPACE: Files = {
  'bin/run': { executable: '#!/bin/sh\nexec node "$(dirname "$0")/../src/index.js"\n' },
  'src/index.js': 'console.log(require("../lib/answer.js"));\n',
  'lib/answer.js': 'module.exports = 42;\n',
  'link.js': { symlink: 'src/index.js' },
  empty: null,
  ...Object.fromEntries(
    Array.from({ length: 300 }, (_, i) => [`modules/m${i % 30}/f${i}.js`, `exports.n = ${i};\n`.repeat(20)]),
  ),
  ...Object.fromEntries(
    Array.from({ length: 8 }, (_, i) => [`assets/a${i}/picture`, pseudoRandom(2 * MEGABYTE, `picture ${i}`)]),
  ),
};

/** Bytes in {@link WORKSPACE} that do not compress and that nobody needs to run it. */
export const UNREAD_BYTES = 16 * MEGABYTE;

/** So many files of a megabyte each, which do not compress. */
export function megabytes(count: number, seed: string): Files {
  return Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`d${i % 10}/f${i}`, pseudoRandom(MEGABYTE, `${seed} ${i}`)]),
  );
}

/** Writes files to a directory of a node and imports it. Returns the root. */
export async function importFiles(node: Node, files: Files, name: string, directory = name): Promise<string> {
  writeFiles(node.path(directory), files);
  return node.ok('import', directory, '--name', name);
}

export function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Bytes of the files in a directory, also of those that are not complete; 0 when there is none. */
export function bytesIn(directory: string): number {
  if (!fs.existsSync(directory)) return 0;
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(
      ({ parentPath, name }) => fs.lstatSync(`${parentPath}/${name}`, { throwIfNoEntry: false })?.size ?? 0,
    )
    .reduce((sum, size) => sum + size, 0);
}
