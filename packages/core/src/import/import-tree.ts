import fs from 'node:fs';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { errnoOf, fromSystemError, LazytreeError } from '../errors.js';
import { encodeDirectory } from '../format/directory-node.js';
import { type Entry, type Metadata, MODE_MASK, type Totals } from '../format/entry.js';
import { MAX_TREE_DEPTH } from '../format/limits.js';
import { LINK_LENGTH, type Link, linkCodec, RAW } from '../format/link.js';
import { nameFromBytes, sortByName, toFsPath } from '../format/name.js';
import { isInBase, isUnchangedMetacopy } from '../overlay/cached-layer.js';
import {
  createLayer,
  type ImportOver,
  type Layer,
  type MergedDirectory,
  type Place,
  type SeenDirectory,
} from '../overlay/layer.js';
import { isWhiteoutDevice } from '../overlay/marks.js';
import { untilAtRest } from '../overlay/rounds.js';
import type { BlockStore } from '../store/block-store.js';
import type { Lease, LocalStore } from '../store/local.js';
import { createPendingWork } from '../threads/pending-work.js';
import { hasMetadata } from '../tree/has-metadata.js';
import { type BlockSink, createBlockSink } from './block-sink.js';
import { createIgnoreRules, type IgnoreRules } from './ignore.js';
import { IGNORE_FILE } from './ignore-file.js';
import { COLUMNS, Column, type IngestedFiles, Status } from './ingest.js';
import { createIngestPool, type IngestPool } from './ingest-pool.js';
import { readMetadata } from './read-metadata.js';
import { realPath } from './real-path.js';
import { createStatCache, isWorthKeeping, RACY_MS, type StatCacheWriter } from './stat-cache.js';
import { isKeptByGc } from './stat-caches.js';
import {
  type CachedDirectory,
  type CachedEntry,
  type FileStamp,
  isUnchanged,
  NO_RECORD,
  type RecordPlace,
  sameStamp,
  stampOf,
} from './stat-record.js';
import { beginSurvey, type Survey } from './survey.js';

export interface ImportOptions {
  /** Keep permission bits and modification times. Default: as the base was imported, or not. */
  preserve?: boolean;
  /** Follow `.lazytreeignore` files. Default true. */
  ignoreFiles?: boolean;
  /** Where to remember what was read, so that the next import reads only what has changed. */
  statCache?: string;
  /** Of the same directory and cache, when the caller has begun one. It is stopped in the end. Of no use to a layer. */
  survey?: Survey | undefined;
  /**
   * The directory is the upper layer of an overlayfs over this tree, and the root is to be that of what the mount
   * shows. The options are to be those that the base was imported with. For a workspace; see docs/workspaces.md.
   */
  over?: ImportOver;
  /**
   * The directory that the store lies in with whatever else belongs to it. Where it lies in what is imported, it is left
   * out, as the store is.
   */
  home?: string;
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
  /** What it lies over, in a layer. */
  over: Place | undefined;
}

interface PendingFile {
  directory: Pending;
  slot: number;
  name: string;
  /** In a layer, the file that is meant (see Layer.ownContent); NaN for whatever has the name. */
  inode: number;
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
  const { over, survey, signal } = options;
  try {
    signal?.throwIfAborted();
    const sink = createBlockSink(store, signal);
    if (over) return await importOver(store, path, { sink, over, options });
    return await importOnce(store, path, { sink, options });
  } finally {
    survey?.stop();
  }
}

async function importOver(
  store: BlockStore,
  path: string,
  { sink, over, options }: OnceOptions & { over: ImportOver },
): Promise<ImportResult> {
  if (linkCodec(over.base) === RAW) throw new LazytreeError('USAGE', 'the base of a layer is a directory');
  // Warnings of a round that is not the last are of no interest.
  const { onWarning, ...quietly } = options;
  const lease = 'lease' in store ? (store as LocalStore).lease([over.base]) : undefined;
  let read = 0;
  try {
    const preserve = options.preserve ?? (await hasMetadata(over.source ?? store, over.base));
    const once = async (seen: SeenDirectory[]) => {
      const result = await importOnce(store, path, { sink, seen, options: { ...quietly, preserve } });
      read += result.read;
      return result;
    };
    const { result, moving } = await untilAtRest(openRoot(path), once, options.signal);
    if (moving !== undefined) {
      const message = 'kept changing while it was read; what was moved may be missing';
      result.warnings.push({ path: moving, kind: 'unstable', message });
    }
    for (const warning of result.warnings) onWarning?.(warning);
    return { ...result, read };
  } finally {
    lease?.release();
  }
}

