import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core';

/** JSON in a file: the old content or the new one, whatever happens. Paths and names are strings of the engine's. */

/** @returns undefined when there is no file. @throws LazytreeError CORRUPT */
export async function readState(file: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw fromSystemError(error, `reading ${file}`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new LazytreeError('CORRUPT', `${file} is not what was written there: ${(cause as Error).message}`, {
      cause,
      hint: 'mend it, or move it away and mount again what it recorded',
    });
  }
}

/** Durable once it resolves. */
export function writeState(file: string, state: unknown): Promise<void> {
  return writeDurably(file, `${JSON.stringify(state, undefined, 2)}\n`);
}

let drafts = 0;

/** Makes a file that is its owner's alone to read: the old content or the new one. Durable once it resolves. */
export async function writeDurably(file: string, content: Uint8Array | string): Promise<void> {
  // Two may write the same file at a time: the later rename is what is there then.
  const draft = `${file}.${process.pid}-${drafts++}.new`;
  try {
    // Not into what somebody else has opened.
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

export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
