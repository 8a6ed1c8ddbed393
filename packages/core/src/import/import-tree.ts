import fs from 'node:fs';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { errnoOf, fromSystemError, LazytreeError } from '../errors.js';
import { encodeDirectory } from '../format/directory-node.js';
import { type Entry, type Metadata, MODE_MASK } from '../format/entry.js';
import { MAX_TREE_DEPTH } from '../format/limits.js';
import { LINK_LENGTH, type Link } from '../format/link.js';
import { nameFromBytes, sortByName, toFsPath } from '../format/name.js';
import type { BlockStore } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { createPendingWork } from '../threads/pending-work.js';
import { type BlockSink, createBlockSink } from './block-sink.js';
import { createIgnoreRules, type IgnoreRules } from './ignore.js';
import { IGNORE_FILE } from './ignore-file.js';
import { COLUMNS, Column, type IngestedFiles, Status, splitNanoseconds } from './ingest.js';
import { createIngestPool, type IngestPool } from './ingest-pool.js';
import {
  type CachedDirectory,
  type CachedEntry,
  createStatCache,
  type FileStamp,
  isUnchanged,
  isWorthKeeping,
  NO_RECORD,
  openStatCache,
  RACY_MS,
  type RecordPlace,
  type StatCacheReader,
  type StatCacheWriter,
  sameStamp,
  stampOf,
} from './stat-cache.js';
import { isKeptByGc } from './stat-caches.js';
import { startStatProber } from './stat-prober.js';

export interface ImportOptions {
  /** Keep permission bits and modification times. */
  preserve?: boolean;
  /** Follow `.lazytreeignore` files. Default true. */
  ignoreFiles?: boolean;
  /** Where to remember what was read, so that the next import reads only what has changed. */
  statCache?: string;
  /** Threads that read files. Default: one for each processor. */
  threads?: number;
  signal?: AbortSignal;
  onProgress?: (progress: ImportProgress) => void;
  /** Told of each file or directory that was left out, or stored while it was changing. */
  onWarning?: (warning: ImportWarning) => void;
}

export interface ImportProgress {
  /** Files and bytes that are done; `found` are the files seen so far. */
  files: number;
  bytes: number;
  found: number;
}

export interface ImportWarning {
  path: string;
  kind: 'special' | 'unstable' | 'store';
  message: string;
}

export interface ImportResult {
  root: Link;
  /** Content bytes and files in the tree. */
  size: number;
  files: number;
  /** Files whose content was read, the others being known unchanged. */
  read: number;
  /** Blocks new to the store and the bytes that they take there. */
  added: { blocks: number; bytes: number };
  warnings: ImportWarning[];
}

/** A directory whose entries are not all known yet. */
interface Pending {
  /** Relative to the import's root; empty for the root. */
  path: string;
  depth: number;
  name: string;
  parent: Pending | undefined;
  /** Its place in the parent's entries. */
  slot: number;
  entries: (CachedEntry | undefined)[];
  /** Things still to come: files being read, directories below, the scan itself. */
  waiting: number;
  stamp: FileStamp;
  metadata: Metadata | undefined;
  rules: IgnoreRules;
  cached: CachedDirectory | undefined;
  cachedLink: CachedEntry | undefined;
  /** Whether anything differs from what the cache says of this directory. */
  changed: boolean;
  /** Removed while the import was under way. */
  gone: boolean;
  /** Whether the ignore rules from above are those of the cached record. */
  sameRules: boolean;
  /** Known to be unchanged with all that is below, without having been scanned. */
  kept: boolean;
}

interface PendingFile {
  directory: Pending;
  slot: number;
  name: string;
}

