import fs from 'node:fs';
import { setTimeout as sleep, setImmediate as yieldToEvents } from 'node:timers/promises';
import { BlockMissingError, LazytreeError } from '../errors.js';
import {
  type DirectoryEntry,
  type Entry,
  type FileEntry,
  isFile,
  type OriginEntry,
} from '../format/entry.js';
import type { FilePart } from '../format/file-node.js';
import { MAX_TREE_DEPTH } from '../format/limits.js';
import { formatLink, type Link, linkCodec, linkDigest, RAW } from '../format/link.js';
import { toFsPath } from '../format/name.js';
import { createStatCache, RACY_MS, type StatCacheWriter } from '../import/stat-cache.js';
import { type CachedEntry, type FileStamp, type RecordPlace, stampOf } from '../import/stat-record.js';
import type { Location } from '../store/block-index.js';
import type { BlockSource } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { createPendingWork } from '../threads/pending-work.js';
import { listDirectory } from '../tree/directory.js';
import { fileChunks, readFile } from '../tree/file.js';
import { hasMetadata } from '../tree/has-metadata.js';
import { rootEntry } from '../tree/path.js';
import { resolveEntry } from '../tree/resolve-entry.js';
import { setDirectoryMetadata, setMetadata } from './metadata.js';
import type { ExportOptions, ExportResult } from './options.js';
import { attempt, blockError, reading } from './write-error.js';
import { createFile, type WriteJob, writeFully } from './write-files.js';
import { createLocalWriter, createWritePool, type WritePool } from './write-pool.js';

export interface PopulateOptions extends ExportOptions {
  /** Puts the finished directory in its place. */
  publish: () => void;
}

/** A directory that is being written. */
interface Pending {
  path: string;
  depth: number;
  parent: Pending | undefined;
  slot: number;
  entry: DirectoryEntry;
  entries: (CachedEntry | undefined)[];
  /** The listing itself, file lists under way, and directories below. */
  waiting: number;
}

/** What an origin is, once it is resolved: a directory that is to be written, or nothing more to do. */
type Later = () => Promise<Pending | undefined>;

interface PendingFile {
  directory: Pending;
  slot: number;
  entry: FileEntry;
}

const LIST_FILES = 128;
const LIST_BYTES = 4 << 20;
const FEW_FILES = 64;
/** Bytes of one file after which progress is reported while it is being written. */
const PROGRESS_BYTES = 4 << 20;
const MANY_FILES = 1000;
const NO_RECORD: RecordPlace = { offset: 0, length: 0 };
const UNKNOWN: FileStamp = { mtime: Number.NaN, ctime: Number.NaN, inode: Number.NaN };

function pathOf({ directory, entry }: PendingFile): string {
  return `${directory.path}/${entry.name}`;
}

/** Fills an empty directory that nobody else writes to. */
export async function populate(
  store: BlockSource,
  root: Link,
  directory: string,
  options: PopulateOptions,
): Promise<ExportResult> {
  const preserve = await hasMetadata(store, root);
  const cache = options.statCache === undefined ? undefined : createStatCache(options.statCache, preserve);
  const populator = createPopulator(store, directory, cache, options);
  try {
    const top = await rootEntry(store, root, options);
    return await populator.run(top as DirectoryEntry);
  } finally {
    cache?.discard();
    await populator.close();
  }
}

