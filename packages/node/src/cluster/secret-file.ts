import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fromSystemError } from '@lazytree/core';
import { syncDirectory } from '../state-file.js';

/** A file for its owner's eyes. The old content or the new one, whatever happens; durable once it resolves. */
export async function writeSecret(file: string, content: Uint8Array | string): Promise<void> {
  const draft = `${file}.${process.pid}.new`;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await rm(draft, { force: true });
    const handle = await open(draft, 'wx', 0o600);
    try {
      await handle.writeFile(content);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    await rename(draft, file);
    await syncDirectory(dirname(file));
  } catch (error) {
    await rm(draft, { force: true });
    throw fromSystemError(error, `writing ${file}`);
  }
}
