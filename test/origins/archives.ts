import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { type Files, type Sandbox, writeFiles } from '../helpers.ts';

/** A tar.gz of some files, with its digest as references have it. */
export function archiveOf(box: Sandbox, name: string, files: Files): { bytes: Buffer; integrity: string } {
  const source = writeFiles(box.path(`source of ${name}`), files);
  const { stdout, status } = spawnSync('tar', ['-C', source, '-cz', '.'], { maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error('tar fails');
  return { bytes: stdout, integrity: `sha512-${createHash('sha512').update(stdout).digest('base64')}` };
}

/** A composition, as a file beside the home. */
export function compositionIn(box: Sandbox, name: string, tree: Record<string, unknown>): string {
  fs.writeFileSync(box.path(name), JSON.stringify({ tree }));
  return box.path(name);
}
