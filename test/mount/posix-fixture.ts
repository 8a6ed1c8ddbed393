import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';

/** What every function of the POSIX suite finds in its directory. Nothing of vitest in here. */

export const LATIN1 = Buffer.from('caf\xe9', 'latin1');
export const LONG_NAME = 'n'.repeat(255);
export const DEPTH = 60;
export const MANY = 300;
/** Several chunks. */
export const LARGE = expand(700_001);

function expand(size: number): Buffer {
  const parts: Buffer[] = [];
  for (let i = 0; i * 32 < size; i++) parts.push(createHash('sha256').update(`posix ${i}`).digest());
  return Buffer.concat(parts).subarray(0, size);
}

export function deepPath(directory: string): string {
  return join(directory, 'deep', ...Array.from({ length: DEPTH }, (_, i) => `level ${i}`));
}

/** Makes the fixture in `directory`, which does not exist yet. */
export function writeFixture(directory: string): void {
  const at = (name: string) => join(directory, name);
  fs.mkdirSync(directory);
  fs.writeFileSync(at('text'), 'hello\n');
  fs.writeFileSync(at('empty'), '');
  fs.writeFileSync(at('large'), LARGE);
  fs.writeFileSync(at('script'), '#!/bin/sh\necho "ran with $1"\n', { mode: 0o755 });
  fs.writeFileSync(at('not-executable'), '#!/bin/sh\necho no\n', { mode: 0o644 });
  fs.copyFileSync('/bin/true', at('program'));
  fs.chmodSync(at('program'), 0o755);
  fs.symlinkSync('text', at('link'));
  fs.symlinkSync('nowhere', at('dangling'));
  fs.symlinkSync('loop', at('loop'));
  fs.symlinkSync('dir', at('to-dir'));
  fs.mkdirSync(at('dir/sub'), { recursive: true });
  fs.writeFileSync(at('dir/a'), 'a\n');
  fs.writeFileSync(at('dir/b'), 'b\n');
  fs.writeFileSync(at('dir/sub/c'), 'c\n');
  fs.mkdirSync(at('empty-dir'));
  fs.mkdirSync(at('names'));
  fs.writeFileSync(Buffer.concat([Buffer.from(at('names/')), LATIN1]), 'latin1\n');
  fs.writeFileSync(at(`names/${LONG_NAME}`), 'long\n');
  for (const odd of [' ', '\n', '-rf', '...', '\\', 'ä', '😀', '*'])
    fs.writeFileSync(at(`names/${odd}`), odd);
  fs.mkdirSync(deepPath(directory), { recursive: true });
  fs.writeFileSync(join(deepPath(directory), 'bottom'), 'bottom\n');
  fs.mkdirSync(at('many'));
  for (let i = 0; i < MANY; i++) fs.writeFileSync(at(`many/${i}`), `${i}\n`);
}