const LIST = 64;
/** Other threads wait for answers while this one reads. */
const LIST_HERE = 32;
/** Lists of this thread that can be on their way into the store while it goes on. */
const SLOTS_HERE = 3;
/** Fewer files and bytes than these are read in this thread. */
const FEW_FILES = 128;
const FEW_BYTES = 4 << 20;
const SLICE_MS = 2;
const MOVED_RETRIES = 3;
const UNKNOWN: FileStamp = { mtime: Number.NaN, ctime: Number.NaN, inode: Number.NaN };

/**
 * Stores the directory `path` and everything below it, and returns the root. Symlinks are stored, never
 * followed. With any failure nothing refers to what was stored so far.
 *
 * @throws LazytreeError NOT_FOUND, REFUSED (a file that cannot be read), USAGE (not a directory), NO_SPACE
 */
export async function importTree(
  store: BlockStore,
  path: string,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const { statCache, preserve = false, signal } = options;
  signal?.throwIfAborted();
  const local = 'lease' in store ? (store as LocalStore) : undefined;
  const epoch = statCache === undefined ? '' : promiseOf(store, statCache);
  const old = statCache === undefined ? undefined : openStatCache(statCache, preserve, epoch);
  const lease = local?.lease(old ? [old.root] : []);
  try {
    const usable = old && (lease?.complete ?? true) && (await store.has(old.root)) ? old : undefined;
    const sink = createBlockSink(store, signal);
    return await readTree({ path, sink, old: usable, epoch, storeDirectory: local?.directory, options });
  } finally {
    old?.close();
    lease?.release();
  }
}

/** What has to be as it was for a cache to be believed. gc cares for the caches beside the blocks, and for no others. */
function promiseOf(store: BlockStore, statCache: string): string {
  if (!('epoch' in store)) return '';
  const local = store as LocalStore;
  return isKeptByGc(local.directory, statCache) ? local.epoch() : `${local.epoch()} ${local.collection()}`;
}

export interface ReadTreeOptions {
  path: string;
  /** Gets the blocks. */
  sink: BlockSink;
  /** What is known from before. */
  old?: StatCacheReader | undefined;
  /** Of the store that the blocks go to; see {@link openStatCache}. */
  epoch?: string;
  storeDirectory?: string | undefined;
  options: ImportOptions;
}

/** {@link importTree}, with the choice of where the blocks go. */
export async function readTree({
  path,
  sink,
  old,
  epoch = '',
  storeDirectory,
  options,
}: ReadTreeOptions): Promise<ImportResult> {
  const { preserve = false } = options;
  const root = openRoot(path);
  const storePath = storeDirectory === undefined ? undefined : findStore(storeDirectory, root);
  let pool: IngestPool | undefined;
  let writer: StatCacheWriter | undefined;
  try {
    const keep = old && isWorthKeeping(old) ? old : undefined;
    if (options.statCache !== undefined)
      writer = createStatCache(options.statCache, preserve, { old: keep, epoch });
    const poolFor = (few: boolean) => {
      pool ??= createIngestPool({ sink, nanoseconds: preserve, threads: few ? 1 : options.threads });
      return pool;
    };
    const importer = createImporter({
      root,
      storePath,
      sink,
      poolFor,
      old,
      appends: keep !== undefined,
      writer,
      options,
    });
    const result = await importer();
    await sink.flush();
    writer?.commit(result.cacheRoot);
    writer = undefined;
    return result;
  } finally {
    writer?.discard();
    await pool?.close();
  }
}

function openRoot(path: string): string {
  try {
    const root = realPath(path);
    if (!fs.lstatSync(toFsPath(root)).isDirectory()) {
      throw new LazytreeError('USAGE', `'${path}' is not a directory`, {
        hint: 'import the directory that it is in',
      });
    }
    return root;
  } catch (error) {
    throw fromSystemError(error, `importing '${path}'`);
  }
}

/** The native one: Node's own takes every path for UTF-8. */
function realPath(path: string): string {
  return nameFromBytes(fs.realpathSync.native(toFsPath(path), { encoding: 'buffer' }));
}

