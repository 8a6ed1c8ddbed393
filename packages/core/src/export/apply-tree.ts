import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isMissing } from '../errors.js';
import { type DirectoryEntry, type Entry, type FileEntry, isFile } from '../format/entry.js';
import type { Link } from '../format/link.js';
import { toFsPath } from '../format/name.js';
import { createHashOnlySink } from '../import/hash-only-sink.js';
import { type ImportResult, readTree } from '../import/import-tree.js';
import { openStatCache } from '../import/stat-cache.js';
import type { BlockSource } from '../store/block-store.js';
import { createMemoryStore } from '../store/memory.js';
import { router } from '../store/router.js';
import { type Change, diffTrees } from '../tree/diff.js';
import { readFile } from '../tree/file.js';
import { setDirectoryMetadata, setMetadata } from './metadata.js';
import type { ExportOptions, ExportResult } from './options.js';
import { hasMetadata } from './populate.js';
import { attempt, writeError } from './write-error.js';
import { createFile, writeFully } from './write-files.js';

export interface ApplyOptions extends ExportOptions {
  /** Delete what the tree does not have. */
  remove: boolean;
}

interface Current {
  /** The directory as it is, hashed as an import would. */
  scan: ImportResult;
  /** Its nodes, and the tree's. */
  nodes: BlockSource;
}

/**
 * Turns a directory that is in use into a tree: hashes what is there (with the stat cache, looks at it), and
 * applies the difference. Each file is written under a private name and then moved to its place.
 */
export async function applyTree(
  store: BlockSource,
  root: Link,
  directory: string,
  options: ApplyOptions,
): Promise<ExportResult> {
  const result: ExportResult = { root, files: 0, bytes: 0, removed: 0, origins: [] };
  const preserve = await hasMetadata(store, root);
  const current = await look(store, directory, preserve, options);
  const changes = await listChanges(store, current, root, directory, preserve, options);
  const { signal, onProgress, remove } = options;
  const total = totalOf(changes);
  const directories: { path: string; entry: DirectoryEntry }[] = [];

  if (remove) {
    for (const { path, kind } of current.scan.warnings) {
      if (kind !== 'special') continue;
      const full = `${directory}/${path}`;
      attempt(full, () => fs.unlinkSync(toFsPath(full)));
      result.removed += 1;
    }
  }
  // Children come after their parents: backwards, a directory is empty when its turn comes.
  for (const { path, change, from, to } of changes.toReversed()) {
    if (!from || change === 'modified' || (change === 'removed' && !remove)) continue;
    signal?.throwIfAborted();
    await clear(`${directory}/${path}`, from, remove);
    if (!to) result.removed += 1;
  }
  for (const { path, change, from, to } of changes) {
    if (!to) continue;
    signal?.throwIfAborted();
    const full = `${directory}/${path}`;
    if (to.kind === 'directory') {
      if (change !== 'modified') attempt(full, () => makeDirectory(full));
      if (to.metadata) directories.push({ path: full, entry: to });
    } else if (to.kind === 'symlink') putSymlink(full, to, from);
    else if (isFile(to)) {
      await putFile(store, full, { from, to, signal });
      result.files += 1;
      result.bytes += to.size;
      onProgress?.({ files: result.files, bytes: result.bytes, ...total });
    } else result.origins.push(path);
  }
  for (const { path, entry } of directories.toReversed()) {
    if (entry.metadata) setDirectoryMetadata(toFsPath(path), entry.metadata);
  }
  return result;
}

async function look(
  store: BlockSource,
  directory: string,
  preserve: boolean,
  { statCache, threads, signal }: ApplyOptions,
  useCache = true,
): Promise<Current> {
  const memory = createMemoryStore();
  const old = statCache !== undefined && useCache ? openStatCache(statCache, preserve) : undefined;
  try {
    const scan = await readTree({
      path: directory,
      sink: createHashOnlySink(memory),
      old,
      options: {
        preserve,
        ignoreFiles: false,
        ...(statCache === undefined ? {} : { statCache }),
        ...(threads === undefined ? {} : { threads }),
        ...(signal ? { signal } : {}),
      },
    });
    return { scan, nodes: router(memory, store) };
  } finally {
    old?.close();
  }
}

