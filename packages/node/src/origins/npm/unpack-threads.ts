import { availableParallelism } from 'node:os';
import { createThreadPool, raiseAgain, type ThreadPool } from '@lazytree/core';
import type { UnpackedPackage, UnpackJob } from './unpack-package-thread.js';

type Pool = ThreadPool<UnpackJob, UnpackedPackage | undefined>;

/** Packages before threads are worth their start, with no longer between two of them than the time after which threads end. */
const FEW = 4;
const IDLE_MS = 10_000;
const MOST_THREADS = 4;

/** How many there are, when there are any. */
export const THREADS = Math.max(1, Math.min(availableParallelism() - 1, MOST_THREADS));

let pool: Pool | undefined;
let active = 0;
let recent = 0;
let idle: NodeJS.Timeout | undefined;

/**
 * Unpacks a tarball in a thread when many are unpacked, so that whoever waits for something else does not wait for that.
 * Nothing where it is to be unpacked here.
 *
 * @throws LazytreeError CORRUPT
 */
export async function unpackInThread({ tarball, ...job }: UnpackJob): Promise<UnpackedPackage | undefined> {
  if (++recent <= FEW && !pool) {
    restLater();
    return undefined;
  }
  const used = startUnpackThreads();
  // A small buffer may be a part of a larger one, which stays here.
  const copy = new Uint8Array(tarball);
  const unpacked = used.run({ ...job, tarball: copy }, [copy.buffer]);
  unpacked.catch((error: unknown) => {
    // Of the thread itself: those that come next get another one.
    if (error instanceof Error && pool === used) pool = undefined;
  });
  active++;
  try {
    return await raiseAgain(unpacked, `unpacking ${job.what}`);
  } finally {
    active--;
  }
}

/** Also for packages that are likely to come: it takes longer than to unpack one. */
export function startUnpackThreads(): Pool {
  restLater();
  pool ??= createThreadPool({
    script: new URL('./unpack-package-thread.js', import.meta.url),
    data: undefined,
    threads: THREADS,
    mayEnd: true,
  });
  return pool;
}

function restLater(): void {
  idle = idle?.refresh() ?? setTimeout(rest, IDLE_MS).unref();
}

function rest(): void {
  if (active > 0) {
    idle?.refresh();
    return;
  }
  const ended = pool;
  idle = undefined;
  pool = undefined;
  recent = 0;
  void ended?.close();
}
