import { createHash, randomUUID } from 'node:crypto';
import { link, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, LazytreeError } from '@lazytree/core/errors';

/** Held for a look and a rename; what is so old belongs to nobody any more. */
const STALE_MS = 30_000;
const LOOK_MS = 20;
const LONGEST_LOOK_MS = 500;
const WAIT_MS = 120_000;

export interface DirectoryLock {
  /**
   * To be called right before what it protects is done.
   *
   * @throws LazytreeError NETWORK when it has been held for so long that somebody else may have it
   */
  check(): Promise<void>;
  release(): Promise<void>;
}

export interface DirectoryLockOptions {
  signal: AbortSignal;
  /** The time by the same clock that stamps the files. */
  clock(): Promise<number>;
  staleMs?: number | undefined;
  /** For people. */
  where: string;
}

/**
 * A lock that is a file made exclusively, which works between machines. A holder that dies leaves it behind; then it is
 * taken away when it is old by the file system's clock. A holder that stands still for as long, between `check` and
 * what follows, is the one thing that it does not protect from.
 */
export async function lockInDirectory(
  directory: string,
  name: string,
  { signal, clock, staleMs = STALE_MS, where }: DirectoryLockOptions,
): Promise<DirectoryLock> {
  // By its hash: a name may be longer than that of a file.
  const file = join(directory, `${createHash('sha256').update(name).digest('hex')}.lock`);
  const mine = `${hostname()} ${process.pid} ${randomUUID()}`;
  const began = performance.now();
  for (let look = LOOK_MS; !(await make(file, mine)); look = Math.min(LONGEST_LOOK_MS, look * 1.5)) {
    await removeStale(file, { clock, staleMs });
    if (performance.now() - began > WAIT_MS)
      throw new LazytreeError('NETWORK', `${name} of ${where} is being written by others all the time`);
    await sleep(look * (0.5 + Math.random()), undefined, { signal }).catch(() => signal.throwIfAborted());
  }
  return {
    async check() {
      if ((await contentOf(file)) === mine) return;
      throw new LazytreeError('NETWORK', `this machine was too slow to write ${name} of ${where}`, {
        hint: 'run the command again',
      });
    },
    async release() {
      if ((await contentOf(file)) === mine) await rm(file, { force: true });
    },
  };
}

/** False when it is there already: on NFS, too, only one of those who try makes it. */
async function make(file: string, content: string): Promise<boolean> {
  let handle: Awaited<ReturnType<typeof open>>;
  try {
    handle = await open(file, 'wx');
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
  try {
    await handle.writeFile(content);
  } finally {
    await handle.close();
  }
  return true;
}

function contentOf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(ignoreMissing);
}

function ignoreMissing(error: unknown): undefined {
  if (errnoOf(error) === 'ENOENT') return undefined;
  throw error;
}

interface StaleOptions {
  clock(): Promise<number>;
  staleMs: number;
}

async function removeStale(file: string, { clock, staleMs }: StaleOptions): Promise<void> {
  const found = await stat(file).catch(ignoreMissing);
  if (!found || (await clock()) - found.mtimeMs < staleMs) return;
  const content = await contentOf(file);
  // Only one of those who see that it is old can move it away.
  const aside = `${file}.${randomUUID()}`;
  try {
    await rename(file, aside);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  // Somebody else was quicker, and what was moved is a new one: back with it.
  if ((await contentOf(aside)) !== content) {
    await link(aside, file).catch((error: unknown) => {
      // A third has it by now; whose it was finds out by its own check.
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
  }
  await rm(aside, { force: true });
}