/**
 * The path of the store relative to the directory that is imported, or undefined when it is not in there.
 *
 * @throws LazytreeError USAGE for a part of the store itself, which would grow while it is read
 */
function findStore(storeDirectory: string, root: string): string | undefined {
  const store = realStore(storeDirectory);
  if (store === undefined) return undefined;
  if (pathBelow(store, root) !== undefined) {
    throw new LazytreeError('USAGE', `'${root}' is in the store ${storeDirectory}`, {
      hint: 'export what is in the store, or copy its directory',
    });
  }
  return pathBelow(root, store);
}

function realStore(directory: string): string | undefined {
  try {
    return realPath(directory);
  } catch (error) {
    // Removed while it is open: then there is nothing to be imported either.
    if (isGone(error)) return undefined;
    throw fromSystemError(error, `looking for the store ${directory}`);
  }
}

/** `path` relative to `directory`: empty for itself, undefined when it is elsewhere. */
function pathBelow(directory: string, path: string): string | undefined {
  if (path === directory) return '';
  const prefix = directory === '/' ? '/' : `${directory}/`;
  return path.startsWith(prefix) ? path.slice(prefix.length) : undefined;
}

interface ImporterContext {
  root: string;
  /** Of the store, relative to the root that it lies in. */
  storePath: string | undefined;
  sink: BlockSink;
  /** The readers; for `few` files, this thread alone. */
  poolFor: (few: boolean) => IngestPool;
  old: StatCacheReader | undefined;
  /** Whether the writer keeps the records of `old`. */
  appends: boolean;
  writer: StatCacheWriter | undefined;
  options: ImportOptions;
}

