import { randomInt, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core/errors';
import { cFunction, lastError } from '../../c-library.js';
import { syncDirectory } from '../../state-file.js';
import { type DirectoryLock, lockInDirectory } from './directory-lock.js';
import { checkObjectName } from './object-name.js';
import { inPieces, totalLength } from './pieces.js';
import type { ObjectInfo, Storage, StorageTraffic } from './storage.js';

/** What is being written, and locks: in the directory, so that a rename leads from here to everywhere in it. */
const OWN = '.lazytree';
/** Bytes between two looks at whether the caller still wants it. */
const PIECE = 4 << 20;
/** What was being written so long ago is what somebody has left who died. */
const LEFT_MS = 24 * 3600_000;

export interface DirectoryStorageOptions {
  /** What it is called to people. */
  url: string;
  /** Milliseconds after which a lock is that of somebody who died; for tests. */
  staleLockMs?: number;
}

/**
 * Objects as files of a directory, which may be an NFS share that many machines mount.
 *
 * - A write is a file under a private name that is synced and then renamed, or linked where nothing may be there yet:
 *   both are atomic, on NFS at the server.
 * - Who replaces or deletes an object holds its lock, a file that was made exclusively (atomic from NFS 3 on), from the
 *   look at the version to the rename. Where only what is new is written, the link is enough.
 * - The version is made of inode, size and modification time to the nanosecond. Clocks of file systems advance in steps
 *   of milliseconds, in which an inode can be used anew: what is below the millisecond is therefore set to a random
 *   value, so that no two writes have the same version.
 * - Every read opens the file first: that is when NFS promises what was written before elsewhere (close-to-open). For a
 *   name that was not there a moment ago, clients may remember so for seconds; `lookupcache=positive` ends that.
 */
export function openDirectoryStorage(directory: string, options: DirectoryStorageOptions): Storage {
  const { url, staleLockMs } = options;
  const own = join(directory, OWN);
  const traffic: StorageTraffic = { requests: 0, sent: 0, received: 0 };
  let prepared: Promise<void> | undefined;

  const fileOf = (name: string) => {
    checkObjectName(name);
    return join(directory, name);
  };

  /** @throws LazytreeError NOT_FOUND when the directory itself is not there */
  async function missing(): Promise<undefined> {
    try {
      if ((await stat(directory)).isDirectory()) return undefined;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw failure(error, `looking at ${directory}`);
    }
    throw new LazytreeError('NOT_FOUND', `the directory ${directory} of ${url} is not there`, {
      hint: 'make it, or mount what is to be there',
    });
  }

  /** Calls are system calls that hang where a server does not answer: the caller need not. */
  async function during<T>(signal: AbortSignal, doing: string, task: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    traffic.requests++;
    const running = task().catch((error: unknown) => {
      signal.throwIfAborted();
      throw failure(error, doing);
    });
    const stopped = Promise.withResolvers<never>();
    const stop = () => stopped.reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    try {
      return await Promise.race([running, stopped.promise]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async function prepare(): Promise<void> {
    try {
      await mkdir(own);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') await missing();
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
    const now = await clock();
    for (const name of await readdir(own)) {
      const file = join(own, name);
      const found = await stat(file).catch(ignoreMissing);
      if (found && now - found.mtimeMs > LEFT_MS) await rm(file, { force: true });
    }
  }

  function ready(): Promise<void> {
    prepared ??= prepare().catch((error: unknown) => {
      prepared = undefined;
      throw error;
    });
    return prepared;
  }

  async function clock(): Promise<number> {
    const draft = join(own, `${randomUUID()}.clock`);
    const handle = await open(draft, 'wx');
    try {
      // Written to, so that it is the server that says when.
      await handle.write('.');
      return Math.floor((await handle.stat()).mtimeMs);
    } finally {
      await handle.close();
      await rm(draft, { force: true });
    }
  }

  async function writeDraft(bytes: readonly Uint8Array[], signal: AbortSignal) {
    const draft = join(own, `${randomUUID()}.draft`);
    const handle = await open(draft, 'wx', 0o666);
    try {
      for (const parts of inPieces(bytes, PIECE)) {
        signal.throwIfAborted();
        await writeAll(handle, parts);
        traffic.sent += totalLength(parts);
      }
      stampVersion(handle, (await handle.stat()).mtimeMs);
      await handle.sync();
      return { draft, version: versionOf(await handle.stat({ bigint: true })) };
    } catch (error) {
      await rm(draft, { force: true });
      throw error;
    } finally {
      await handle.close();
    }
  }

  /** What is there now, as the server knows it. */
  async function current(file: string): Promise<ObjectInfo['version'] | undefined> {
    const handle = await openObject(file);
    if (!handle) return undefined;
    try {
      return versionOf(await handle.stat({ bigint: true }));
    } finally {
      await handle.close();
    }
  }

  async function withLock<T>(name: string, signal: AbortSignal, task: (lock: DirectoryLock) => Promise<T>) {
    const lock = await lockInDirectory(own, name, { signal, clock, staleMs: staleLockMs, where: url });
    try {
      return await task(lock);
    } finally {
      await lock.release();
    }
  }

  return {
    describe: () => url,

    get(name, { signal, range }) {
      const file = fileOf(name);
      return during(signal, `reading ${name} of ${url}`, async () => {
        const handle = await openObject(file);
        if (!handle) return missing();
        try {
          const found = await handle.stat({ bigint: true });
          const size = Number(found.size);
          const offset = Math.min(range?.offset ?? 0, size);
          const bytes = Buffer.allocUnsafe(Math.min(range?.length ?? size, size - offset));
          await readAll(handle, { bytes, offset, signal });
          traffic.received += bytes.length;
          return { name, size, version: versionOf(found), modified: modifiedOf(found), bytes };
        } finally {
          await handle.close();
        }
      });
    },

    put(name, bytes, { signal, expected }) {
      const file = fileOf(name);
      return during(signal, `writing ${name} to ${url}`, async () => {
        await ready();
        const { draft, version } = await writeDraft(bytes, signal);
        try {
          await makeParents(directory, file);
          signal.throwIfAborted();
          if (expected === 'nothing' && (await linkNew(draft, file)) !== 'unsupported')
            return (await current(file)) === version ? await durable(file, version) : undefined;
          return await withLock(name, signal, async (lock) => {
            if (expected) {
              const wanted = expected === 'nothing' ? undefined : expected.version;
              if ((await current(file)) !== wanted) return undefined;
            }
            await lock.check();
            await rename(draft, file);
            return durable(file, version);
          });
        } finally {
          await rm(draft, { force: true });
        }
      });
    },

    touch(name, { signal }) {
      const file = fileOf(name);
      return during(signal, `touching ${name} of ${url}`, async () => {
        await ready();
        return withLock(name, signal, async (lock) => {
          const handle = await openObject(file);
          if (!handle) return false;
          try {
            const now = await clock();
            await lock.check();
            stampVersion(handle, now);
            await handle.sync();
            return true;
          } finally {
            await handle.close();
          }
        });
      });
    },

    async *list(prefix, { signal }) {
      traffic.requests++;
      signal.throwIfAborted();
      let found = 0;
      for await (const file of namesBelow(directory, '', prefix)) {
        signal.throwIfAborted();
        const about = await stat(join(directory, file), { bigint: true }).catch(ignoreMissing);
        // Deleted meanwhile.
        if (!about) continue;
        found++;
        yield {
          name: file,
          size: Number(about.size),
          version: versionOf(about),
          modified: modifiedOf(about),
        };
      }
      if (found === 0) await missing();
    },

    delete(name, { signal, version }) {
      const file = fileOf(name);
      return during(signal, `deleting ${name} from ${url}`, async () => {
        await ready();
        return withLock(name, signal, async (lock) => {
          const there = await current(file);
          if (there === undefined) return true;
          if (version !== undefined && there !== version) return false;
          await lock.check();
          await unlink(file).catch(ignoreMissing);
          await syncDirectory(dirname(file));
          return true;
        });
      });
    },

    now({ signal }) {
      return during(signal, `asking ${url} for the time`, async () => {
        await ready();
        return clock();
      });
    },

    traffic: () => ({ ...traffic }),
    async close() {},
  };

  /** In ascending order of whole names, in which `a-b` is before `a/b`. */
  async function* namesBelow(at: string, path: string, prefix: string): AsyncGenerator<string> {
    const entries = await readdir(at, { withFileTypes: true }).catch((error: unknown) => {
      // Names that begin with a file's name and a slash are those of nothing.
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
      throw failure(error, `listing ${url}`);
    });
    const names = entries
      .filter((entry) => !entry.name.startsWith('.') && (entry.isDirectory() || entry.isFile()))
      .map((entry) => (entry.isDirectory() ? `${path}${entry.name}/` : `${path}${entry.name}`))
      .filter((name) => name.startsWith(prefix) || (name.endsWith('/') && prefix.startsWith(name)))
      .sort(byCodeUnits);
    for (const name of names) {
      if (name.endsWith('/')) yield* namesBelow(join(directory, name), name, prefix);
      else yield name;
    }
  }
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function failure(error: unknown, doing: string): unknown {
  if (errnoOf(error) === 'ESTALE' || errnoOf(error) === 'ETIMEDOUT')
    return new LazytreeError('NETWORK', `${doing}: the server of the share does not answer as it should`);
  return fromSystemError(error, doing);
}

function ignoreMissing(error: unknown): undefined {
  if (errnoOf(error) === 'ENOENT') return undefined;
  throw error;
}

async function openObject(file: string): Promise<FileHandle | undefined> {
  try {
    return await open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

const MILLISECOND = 1_000_000n;

interface Version {
  ino: bigint;
  size: bigint;
  mtimeNs: bigint;
}

function versionOf({ ino, size, mtimeNs }: Version): string {
  return `${ino.toString(36)}-${size.toString(36)}-${mtimeNs.toString(36)}`;
}

function modifiedOf({ mtimeNs }: Version): number {
  return Number(mtimeNs / MILLISECOND);
}

/** @param now by the file system's own clock, to which a random part below the millisecond is added */
function stampVersion(handle: FileHandle, now: number): void {
  const written = BigInt(Math.floor(now));
  const nanoseconds = (written % 1000n) * MILLISECOND + BigInt(randomInt(Number(MILLISECOND)));
  const times = BigInt64Array.of(written / 1000n, nanoseconds, written / 1000n, nanoseconds);
  // node:fs takes times as doubles, which leave a few thousand values of a million.
  const failed = cFunction('futimens', 'int futimens(int fd, const void *times)')(handle.fd, times);
  if (failed) throw lastError('futimens');
}

async function durable(file: string, version: string): Promise<{ version: string }> {
  await syncDirectory(dirname(file));
  return { version };
}

/**
 * `unsupported` where a file system has no hard links. NFS may carry a link out and lose the answer, and then say that it
 * is there already: whether it is ours is seen from what is there.
 */
async function linkNew(draft: string, file: string): Promise<'linked' | 'taken' | 'unsupported'> {
  try {
    await link(draft, file);
    return 'linked';
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EEXIST') return 'taken';
    if (code === 'EPERM' || code === 'ENOTSUP' || code === 'EOPNOTSUPP' || code === 'ENOSYS')
      return 'unsupported';
    throw error;
  }
}

async function makeParents(directory: string, file: string): Promise<void> {
  const first = await mkdir(dirname(file), { recursive: true });
  if (first === undefined) return;
  // Each new directory is an entry of the one above it.
  for (let at = dirname(file); at !== directory && at.length >= first.length; at = dirname(at))
    await syncDirectory(dirname(at));
}

async function writeAll(handle: FileHandle, parts: Uint8Array[]): Promise<void> {
  // Many small parts would be more than one system call takes.
  const rest = parts.length === 1 ? parts[0] : Buffer.concat(parts);
  // A disk that is just full takes a part; the rest gets the error.
  for (let at = 0; at < rest.length; ) at += (await handle.write(rest, at)).bytesWritten;
}

interface ReadAllOptions {
  bytes: Buffer;
  offset: number;
  signal: AbortSignal;
}

async function readAll(handle: FileHandle, { bytes, offset, signal }: ReadAllOptions): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    signal.throwIfAborted();
    const length = Math.min(PIECE, bytes.length - at);
    const { bytesRead } = await handle.read(bytes, at, length, offset + at);
    // Whole files are renamed into place: nobody shortens one.
    if (bytesRead === 0) throw new LazytreeError('NETWORK', 'a file became shorter while it was read');
    at += bytesRead;
  }
}
