import { chmod, readdir, rm } from 'node:fs/promises';
import { errnoOf } from '@lazytree/core';

/**
 * Removes a directory and what is in it, also where its owner may not: overlayfs makes `work/work` with mode 000, and
 * programs make directories that cannot be written to.
 */
export async function removeTree(directory: string): Promise<void> {
  try {
    await rm(directory, { recursive: true, force: true });
  } catch (error) {
    if (errnoOf(error) !== 'EACCES' && errnoOf(error) !== 'EPERM') throw error;
    await openUp(Buffer.from(directory));
    await rm(directory, { recursive: true, force: true });
  }
}

async function openUp(directory: Buffer): Promise<void> {
  await chmod(directory, 0o700);
  for (const entry of await readdir(directory, { withFileTypes: true, encoding: 'buffer' })) {
    if (entry.isDirectory()) await openUp(Buffer.concat([directory, Buffer.from('/'), entry.name]));
  }
}
