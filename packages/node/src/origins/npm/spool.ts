import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromSystemError } from '@lazytree/core/errors';

/** Bytes that wait until all of them are there: in memory, or in a file when there are many. */
export interface Spool {
  length(): number;
  /** @throws LazytreeError NO_SPACE, REFUSED */
  write(piece: Uint8Array): Promise<void>;
  empty(): Promise<void>;
  /** Nothing is written any more. @returns all of it, or the path of the file that it is in, which is the caller's then */
  finish(): Promise<Buffer | string>;
  /** To be called in the end, unless it is finished. */
  remove(): Promise<void>;
}

/** More wait in a file. */
const IN_MEMORY = 4 << 20;

/** @param directory for the file, if there is to be one */
export function createSpool(directory: () => Promise<string>): Spool {
  let pieces: Uint8Array[] = [];
  let length = 0;
  let file: { handle: FileHandle; path: string } | undefined;

  async function toFile(): Promise<void> {
    const path = join(await directory(), `download-${randomUUID()}`);
    file = { handle: await open(path, 'wx', 0o600), path };
    for (const piece of pieces) await file.handle.write(piece);
    pieces = [];
  }

  async function close(): Promise<void> {
    if (!file) return;
    const { handle, path } = file;
    file = undefined;
    await handle.close();
    await rm(path, { force: true });
  }

  return {
    length: () => length,
    async write(piece: Uint8Array): Promise<void> {
      length += piece.length;
      if (!file && length <= IN_MEMORY) {
        pieces.push(piece);
        return;
      }
      try {
        if (!file) await toFile();
        await file?.handle.write(piece);
      } catch (error) {
        throw fromSystemError(error, 'a download');
      }
    },
    async empty(): Promise<void> {
      await close();
      pieces = [];
      length = 0;
    },
    async finish(): Promise<Buffer | string> {
      if (!file)
        return pieces.length === 1
          ? Buffer.from(pieces[0].buffer, pieces[0].byteOffset, pieces[0].length)
          : Buffer.concat(pieces);
      await file.handle.close();
      return file.path;
    },
    remove: close,
  };
}
