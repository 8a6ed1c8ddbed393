import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { cFunction, lastError } from '../../c-library.js';

/** <sys/file.h> */
const SHARED = 1;
const EXCLUSIVE = 2;
const NOT_BLOCKING = 4;

const LOOK_MS = 10;
const LONGEST_LOOK_MS = 250;

/** A lock that the system takes back when its holder is gone, however it went. */
export interface FileLock {
  /** From now on others may share it. Another may have had it for itself in between. */
  share(): Promise<void>;
  release(): Promise<void>;
}

/** Waits until nobody else has the lock, for as long as the signal lets it. */
export async function lockFile(file: string, signal: AbortSignal): Promise<FileLock> {
  const handle = await open(file, 'a');
  try {
    await acquire(handle, EXCLUSIVE, signal);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return {
    share: () => acquire(handle, SHARED, signal),
    release: () => handle.close(),
  };
}

async function acquire(handle: FileHandle, how: number, signal: AbortSignal): Promise<void> {
  const flock = cFunction('flock', 'int flock(int descriptor, int operation)');
  for (let look = LOOK_MS; ; look = Math.min(LONGEST_LOOK_MS, look * 1.5)) {
    signal.throwIfAborted();
    if (flock(handle.fd, how | NOT_BLOCKING) === 0) return;
    const error = lastError('flock');
    if (error.code !== 'EAGAIN' && error.code !== 'EINTR') throw error;
    await sleep(look, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