interface OnceOptions {
  sink: BlockSink;
  options: ImportOptions;
  /** Gets the directories of a layer. */
  seen?: SeenDirectory[];
}

async function importOnce(
  store: BlockStore,
  path: string,
  { sink, seen = [], options }: OnceOptions,
): Promise<ImportResult> {
  const { statCache, over, preserve = false } = options;
  const local = 'lease' in store ? (store as LocalStore) : undefined;
  const epoch = statCache === undefined ? '' : promiseOf(store, statCache) + baseOf(options);
  const begin = () => (statCache === undefined ? undefined : beginSurvey(path, statCache, { looks: !over }));
  const survey = (over ? undefined : options.survey) ?? begin();
  let lease: Lease | undefined;
  try {
    const old = survey?.cache.fits({ preserve, epoch }) ? survey : undefined;
    lease = local?.lease(old ? [old.cache.root] : []);
    const usable = old && (lease?.complete ?? true) && (await store.has(old.cache.root)) ? old : undefined;
    const layer = layerOf(store, path, { sink, seen, options });
    const about = { path, sink, old: usable, epoch, storeDirectory: local?.directory, layer, options };
    return await readTree(about);
  } finally {
    survey?.stop();
    lease?.release();
  }
}

function layerOf(
  store: BlockStore,
  path: string,
  { sink, seen = [], options }: OnceOptions,
): Layer | undefined {
  const { over, preserve = false, ignoreFiles = true, signal } = options;
  return (
    over &&
    createLayer({
      store: over.source ?? store,
      sink,
      root: openRoot(path),
      over,
      ignoreFiles,
      preserve,
      signal,
      seen,
    })
  );
}

/** What is known of a layer over one tree says nothing of the same over another one. */
function baseOf({ over }: ImportOptions): string {
  return over ? ` over ${over.base}` : '';
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
  old?: Survey | undefined;
  /** Of the store that the blocks go to; see StatCacheUse. */
  epoch?: string;
  storeDirectory?: string | undefined;
  layer?: Layer | undefined;
  options: ImportOptions;
}