function createPopulator(
  store: BlockSource,
  target: string,
  cache: StatCacheWriter | undefined,
  { signal, onProgress, threads, publish }: PopulateOptions,
) {
  const local = 'segments' in store ? (store as LocalStore) : undefined;
  const progress = { files: 0, bytes: 0, totalFiles: 0, totalBytes: 0 };
  const origins: string[] = [];
  const work = createPendingWork(signal);
  let pool: WritePool | undefined;
  let list: PendingFile[] = [];
  let listBytes = 0;
  let active = 0;
  let finished: CachedEntry | undefined;

  async function run(entry: DirectoryEntry): Promise<ExportResult> {
    progress.totalFiles = entry.files;
    progress.totalBytes = entry.size;
    await writeAll(pending(undefined, entry, 0));
    await work.until(() => finished !== undefined);
    publish();
    await commitCache(entry);
    onProgress?.(progress);
    return { root: entry.link, files: progress.files, bytes: progress.bytes, removed: 0, origins };
  }

  /** Files that have just been written are not trusted for a moment; many of them are worth letting it pass. */
  async function commitCache({ link, size, files }: DirectoryEntry): Promise<void> {
    if (!cache || !finished) return;
    if (files >= MANY_FILES) await sleep(RACY_MS + 1);
    cache.commit({ link, size, files, record: finished.record });
  }

  /** A path below the target as the tree has it. */
  const inTree = (path: string) => path.slice(target.length + 1);

  function pending(parent: Pending | undefined, entry: DirectoryEntry, slot: number): Pending {
    const path = parent ? `${parent.path}/${entry.name}` : target;
    const depth = parent ? parent.depth + 1 : 0;
    if (depth > MAX_TREE_DEPTH) throw new LazytreeError('UNSUPPORTED', `'${inTree(path)}' is too deep`);
    if (parent) parent.waiting += 1;
    return { path, depth, parent, slot, entry, entries: [], waiting: 1 };
  }

  /**
   * Origins are waited for when nothing else is left to write, in the order in which they were asked for: what resolves
   * them may take them in turn, and what has come is written while others are on their way.
   */
  async function writeAll(top: Pending): Promise<void> {
    const directories = [top];
    const awaited: Later[] = [];
    for (;;) {
      work.check();
      const next = directories.pop();
      if (next) {
        directories.push(...(await writeDirectory(next, awaited)).reverse());
        settle(next);
        continue;
      }
      const later = awaited.shift();
      if (!later) break;
      const resolved = await later();
      if (resolved) directories.push(resolved);
    }
    await sendList(pool === undefined && list.length < FEW_FILES);
  }

  async function writeDirectory(directory: Pending, awaited: Later[]): Promise<Pending[]> {
    const { path, parent, entry } = directory;
    if (parent) makeDirectory(path, entry.metadata !== undefined);
    const below: Pending[] = [];
    const entries = await reading(inTree(path), () => listDirectory(store, entry.link, { signal }));
    directory.entries = new Array(entries.length);
    for (let slot = 0; slot < entries.length; slot++) {
      const item = entries[slot];
      if (item.kind === 'directory') below.push(pending(directory, item, slot));
      else if (isFile(item)) await addFile({ directory, slot, entry: item });
      else if (item.kind === 'symlink') directory.entries[slot] = makeSymlink(path, item);
      else if (store.resolveOrigin) awaited.push(originIn(directory, slot, item));
      else origins.push(inTree(`${path}/${item.name}`));
    }
    return below;
  }

  /** All origins that are known of are resolved side by side, while other things are written. */
  function originIn(directory: Pending, slot: number, entry: OriginEntry): Later {
    directory.waiting += 1;
    const resolving = resolveEntry(store, entry, inTree(`${directory.path}/${entry.name}`), { signal });
    // Its failure is told when its turn comes, unless something else fails before.
    resolving.catch(() => undefined);
    return async () => {
      const found = await resolving;
      let below: Pending | undefined;
      if (found.kind === 'directory') {
        below = pending(directory, found, slot);
        progress.totalFiles += found.files;
        progress.totalBytes += found.size;
      } else if (isFile(found)) {
        await addFile({ directory, slot, entry: found });
        progress.totalFiles += 1;
        progress.totalBytes += found.size;
      }
      settle(directory);
      return below;
    };
  }

  function makeDirectory(path: string, restricted: boolean): void {
    attempt(path, () => fs.mkdirSync(toFsPath(path), { mode: restricted ? 0o700 : 0o777 }));
  }

  function makeSymlink(directory: string, entry: Entry & { kind: 'symlink' }): CachedEntry {
    const path = `${directory}/${entry.name}`;
    const fsPath = toFsPath(path);
    attempt(path, () => fs.symlinkSync(toFsPath(entry.target), fsPath));
    if (entry.metadata) setMetadata(fsPath, entry.metadata);
    const stamp = cache ? stampOf(fs.lstatSync(fsPath)) : UNKNOWN;
    return { ...cachedEntry(entry, stamp), target: entry.target };
  }

  async function addFile(file: PendingFile): Promise<void> {
    file.directory.waiting += 1;
    if (!local) {
      await reading(inTree(pathOf(file)), () => writeHere(file));
      settle(file.directory);
      onProgress?.(progress);
      work.check();
      return;
    }
    list.push(file);
    listBytes += file.entry.size;
    if (list.length >= LIST_FILES || listBytes >= LIST_BYTES) await sendList(false);
  }

  /** From a store without segment files: a chunk at a time, in this thread. */
  async function writeHere(file: PendingFile): Promise<void> {
    const { entry } = file;
    const path = pathOf(file);
    const fd = attempt(path, () => createFile(path, entry.kind === 'executable'));
    let written = 0;
    let reported = 0;
    try {
      for await (const bytes of readFile(store, entry, { signal })) {
        attempt(path, () => writeFully(fd, bytes));
        written += bytes.length;
        if (written - reported < PROGRESS_BYTES) continue;
        reported = written;
        onProgress?.({ ...progress, bytes: progress.bytes + written });
        work.check();
      }
      if (entry.metadata) setMetadata(toFsPath(path), entry.metadata, fd);
      fileDone(file, cache ? stampOf(fs.fstatSync(fd)) : UNKNOWN);
    } finally {
      fs.closeSync(fd);
    }
  }

  async function sendList(here: boolean): Promise<void> {
    if (list.length === 0 || !local) return;
    pool ??= (here ? createLocalWriter : createWritePool)({
      segments: `${local.directory}/segments`,
      target,
      threads,
    });
    const files = list;
    list = [];
    listBytes = 0;
    const job = await makeJob(local, files);
    if (active >= pool.slots) {
      // Rather than wait for the others.
      received(files, (await pool.here(job)).stamps);
      await yieldToEvents();
      work.check();
      return;
    }
    active += 1;
    pool
      .run(job)
      .then(({ stamps }) => received(files, stamps))
      .catch((error: unknown) => {
        work.fail(error);
      })
      .finally(() => {
        active -= 1;
        work.changed();
      });
  }

  async function makeJob(source: LocalStore, list: readonly PendingFile[]): Promise<WriteJob> {
    const directories: string[] = [];
    const files: number[] = [];
    const digests: string[] = [];
    const chunks: number[] = [];
    let last: Pending | undefined;
    for (const file of list) {
      const { directory, entry } = file;
      if (directory !== last) directories.push(directory.path);
      last = directory;
      const before = digests.length;
      try {
        // Most files: nothing is awaited for them.
        if (linkCodec(entry.link) === RAW)
          addChunk(entry, locate(entry) ?? (await awaitPlace(source, entry)));
        else {
          for await (const chunk of fileChunks(source, entry, { signal }))
            addChunk(chunk, locate(chunk) ?? (await awaitPlace(source, chunk)));
        }
      } catch (error) {
        throw blockError(error, inTree(pathOf(file)));
      }
      files.push(directories.length - 1, entry.kind === 'executable' ? 1 : 0, digests.length - before);
    }
    return {
      directories,
      names: list.map(({ entry }) => entry.name).join('/'),
      files: Uint32Array.from(files),
      digests: digests.join(''),
      chunks: Float64Array.from(chunks),
      metadata: list.some(({ entry }) => entry.metadata)
        ? list.map(({ entry }) => entry.metadata)
        : undefined,
      stamps: cache !== undefined,
    };

    function locate({ link }: FilePart): Location | undefined {
      return source.locate(link);
    }

    function addChunk({ link, size }: FilePart, { segment, offset, stored }: Location): void {
      digests.push(linkDigest(link));
      chunks.push(segment, offset, stored, size);
    }
  }

  /** The place of a block that somebody has put since the export began, if it is not missing. */
  async function awaitPlace(source: LocalStore, { link }: FilePart): Promise<Location> {
    // One that is on its way comes without being read here: a thread reads it.
    if (!(await source.has(link, { signal }))) await source.get(link, { signal });
    let location = source.locate(link);
    // What is buffered has no place yet, where a thread could read it.
    if (!location) await source.flush();
    location ??= source.locate(link);
    if (!location) throw new BlockMissingError(formatLink(link), source.describe());
    return location;
  }

  function received(files: readonly PendingFile[], stamps: Float64Array): void {
    files.forEach((file, i) => {
      const at = i * 3;
      fileDone(file, cache ? { mtime: stamps[at], ctime: stamps[at + 1], inode: stamps[at + 2] } : UNKNOWN);
      settle(file.directory);
    });
    onProgress?.(progress);
  }

  function fileDone({ directory, slot, entry }: PendingFile, stamp: FileStamp): void {
    progress.files += 1;
    progress.bytes += entry.size;
    directory.entries[slot] = { ...cachedEntry(entry, stamp), link: entry.link, size: entry.size };
  }

  function settle(directory: Pending): void {
    directory.waiting -= 1;
    if (directory.waiting > 0) return;
    const { parent, slot, path, entry } = directory;
    if (parent && entry.metadata) setDirectoryMetadata(toFsPath(path), entry.metadata);
    const done = finish(directory);
    if (!parent) {
      finished = done;
      work.changed();
      return;
    }
    parent.entries[slot] = done;
    settle(parent);
  }

  function finish({ path, parent, entry, entries }: Pending): CachedEntry {
    const { link, size, files } = entry;
    let record = NO_RECORD;
    if (cache) {
      // The root's own times change when it is published.
      const stamp = parent ? stampOf(fs.lstatSync(toFsPath(path))) : UNKNOWN;
      record = cache.add({ stamp, rules: '', entries: entries.filter((item) => item !== undefined) });
    }
    return { ...cachedEntry(entry, UNKNOWN), link, size, files, record };
  }

  return {
    run,
    async close() {
      await pool?.close();
    },
  };
}

function cachedEntry({ kind, name, metadata }: Exclude<Entry, OriginEntry>, stamp: FileStamp): CachedEntry {
  const entry: CachedEntry = {
    kind,
    name,
    link: '' as Link,
    size: 0,
    stamp,
    target: '',
    files: 0,
    record: NO_RECORD,
  };
  if (metadata) entry.metadata = metadata;
  return entry;
}
