import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fromSystemError, LazytreeError } from '../errors.js';
import { toFsPath } from '../format/name.js';
import { realPath } from '../import/real-path.js';

/** A file that is being written from its beginning. */
export interface Output {
  /** Bytes written so far. */
  length(): number;
  write(bytes: Uint8Array): Promise<void>;
}

/** Bytes after which the disk is asked to begin, so that little is left to wait for at the end. */
const SYNC_BYTES = 8 << 20;

/**
 * Writes a file under a private name, makes it durable and moves it to its place, where another may be. With any
 * failure nothing is left behind and what was there is as it was.
 *
 * @throws LazytreeError USAGE (something other than a file is there), NOT_FOUND, REFUSED, NO_SPACE
 */
export async function writeNewFile<T>(file: string, write: (output: Output) => Promise<T>): Promise<T> {
  const doing = `writing '${file}'`;
  let draft: string | undefined;
  let handle: FileHandle | undefined;
  try {
    const target = checkTarget(file);
    draft = join(dirname(target), `.lazytree-${randomBytes(6).toString('hex')}.tmp`);
    handle = await open(toFsPath(draft), 'wx', 0o666);
    const result = await write(createOutput(handle));
    await handle.sync();
    await handle.close();
    await rename(toFsPath(draft), toFsPath(target));
    draft = undefined;
    await syncDirectory(dirname(target));
    return result;
  } catch (error) {
    throw fromSystemError(error, doing);
  } finally {
    await handle?.close().catch(() => undefined);
    if (draft !== undefined) await rm(toFsPath(draft), { force: true });
  }
}

/** The path with a symlink at its end resolved. A device or a directory is never replaced. */
function checkTarget(file: string): string {
  const stat = fs.statSync(toFsPath(file), { throwIfNoEntry: false });
  if (!stat) return file;
  if (!stat.isFile()) throw new LazytreeError('USAGE', `'${basename(file)}' is there and is not a file`);
  return realPath(file);
}

function createOutput(handle: FileHandle): Output {
  let length = 0;
  let synced = 0;
  let syncing: Promise<void> | undefined;

  function beginSync(): void {
    if (syncing || length - synced < SYNC_BYTES) return;
    synced = length;
    // A failure shows again in the sync at the end.
    syncing = handle
      .datasync()
      .catch(() => undefined)
      .finally(() => {
        syncing = undefined;
      });
  }

  return {
    length: () => length,
    async write(bytes) {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, length);
        done += bytesWritten;
        length += bytesWritten;
      }
      beginSync();
    },
  };
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(toFsPath(directory), 'r');
  await handle.sync().finally(() => handle.close());
}