/** {@link importTree}, with the choice of where the blocks go. */
export async function readTree({
  path,
  sink,
  old,
  epoch = '',
  storeDirectory,
  layer,
  options,
}: ReadTreeOptions): Promise<ImportResult> {
  const { preserve = false } = options;
  const root = openRoot(path);
  const storePath = storeDirectory === undefined ? undefined : findStore(storeDirectory, root);
  const homePath = options.home === undefined ? undefined : findHome(options.home, root);
  let pool: IngestPool | undefined;
  let writer: StatCacheWriter | undefined;
  try {
    const known = old?.root === root ? old : undefined;
    const keep = known && isWorthKeeping(known.cache) ? known.cache : undefined;
    if (options.statCache !== undefined)
      writer = createStatCache(options.statCache, preserve, { old: keep, epoch });
    const poolFor = (few: boolean) => {
      pool ??= createIngestPool({ sink, nanoseconds: preserve, threads: few ? 1 : options.threads });
      return pool;
    };
    const importer = createImporter({
      root,
      ownPath: homePath || storePath,
      sink,
      poolFor,
      old: known,
      appends: keep !== undefined,
      writer,
      layer,
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

/** The path of the home relative to the directory that is imported: empty for itself, undefined outside of it. */
function findHome(home: string, root: string): string | undefined {
  const directory = realStore(home);
  return directory === undefined ? undefined : pathBelow(root, directory);
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
  /** Of the store or its home, relative to the root that it lies in. */
  ownPath: string | undefined;
  sink: BlockSink;
  /** The readers; for `few` files, this thread alone. */
  poolFor: (few: boolean) => IngestPool;
  old: Survey | undefined;
  /** Whether the writer keeps the records of `old`. */
  appends: boolean;
  writer: StatCacheWriter | undefined;
  layer: Layer | undefined;
  options: ImportOptions;
}

function createImporter(context: ImporterContext) {
  const { root, ownPath, sink, poolFor, old, appends, writer, layer, options } = context;
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
  /** Where the records of what has not changed stay as they are, the rest is all there is to be scanned. */
  const survey = appends ? old : undefined;

  const absolute = (path: string) => (path === '' ? root : `${root}/${path}`);
  const ownAbsolute = ownPath === undefined ? undefined : absolute(ownPath);
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
      cachedLink: old && directoryEntry('', old.cache.root, old.cache, old.cache.rootRecord),
      changed: false,
      gone: false,
      sameRules: false,
      kept: false,
      over: undefined,
    };
    await survey?.finish({ signal, onProgress: report });
    await scanAll(top);
    await readFew();
    await work.until(() => finished !== undefined);
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
      if (layer) await enterLayer(layer, next);
      const below = scan(next);
      for (let i = below.length - 1; i >= 0; i--) stack.push(below[i]);
      await settle(next);
      while (queue.length > FEW_FILES || (threads && queue.length >= LIST)) await sendList();
    }
  }

  async function enterLayer(into: Layer, directory: Pending): Promise<void> {
    const { path, name, parent, cachedLink, sameRules } = directory;
    directory.cached = cachedLink && old?.cache.directory(cachedLink.record);
    const cached = sameRules || !parent ? directory.cached : undefined;
    directory.over = await into.enter({ path, name, parent: parent?.over, cached });
  }

  function report(): void {
    onProgress?.({ ...progress, found: Math.max(progress.found, survey?.seen() ?? 0) });
  }

  async function breathe(): Promise<void> {
    report();
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
      const { inode } = files[i];
      // Another file has got the name since, and may be one whose content is in the base.
      const isAnother = !Number.isNaN(inode) && result.numbers[i * COLUMNS + Column.inode] !== inode;
      if (isAnother && attempt < MOVED_RETRIES) {
        const found = inodeToRead(files[i]);
        if (found === undefined) await settle(directory);
        else again.push({ ...files[i], inode: found });
        continue;
      }
      if (status === Status.unstable || isAnother) {
        warn({
          path: join1(directory.path, name),
          kind: 'unstable',
          message: 'kept changing while it was read; stored as it was last read',
        });
      }
      directory.entries[slot] = fileEntry(name, result, i);
      // What may be another file's content is not to be remembered as this one's.
      if (isAnother) directory.entries[slot].stamp = UNKNOWN;
      directory.changed = true;
      read += 1;
      progress.files += 1;
      progress.bytes += result.numbers[i * COLUMNS + Column.size];
      if (directory.waiting > 1) directory.waiting -= 1;
      else await settle(directory);
    }
    report();
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
    if (cachedLink && sameRules && survey?.isUnchanged(cachedLink.record)) {
      directory.kept = true;
      countKept(cachedLink);
      return [];
    }
    directory.cached ??= cachedLink && old?.cache.directory(cachedLink.record);
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
    const stat = directory.over?.stat ?? fs.lstatSync(toFsPath(path));
    if (!stat.isDirectory())
      throw Object.assign(new Error(`'${path}' is no longer a directory`), { code: 'ENOTDIR' });
    // A directory that changed just now may change again without its time showing it.
    directory.stamp = stat.ctimeMs < began - RACY_MS ? stampOf(stat) : UNKNOWN;
    if (preserve && directory.parent) directory.metadata = readMetadata(path);
    const { cached } = directory;
    const isKnown = directory.over?.known !== undefined;
    const sameNames = cached !== undefined && (isKnown || sameStamp(cached.stamp, directory.stamp));
    if (sameNames) {
      const rules = enterRules(directory, cached.entries);
      if (fingerprintOf(directory, rules) === cached.rules) {
        directory.rules = rules;
        return scanKnown(directory, cached.entries);
      }
    }
    directory.changed = true;
    return scanListed(directory, path);
  }

  function enterRules({ rules, path, over }: Pending, entries: readonly { name: string }[]): IgnoreRules {
    if (!ignoreFiles) return rules;
    return rules.enter(path, over?.ignoreFile ?? entries.some(({ name }) => name === IGNORE_FILE));
  }

  function fingerprintOf({ over }: Pending, rules: IgnoreRules): string {
    return layer && over ? layer.fingerprint(over, rules) : rules.fingerprint;
  }

  /** The names are those of the cache: only the stamps have to be compared. */
  function scanKnown(directory: Pending, entries: readonly CachedEntry[]): Pending[] {
    const below: Pending[] = [];
    directory.entries = new Array(entries.length);
    const prefix = `${absolute(directory.path)}/`;
    for (let slot = 0; slot < entries.length; slot++) {
      const entry = entries[slot];
      if (layer && isInBase(entry)) {
        directory.entries[slot] = entry;
        continue;
      }
      const path = prefix + entry.name;
      if (entry.kind === 'directory') {
        // Of a thousand directories side by side, one has changed.
        if (survey?.isUnchanged(entry.record) && path !== ownAbsolute) {
          directory.entries[slot] = entry;
          countKept(entry);
        } else below.push(...enter(directory, entry.name, slot, entry, true));
        continue;
      }
      const stat = fs.lstatSync(toFsPath(path), { throwIfNoEntry: false });
      if (stat && isAsBefore(entry, stat)) keep(directory, slot, entry);
      else if (stat) below.push(...classify(directory, slot, entry.name, stat));
      else directory.changed = true;
    }
    return below;
  }

  function isAsBefore(entry: CachedEntry, stat: fs.Stats): boolean {
    return isUnchanged(entry, stat) || (layer !== undefined && isUnchangedMetacopy(entry, stat));
  }

  function scanListed(directory: Pending, path: string): Pending[] {
    const known = new Map(directory.cached?.entries.map((entry) => [entry.name, entry]));
    let listed = list(path);
    if (layer && directory.over) listed = layer.visible(directory.over, listed);
    const above = directory.rules;
    const rules = enterRules(directory, listed);
    directory.rules = rules;
    listed = listed.filter(
      ({ name, dirent }) => !rules.ignores(join1(directory.path, name), dirent.isDirectory()),
    );
    // Rules that are not among the entries change unseen.
    if (rules !== above && rules.ignores(join1(directory.path, IGNORE_FILE), false))
      directory.stamp = UNKNOWN;
    // What a directory of a layer lies over can be another one without its own time stamps saying so.
    const sameRules = !layer && directory.cached?.rules === rules.fingerprint;
    const below: Pending[] = [];
    directory.entries = new Array(listed.length);
    for (let slot = 0; slot < listed.length; slot++) {
      const { name, dirent } = listed[slot];
      const entry = known.get(name);
      if (dirent.isDirectory()) below.push(...enter(directory, name, slot, entry, sameRules));
      else if (dirent.isFile() && !entry) enqueue(directory, slot, name);
      else {
        const stat = fs.lstatSync(toFsPath(`${path}/${name}`), { throwIfNoEntry: false });
        if (stat && entry && isAsBefore(entry, stat)) keep(directory, slot, entry);
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
    if (stat.isDirectory()) return enter(directory, name, slot);
    if (stat.isFile()) enqueue(directory, slot, name);
    else if (stat.isSymbolicLink()) {
      directory.entries[slot] = symlinkEntry(directory, name, stat);
    } else if (!directory.over || !isWhiteoutDevice(stat)) {
      skip(directory, { path, kind: 'special', message: `${specialKind(stat)} skipped` });
    }
    return [];
  }

  /** Leaves something out. Its directory is listed again by the next import, which has to warn as well. */
  function skip(directory: Pending, warning: ImportWarning): void {
    directory.stamp = UNKNOWN;
    warn(warning);
  }

  function enter(
    directory: Pending,
    name: string,
    slot: number,
    entry?: CachedEntry,
    sameRules = false,
  ): Pending[] {
    const path = join1(directory.path, name);
    if (path === ownPath) {
      skip(directory, { path, kind: 'store', message: 'the store itself, skipped' });
      return [];
    }
    const cachedLink = entry?.kind === 'directory' ? entry : undefined;
    return [child(directory, name, { slot, cachedLink, sameRules })];
  }

  function child(
    parent: Pending,
    name: string,
    known: Pick<Pending, 'slot' | 'cachedLink' | 'sameRules'>,
  ): Pending {
    const path = join1(parent.path, name);
    if (parent.depth >= MAX_TREE_DEPTH) throw new LazytreeError('UNSUPPORTED', `'${path}' is too deep`);
    parent.waiting += 1;
    return {
      path,
      depth: parent.depth + 1,
      name,
      parent,
      entries: [],
      waiting: 1,
      stamp: UNKNOWN,
      metadata: undefined,
      rules: parent.rules,
      cached: undefined,
      changed: false,
      gone: false,
      kept: false,
      over: undefined,
      ...known,
    };
  }

  function keep(directory: Pending, slot: number, entry: CachedEntry): void {
    directory.entries[slot] = entry;
    if (entry.kind === 'symlink') return;
    progress.files += 1;
    progress.found += 1;
    progress.bytes += entry.size;
  }

  /** A directory that is as the cache says, with all that is below. */
  function countKept({ files, size }: CachedEntry): void {
    progress.files += files;
    progress.found += files;
    progress.bytes += size;
  }

  function enqueue(directory: Pending, slot: number, name: string): void {
    directory.changed = true;
    const before = directory.cached?.entries[slot];
    const inode = inodeToRead({ directory, slot, name }, before);
    if (inode === undefined) return;
    directory.waiting += 1;
    progress.found += 1;
    queue.push({ directory, slot, name, inode });
  }

  function inodeToRead(
    { directory, slot, name }: Omit<PendingFile, 'inode'>,
    before?: CachedEntry,
  ): number | undefined {
    if (!layer || !directory.over) return Number.NaN;
    return layer.ownContent(directory.over, { slot, name, before });
  }

  /** A symlink as it is now, or undefined when it is not there, or no symlink, any more. */
  function symlinkEntry(directory: Pending, name: string, stat: fs.Stats): CachedEntry | undefined {
    const path = absolute(join1(directory.path, name));
    const stamp = stat.ctimeMs < began - RACY_MS ? stampOf(stat) : UNKNOWN;
    try {
      const target = nameFromBytes(fs.readlinkSync(toFsPath(path), { encoding: 'buffer' }));
      const metadata = preserve ? { metadata: readMetadata(path) } : {};
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
    let entries = directory.entries.filter((entry) => entry !== undefined);
    const { cachedLink, metadata, over } = directory;
    const reuse = !directory.changed && cachedLink && entries.length === directory.cached?.entries.length;
    let link = cachedLink?.link as Link;
    let totals = { size: cachedLink?.size ?? 0, files: cachedLink?.files ?? 0 };
    if (!reuse) {
      directory.changed = true;
      const merged = layer && over && (await layer.merge(over, directory.entries, directory.rules));
      const encoded = merged?.same ?? (await encode(merged?.entries ?? (entries as Entry[])));
      link = encoded.link;
      totals = encoded;
      if (merged) entries = recorded(directory, merged);
    }
    const { stamp } = directory;
    const kept = reuse && appends ? cachedLink.record : undefined;
    const record =
      kept ?? writer?.add({ stamp, rules: fingerprintOf(directory, directory.rules), entries }) ?? NO_RECORD;
    directory.entries = [];
    const entry = directoryEntry(directory.name, link, totals, record);
    if (metadata) {
      entry.metadata = metadata;
      if (!sameMetadata(metadata, cachedLink?.metadata)) directory.changed = true;
    }
    return entry;
  }

  async function encode(entries: readonly Entry[]): Promise<Totals & { link: Link }> {
    const encoded = encodeDirectory(entries);
    await sink.putNodes(encoded.nodes);
    return encoded;
  }

  /** What is not in the record has to be looked for by the next import. */
  function recorded(directory: Pending, { cached, entries }: MergedDirectory): CachedEntry[] {
    if (cached.length < entries.length) directory.stamp = UNKNOWN;
    return cached;
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

function specialKind(stat: fs.Stats): string {
  if (stat.isFIFO()) return 'named pipe';
  if (stat.isSocket()) return 'socket';
  return stat.isBlockDevice() ? 'block device' : 'character device';
}