/**
 * What has to change. Subtrees that are as the cache remembers them were not hashed again; where their nodes
 * are needed and nobody has them any more, everything is.
 */
async function listChanges(
  store: BlockSource,
  current: Current,
  root: Link,
  directory: string,
  preserve: boolean,
  options: ApplyOptions,
): Promise<Change[]> {
  try {
    return await collect(diffTrees(current.nodes, current.scan.root, root, options));
  } catch (error) {
    if (!isMissing(error) || options.statCache === undefined) throw error;
    const again = await look(store, directory, preserve, options, false);
    return collect(diffTrees(again.nodes, again.scan.root, root, options));
  }
}

async function collect(changes: AsyncIterable<Change>): Promise<Change[]> {
  const list: Change[] = [];
  for await (const change of changes) list.push(change);
  return list;
}

function totalOf(changes: readonly Change[]): { totalFiles: number; totalBytes: number } {
  const files = changes.flatMap(({ to }) => (to && isFile(to) ? [to.size] : []));
  return { totalFiles: files.length, totalBytes: files.reduce((sum, size) => sum + size, 0) };
}

/** Removes an entry that the tree has no use for, or that another kind of entry takes the place of. */
async function clear(path: string, from: Entry, remove: boolean): Promise<void> {
  const fsPath = toFsPath(path);
  try {
    if (from.kind !== 'directory') fs.unlinkSync(fsPath);
    else if (remove) fs.rmdirSync(fsPath);
    else await rm(fsPath, { recursive: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw writeError(error, path);
  }
}

/**
 * Makes room for a name that the scan did not list: only a named pipe or the like can be there. Anything else is
 * another name of the tree that this file system takes for the same.
 */
function claimName(path: string): void {
  const fsPath = toFsPath(path);
  const stat = fs.lstatSync(fsPath, { throwIfNoEntry: false });
  if (!stat) return;
  if (stat.isFile() || stat.isDirectory() || stat.isSymbolicLink()) {
    throw Object.assign(new Error('the name is taken'), { code: 'EEXIST' });
  }
  fs.unlinkSync(fsPath);
}

function makeDirectory(path: string): void {
  claimName(path);
  fs.mkdirSync(toFsPath(path));
}

function privateName(path: string): string {
  return `${dirname(path)}/.lazytree-${randomBytes(8).toString('hex')}`;
}

function putSymlink(path: string, entry: Entry & { kind: 'symlink' }, from: Entry | undefined): void {
  const draft = toFsPath(privateName(path));
  try {
    fs.symlinkSync(toFsPath(entry.target), draft);
    if (entry.metadata) setMetadata(draft, entry.metadata);
    if (from?.kind !== 'symlink') claimName(path);
    fs.renameSync(draft, toFsPath(path));
  } catch (error) {
    fs.rmSync(draft, { force: true });
    throw writeError(error, path);
  }
}

interface PutFile {
  from: Entry | undefined;
  to: FileEntry;
  signal: AbortSignal | undefined;
}

async function putFile(store: BlockSource, path: string, { from, to, signal }: PutFile): Promise<void> {
  const sameContent = from && isFile(from) && from.link === to.link;
  if (sameContent && from.kind !== to.kind && !to.metadata) {
    return attempt(path, () => setExecutable(path, to.kind === 'executable'));
  }
  const draft = privateName(path);
  const fsDraft = toFsPath(draft);
  try {
    const fd = createFile(draft, to.kind === 'executable');
    try {
      for await (const bytes of readFile(store, to, signal ? { signal } : {})) writeFully(fd, bytes);
      if (to.metadata) setMetadata(fsDraft, to.metadata, fd);
    } finally {
      fs.closeSync(fd);
    }
    if (!from || !isFile(from)) claimName(path);
    fs.renameSync(fsDraft, toFsPath(path));
  } catch (error) {
    fs.rmSync(fsDraft, { force: true });
    throw writeError(error, path);
  }
}

/** As `chmod +x` under the process's umask, or `chmod -x`. */
function setExecutable(path: string, executable: boolean): void {
  const fsPath = toFsPath(path);
  const { mode } = fs.lstatSync(fsPath);
  const allowed = 0o111 & ~process.umask();
  fs.chmodSync(fsPath, executable ? (mode & 0o7777) | allowed : mode & 0o7777 & ~0o111);
}