function createImporter({ root, storePath, sink, poolFor, old, appends, writer, options }: ImporterContext) {
  const { preserve = false, ignoreFiles = true, signal, onProgress, onWarning } = options;
  const warnings: ImportWarning[] = [];
  const progress = { files: 0, bytes: 0, found: 0 };
  const work = createPendingWork(signal);
  const began = Date.now();
  let read = 0;
  const queue: PendingFile[] = [];
  let active = 0;
  let activeHere = 0;
  let finished: CachedEntry | undefined;
  let sliceStart = performance.now();
  let threads: IngestPool | undefined;
  const prober = old && appends ? startStatProber(root, old) : undefined;

  const absolute = (path: string) => (path === '' ? root : `${root}/${path}`);
  const join1 = (directory: string, name: string) => (directory === '' ? name : `${directory}/${name}`);

  function warn(warning: ImportWarning): void {
    warnings.push(warning);
    onWarning?.(warning);
  }

  return async function run(): Promise<
    ImportResult & { cacheRoot: Parameters<StatCacheWriter['commit']>[0] }
  > {
    const top: Pending = {
      path: '',
      depth: 0,
      name: '',
      parent: undefined,
      slot: 0,
      entries: [],
      waiting: 1,
      stamp: UNKNOWN,
      metadata: undefined,
      rules: createIgnoreRules(root),
      cached: undefined,
      cachedLink: old && directoryEntry('', old.root, old, old.rootRecord),
      changed: false,
      gone: false,
      sameRules: false,
      kept: false,
    };
    try {
      await scanAll(top);
      await readFew();
      await work.until(() => finished !== undefined);
    } finally {
      prober?.stop();
    }
    onProgress?.(progress);
    const { link, size, files, record } = finished as CachedEntry;
    const totals = { size, files };
    return {
      root: link,
      ...totals,
      read,
      added: sink.added,
      warnings,
      cacheRoot: { link, ...totals, record },
    };
  };

  /** Depth first, in order of name, so that what lies together on disk lies together in the store. */
  async function scanAll(top: Pending): Promise<void> {
    const stack = [top];
    for (let next = stack.pop(); next; next = stack.pop()) {
      if (performance.now() - sliceStart > SLICE_MS) await breathe();
      const below = scan(next);
      for (let i = below.length - 1; i >= 0; i--) stack.push(below[i]);
      await settle(next);
      while (queue.length > FEW_FILES || (threads && queue.length >= LIST)) await sendList();
    }
  }

  async function breathe(): Promise<void> {
    onProgress?.(progress);
    await yieldToEvents();
    work.check();
    sliceStart = performance.now();
  }

  async function sendList(): Promise<void> {
    threads ??= poolFor(false);
    if (active - activeHere < threads.slots) {
      void send(threads.run, queue.splice(0, LIST));
      return;
    }
    void sendHere(threads.here, queue.splice(0, LIST_HERE));
    await work.until(() => activeHere < SLOTS_HERE);
    await breathe();
  }

  async function sendHere(read: IngestPool['here'], files: PendingFile[]): Promise<void> {
    activeHere += 1;
    await send(read, files);
    activeHere -= 1;
    work.changed();
  }

  /** What is left when everything has been scanned: to the threads if they run, else here if it is little. */
  async function readFew(): Promise<void> {
    if (queue.length === 0) return;
    if (!threads && !isLittle(queue)) threads = poolFor(false);
    threads ??= poolFor(true);
    while (queue.length > 0) await sendList();
  }

  function isLittle(files: readonly PendingFile[]): boolean {
    let bytes = 0;
    for (const { directory, name } of files) {
      bytes +=
        fs.lstatSync(toFsPath(absolute(join1(directory.path, name))), { throwIfNoEntry: false })?.size ?? 0;
      if (bytes > FEW_BYTES) return false;
    }
    return true;
  }

  async function send(read: IngestPool['run'], files: PendingFile[], attempt = 1): Promise<void> {
    if (files.length === 0) return;
    active += 1;
    const paths = files.map(({ directory, name }) => absolute(join1(directory.path, name)));
    try {
      await receive(read, files, await read(paths), attempt);
    } catch (error) {
      work.fail(error);
    } finally {
      active -= 1;
      work.changed();
    }
  }

  async function receive(
    readAgain: IngestPool['run'],
    files: PendingFile[],
    result: IngestedFiles,
    attempt: number,
  ): Promise<void> {
    for (const { index, code, message } of result.failures) {
      const path = absolute(join1(files[index].directory.path, files[index].name));
      throw fromSystemError(Object.assign(new Error(message), { code }), `reading '${path}'`);
    }
    const again: PendingFile[] = [];
    for (let i = 0; i < files.length; i++) {
      const { directory, slot, name } = files[i];
      const status = result.status[i];
      if (status === Status.moved) {
        const retry = attempt < MOVED_RETRIES && lookAgain(files[i]);
        if (retry) again.push(files[i]);
        else await settle(directory);
        continue;
      }
      if (status === Status.unstable) {
        warn({
          path: join1(directory.path, name),
          kind: 'unstable',
          message: 'kept changing while it was read; stored as it was last read',
        });
      }
      directory.entries[slot] = fileEntry(name, result, i);
      directory.changed = true;
      read += 1;
      progress.files += 1;
      progress.bytes += result.numbers[i * COLUMNS + Column.size];
      if (directory.waiting > 1) directory.waiting -= 1;
      else await settle(directory);
    }
    onProgress?.(progress);
    await send(readAgain, again, attempt + 1);
  }

  function fileEntry(name: string, result: IngestedFiles, index: number): CachedEntry {
    const row = index * COLUMNS;
    const column = (which: number) => result.numbers[row + which];
    const mode = column(Column.mode);
    const link = result.links.slice(index * LINK_LENGTH, (index + 1) * LINK_LENGTH) as Link;
    const entry: CachedEntry = {
      kind: mode & 0o100 ? 'executable' : 'file',
      name,
      link,
      size: column(Column.size),
      stamp: {
        mtime: column(Column.mtime),
        ctime: column(Column.ctime),
        inode: column(Column.inode),
      },
      target: '',
      files: 0,
      record: NO_RECORD,
    };
    if (preserve) {
      const [seconds, nanoseconds] = [column(Column.seconds), column(Column.nanoseconds)];
      entry.metadata = { mode: mode & MODE_MASK, seconds, nanoseconds };
    }
    return entry;
  }

  /** A file that was gone when it was opened: drops it, or takes it for what it has become. */
  function lookAgain({ directory, slot, name }: PendingFile): boolean {
    const stat = fs.lstatSync(toFsPath(absolute(join1(directory.path, name))), { throwIfNoEntry: false });
    if (stat?.isFile()) return true;
    directory.changed = true;
    directory.stamp = UNKNOWN;
    if (stat?.isSymbolicLink()) directory.entries[slot] = symlinkEntry(directory, name, stat);
    else if (stat) {
      warn({
        path: join1(directory.path, name),
        kind: 'unstable',
        message: 'changed its kind while it was imported',
      });
    }
    return false;
  }

  /** Reads a directory's names and finds out what has changed. Returns the directories below it. */
  function scan(directory: Pending): Pending[] {
    const path = absolute(directory.path);
    const { cachedLink, sameRules } = directory;
    if (cachedLink && sameRules && prober?.claim(cachedLink.record)) {
      directory.kept = true;
      progress.files += cachedLink.files;
      progress.found += cachedLink.files;
      progress.bytes += cachedLink.size;
      return [];
    }
    directory.cached = cachedLink && old?.directory(cachedLink.record);
    try {
      return scanNames(directory, path);
    } catch (error) {
      if (directory.parent && isGone(error)) {
        directory.gone = true;
        return [];
      }
      throw fromSystemError(error, `reading '${path}'`);
    }
  }

  function scanNames(directory: Pending, path: string): Pending[] {
    const stat = fs.lstatSync(toFsPath(path));
    if (!stat.isDirectory())
      throw Object.assign(new Error(`'${path}' is no longer a directory`), { code: 'ENOTDIR' });
    // A directory that changed just now may change again without its time showing it.
    directory.stamp = stat.ctimeMs < began - RACY_MS ? stampOf(stat) : UNKNOWN;
    if (preserve && directory.parent) directory.metadata = metadataOf(path);
    const { cached } = directory;
    const sameNames = cached !== undefined && sameStamp(cached.stamp, directory.stamp);
    if (sameNames) {
      const hasIgnoreFile = ignoreFiles && cached.entries.some(({ name }) => name === IGNORE_FILE);
      const rules = directory.rules.enter(directory.path, hasIgnoreFile);
      if (rules.fingerprint === cached.rules) {
        directory.rules = rules;
        return scanKnown(directory, cached.entries);
      }
    }
    directory.changed = true;
    return scanListed(directory, path);
  }

  /** The names are those of the cache: only the stamps have to be compared. */
  function scanKnown(directory: Pending, entries: readonly CachedEntry[]): Pending[] {
    const below: Pending[] = [];
    directory.entries = new Array(entries.length);
    const prefix = `${absolute(directory.path)}/`;
    for (let slot = 0; slot < entries.length; slot++) {
      const entry = entries[slot];
      if (entry.kind === 'directory') {
        for (const inner of enter(directory, entry.name, slot, entry)) {
          inner.sameRules = true;
          below.push(inner);
        }
        continue;
      }
      const path = prefix + entry.name;
      const stat = fs.lstatSync(toFsPath(path), { throwIfNoEntry: false });
      if (stat && isUnchanged(entry, stat)) keep(directory, slot, entry);
      else if (stat) below.push(...classify(directory, slot, entry.name, stat));
      else directory.changed = true;
    }
    return below;
  }

  function scanListed(directory: Pending, path: string): Pending[] {
    const known = new Map(directory.cached?.entries.map((entry) => [entry.name, entry]));
    let listed = list(path);
    const hasIgnoreFile = ignoreFiles && listed.some(({ name }) => name === IGNORE_FILE);
    const rules = directory.rules.enter(directory.path, hasIgnoreFile);
    directory.rules = rules;
    listed = listed.filter(
      ({ name, dirent }) => !rules.ignores(join1(directory.path, name), dirent.isDirectory()),
    );
    // Rules that are not among the entries change unseen.
    if (hasIgnoreFile && rules.ignores(join1(directory.path, IGNORE_FILE), false)) directory.stamp = UNKNOWN;
    const below: Pending[] = [];
    directory.entries = new Array(listed.length);
    for (let slot = 0; slot < listed.length; slot++) {
      const { name, dirent } = listed[slot];
      const entry = known.get(name);
      if (dirent.isDirectory()) below.push(...enter(directory, name, slot, entry));
      else if (dirent.isFile() && !entry) enqueue(directory, slot, name);
      else {
        const stat = fs.lstatSync(toFsPath(`${path}/${name}`), { throwIfNoEntry: false });
        if (stat && entry && isUnchanged(entry, stat)) keep(directory, slot, entry);
        else if (stat) below.push(...classify(directory, slot, name, stat));
      }
    }
    return below;
  }

  function list(path: string): { name: string; dirent: fs.Dirent<string> | fs.Dirent<Buffer> }[] {
    const fsPath = toFsPath(path);
    const dirents = fs.readdirSync(fsPath, { withFileTypes: true });
    const items: { name: string; dirent: fs.Dirent<string> | fs.Dirent<Buffer> }[] = dirents.some(
      ({ name }) => name.includes('\ufffd'),
    )
      ? fs
          .readdirSync(fsPath, { withFileTypes: true, encoding: 'buffer' })
          .map((dirent) => ({ name: nameFromBytes(dirent.name), dirent }))
      : dirents.map((dirent) => ({ name: dirent.name, dirent }));
    return sortByName(items);
  }

  function classify(directory: Pending, slot: number, name: string, stat: fs.Stats): Pending[] {
    directory.changed = true;
    const path = join1(directory.path, name);
    if (stat.isDirectory()) return enter(directory, name, slot, undefined);
    if (stat.isFile()) enqueue(directory, slot, name);
    else if (stat.isSymbolicLink()) {
      directory.entries[slot] = symlinkEntry(directory, name, stat);
    } else skip(directory, { path, kind: 'special', message: `${specialKind(stat)} skipped` });
    return [];
  }

  /** Leaves something out. Its directory is listed again by the next import, which has to warn as well. */
  function skip(directory: Pending, warning: ImportWarning): void {
    directory.stamp = UNKNOWN;
    warn(warning);
  }

  function enter(directory: Pending, name: string, slot: number, entry: CachedEntry | undefined): Pending[] {
    const path = join1(directory.path, name);
    if (path === storePath) {
      skip(directory, { path, kind: 'store', message: 'the store itself, skipped' });
      return [];
    }
    return [child(directory, name, slot, entry?.kind === 'directory' ? entry : undefined)];
  }

  function child(parent: Pending, name: string, slot: number, entry: CachedEntry | undefined): Pending {
    const path = join1(parent.path, name);
    if (parent.depth >= MAX_TREE_DEPTH) throw new LazytreeError('UNSUPPORTED', `'${path}' is too deep`);
    parent.waiting += 1;
    return {
      path,
      depth: parent.depth + 1,
      name,
      parent,
      slot,
      entries: [],
      waiting: 1,
      stamp: UNKNOWN,
      metadata: undefined,
      rules: parent.rules,
      cached: undefined,
      cachedLink: entry,
      changed: false,
      gone: false,
      sameRules: false,
      kept: false,
    };
  }

  function keep(directory: Pending, slot: number, entry: CachedEntry): void {
    directory.entries[slot] = entry;
    if (entry.kind === 'symlink') return;
    progress.files += 1;
    progress.found += 1;
    progress.bytes += entry.size;
  }

  function enqueue(directory: Pending, slot: number, name: string): void {
    directory.waiting += 1;
    directory.changed = true;
    progress.found += 1;
    queue.push({ directory, slot, name });
  }

  /** A symlink as it is now, or undefined when it is not there, or no symlink, any more. */
  function symlinkEntry(directory: Pending, name: string, stat: fs.Stats): CachedEntry | undefined {
    const path = absolute(join1(directory.path, name));
    const stamp = stat.ctimeMs < began - RACY_MS ? stampOf(stat) : UNKNOWN;
    try {
      const target = nameFromBytes(fs.readlinkSync(toFsPath(path), { encoding: 'buffer' }));
      const metadata = preserve ? { metadata: metadataOf(path) } : {};
      const common = { name, link: '' as Link, size: 0, files: 0, record: NO_RECORD };
      return { ...common, kind: 'symlink', stamp, target, ...metadata };
    } catch (error) {
      if (!isGone(error) && errnoOf(error) !== 'EINVAL') throw error;
      directory.stamp = UNKNOWN;
      return undefined;
    }
  }

  /** One thing less to wait for; a directory that waits for nothing becomes an entry of its parent. */
  async function settle(directory: Pending): Promise<void> {
    directory.waiting -= 1;
    if (directory.waiting > 0) return;
    const entry = directory.kept ? (directory.cachedLink as CachedEntry) : await finish(directory);
    const { parent } = directory;
    if (!parent) {
      finished = entry;
      work.changed();
      return;
    }
    if (directory.gone) parent.stamp = UNKNOWN;
    else parent.entries[directory.slot] = entry;
    if (directory.changed || directory.gone) parent.changed = true;
    await settle(parent);
  }

  async function finish(directory: Pending): Promise<CachedEntry> {
    const entries = directory.entries.filter((entry) => entry !== undefined);
    const { cachedLink, metadata } = directory;
    const reuse = !directory.changed && cachedLink && entries.length === directory.cached?.entries.length;
    let link = cachedLink?.link as Link;
    let totals = { size: cachedLink?.size ?? 0, files: cachedLink?.files ?? 0 };
    if (!reuse) {
      directory.changed = true;
      const encoded = encodeDirectory(entries as unknown as Entry[]);
      await sink.putNodes(encoded.nodes);
      link = encoded.link;
      totals = encoded;
    }
    const { rules, stamp } = directory;
    const kept = reuse && appends ? cachedLink.record : undefined;
    const record = kept ?? writer?.add({ stamp, rules: rules.fingerprint, entries }) ?? NO_RECORD;
    directory.entries = [];
    const entry = directoryEntry(directory.name, link, totals, record);
    if (metadata) {
      entry.metadata = metadata;
      if (!sameMetadata(metadata, cachedLink?.metadata)) directory.changed = true;
    }
    return entry;
  }
}

function directoryEntry(
  name: string,
  link: Link,
  { size, files }: { size: number; files: number },
  record: RecordPlace,
): CachedEntry {
  return { kind: 'directory', name, link, size, stamp: UNKNOWN, target: '', files, record };
}

function isGone(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

function sameMetadata(a: Metadata, b: Metadata | undefined): boolean {
  return a.mode === b?.mode && a.seconds === b.seconds && a.nanoseconds === b.nanoseconds;
}

function metadataOf(path: string): Metadata {
  const { mode, mtimeNs } = fs.lstatSync(toFsPath(path), { bigint: true });
  const [seconds, nanoseconds] = splitNanoseconds(mtimeNs);
  return { mode: Number(mode) & MODE_MASK, seconds, nanoseconds };
}

function specialKind(stat: fs.Stats): string {
  if (stat.isFIFO()) return 'named pipe';
  if (stat.isSocket()) return 'socket';
  return stat.isBlockDevice() ? 'block device' : 'character device';
}
