import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isMissing } from '../errors.js';
import { type DirectoryEntry, type Entry, type FileEntry, isFile, type Metadata } from '../format/entry.js';
import type { Link } from '../format/link.js';
import { toFsPath } from '../format/name.js';
import { createHashOnlySink } from '../import/hash-only-sink.js';
import { type ImportResult, readTree } from '../import/import-tree.js';
import { beginSurvey } from '../import/survey.js';
import type { BlockSource } from '../store/block-store.js';
import { createMemoryStore } from '../store/memory.js';
import { router } from '../store/router.js';
import { type Change, diffTrees } from '../tree/diff.js';
import { findEntry, listDirectory } from '../tree/directory.js';
import { readFile } from '../tree/file.js';
import { hasMetadata } from '../tree/has-metadata.js';
import { rootEntry } from '../tree/path.js';
import { setDirectoryMetadata, setMetadata } from './metadata.js';
import type { ExportOptions, ExportResult } from './options.js';
import { attempt, blockError, isAboutBlock, reading, writeError } from './write-error.js';
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
  const special = remove ? current.scan.warnings.filter(({ kind }) => kind === 'special') : [];
  const touched = parentsOf([...special, ...changes.filter((change) => touchesParent(change, remove))]);
  const metadata = preserve ? await metadataOf(store, root, touched, options) : new Map<string, Metadata>();
  for (const path of metadata.keys()) unlock(`${directory}/${path}`);

  for (const { path } of special) {
    const full = `${directory}/${path}`;
    attempt(full, () => fs.unlinkSync(toFsPath(full)));
    result.removed += 1;
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
      if (to.metadata) metadata.set(path, to.metadata);
    } else if (to.kind === 'symlink') putSymlink(full, to, from);
    else if (isFile(to)) {
      await reading(path, () => putFile(store, full, { from, to, signal }));
      result.files += 1;
      result.bytes += to.size;
      onProgress?.({ files: result.files, bytes: result.bytes, ...total });
    } else result.origins.push(path);
  }
  // Children first: a parent may end up closed to its owner.
  for (const path of [...metadata.keys()].sort((a, b) => depthOf(b) - depthOf(a))) {
    const full = `${directory}/${path}`;
    attempt(full, () => setDirectoryMetadata(toFsPath(full), metadata.get(path) as Metadata));
  }
  return result;
}

/** Whether a change makes, removes or replaces an entry. */
function touchesParent({ change, to }: Change, remove: boolean): boolean {
  return to ? change !== 'modified' || to.kind !== 'directory' : remove;
}

/** The directories, other than the root, that these paths are entries of. */
function parentsOf(paths: readonly { path: string }[]): Set<string> {
  const parents = new Set(paths.map(({ path }) => path.slice(0, Math.max(path.lastIndexOf('/'), 0))));
  parents.delete('');
  return parents;
}

function depthOf(path: string): number {
  return path.split('/').length;
}

/** The metadata of those of the paths that are directories in the tree. */
async function metadataOf(
  store: BlockSource,
  root: Link,
  paths: Iterable<string>,
  { signal }: ApplyOptions,
): Promise<Map<string, Metadata>> {
  const found = new Map<string, DirectoryEntry | undefined>();
  const metadata = new Map<string, Metadata>();

  async function find(path: string): Promise<DirectoryEntry | undefined> {
    if (found.has(path)) return found.get(path);
    const slash = path.lastIndexOf('/');
    const parent = await find(path.slice(0, Math.max(slash, 0)));
    const entry =
      parent && (await reading(path, () => findEntry(store, parent.link, path.slice(slash + 1), { signal })));
    const directory = entry?.kind === 'directory' ? entry : undefined;
    found.set(path, directory);
    return directory;
  }

  found.set('', (await rootEntry(store, root, { signal })) as DirectoryEntry);
  for (const path of paths) {
    const entry = await find(path);
    if (entry?.metadata) metadata.set(path, entry.metadata);
  }
  return metadata;
}

/** Lets the owner of a directory, if there is one, write to it: an import may have found it read-only. */
function unlock(path: string): void {
  const fsPath = toFsPath(path);
  const stat = fs.lstatSync(fsPath, { throwIfNoEntry: false });
  if (!stat?.isDirectory() || (stat.mode & 0o700) === 0o700) return;
  attempt(path, () => fs.chmodSync(fsPath, (stat.mode & 0o7777) | 0o700));
}

async function look(
  store: BlockSource,
  directory: string,
  preserve: boolean,
  { statCache, survey: begun, threads, signal }: ApplyOptions,
  useCache = true,
): Promise<Current> {
  const memory = createMemoryStore();
  const begin = () => (statCache === undefined ? undefined : beginSurvey(directory, statCache));
  const survey = useCache ? (begun ?? begin()) : undefined;
  try {
    const scan = await readTree({
      path: directory,
      sink: createHashOnlySink(memory),
      old: survey?.cache.fits({ preserve }) ? survey : undefined,
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
    survey?.stop();
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
  const diff = ({ nodes, scan }: Current) => collect(diffTrees(nodes, scan.root, root, options));
  let { nodes } = current;
  try {
    try {
      return await diff(current);
    } catch (error) {
      if (!isMissing(error) || options.statCache === undefined) throw error;
      const again = await look(store, directory, preserve, options, false);
      nodes = again.nodes;
      return await diff(again);
    }
  } catch (error) {
    throw (await failingDirectory(nodes, root, error, options)) ?? error;
  }
}

/**
 * A difference does not say where in the tree it met a node that is missing or no good. Looks for that and
 * returns the error with its path, or undefined when it is not a node of the tree.
 */
async function failingDirectory(
  store: BlockSource,
  link: Link,
  error: unknown,
  options: ApplyOptions,
  path = '',
): Promise<unknown> {
  if (!isAboutBlock(error)) return undefined;
  let entries: Entry[];
  try {
    entries = await listDirectory(store, link, options);
  } catch (found) {
    return (found as Error).message === (error as Error).message ? blockError(found, path) : undefined;
  }
  for (const entry of entries) {
    if (entry.kind !== 'directory') continue;
    const inner = path === '' ? entry.name : `${path}/${entry.name}`;
    const found = await failingDirectory(store, entry.link, error, options, inner);
    if (found !== undefined) return found;
  }
  return undefined;
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
