import fs from 'node:fs';
import { LazytreeError } from '../errors.js';
import { type Entry, type FileEntry, isFile } from '../format/entry.js';
import { digestOf, type Link } from '../format/link.js';
import { compareNames, nameToBytes, toFsPath } from '../format/name.js';
import type { BlockSink } from '../import/block-sink.js';
import type { IgnoreRules } from '../import/ignore.js';
import { IGNORE_FILE } from '../import/ignore-file.js';
import { readMetadata } from '../import/read-metadata.js';
import { RACY_MS } from '../import/stat-cache.js';
import {
  type CachedDirectory,
  type CachedEntry,
  type FileStamp,
  isSameDirectory,
  NO_RECORD,
  sameStamp,
  stampOf,
} from '../import/stat-record.js';
import type { BlockSource } from '../store/block-store.js';
import { type BaseDirectory, openBaseTree } from './base-tree.js';
import { inBase, metacopyStamp } from './cached-layer.js';
import { applyRules } from './filter-base.js';
import { isWhiteoutDevice, type MarkNamespace, type Marks, openMarks } from './marks.js';

/** The tree that the imported directory, an upper layer of overlayfs, lies over. */
export interface ImportOver {
  base: Link;
  /** Where the base is read from, if it is not all in the store that is imported to. */
  source?: BlockSource;
  /** `user` if it was mounted with `userxattr`. Default `trusted`. */
  xattrs?: MarkNamespace;
}

/** What an import has to know of one directory of the upper layer. */
export interface Place {
  /** Relative to the root of the upper layer. */
  path: string;
  /** As it was when it was entered. */
  stat: fs.Stats | undefined;
  /** Of a directory that is as its cached record says, whose base is not looked for until somebody asks. */
  known: string | undefined;
  /** The directory of the base whose entries show through. */
  base: BaseDirectory | undefined;
  findBase(): Promise<BaseDirectory | undefined>;
  /** Whether it has an ignore file on disk, or what one says whose content is in the base; if not as listed. */
  ignoreFile: string | boolean | undefined;
  /** Among its files there are whiteouts. */
  whiteoutFiles: boolean;
  /** All that hides an entry of the base, once it has been listed. */
  names: Set<string> | undefined;
  /** Files whose content is in the base. */
  metacopies: { slot: number; entry: CachedEntry; redirect: string }[];
}

/** What a directory is in the merged view. */
export interface MergedDirectory {
  entries: Entry[];
  /** Those of them that a stat cache can hold. */
  cached: CachedEntry[];
  /** Set when it is the base's own. */
  same: { link: Link; size: number; files: number } | undefined;
}

interface Listed {
  name: string;
  dirent: { isCharacterDevice(): boolean; isFile(): boolean };
}

/** The part of an import that knows what lies below: asked before a directory is scanned, and when it is known. */
export interface Layer {
  /** To be awaited before the directory is scanned. */
  enter(directory: EnteredDirectory): Promise<Place>;
  /** What a cached record of the directory depends on, beyond its time stamps. */
  fingerprint(place: Place, rules: IgnoreRules): string;
  /** What is listed in a directory, less the whiteouts. */
  visible<T extends Listed>(place: Place, listed: T[]): T[];
  /**
   * The inode of the regular file if it has content of its own: that one is to be read, and no other that may take its
   * name. NaN where every file has. Undefined when there is nothing to be read: its content is in the base, and
   * `merge` sees to its entry, or it has been moved away, and its directory will be scanned again.
   *
   * @param before what a cache says of this name
   */
  ownContent(
    place: Place,
    file: { slot: number; name: string; before: CachedEntry | undefined },
  ): number | undefined;
  /** Lays a directory's entries over those of the base. */
  merge(place: Place, entries: (CachedEntry | undefined)[], rules: IgnoreRules): Promise<MergedDirectory>;
}

interface EnteredDirectory {
  path: string;
  name: string;
  parent: Place | undefined;
  /** A record that holds if the time stamps do. */
  cached: CachedDirectory | undefined;
}

/** A directory of the upper layer, relative to its root, and when and how it was found. */
export interface SeenDirectory {
  path: string;
  at: number;
  stamp: FileStamp;
}

export interface LayerOptions {
  store: BlockSource;
  sink: BlockSink;
  /** The upper layer. */
  root: string;
  over: ImportOver;
  ignoreFiles: boolean;
  preserve: boolean;
  signal: AbortSignal | undefined;
  /** Gets each directory that is entered. */
  seen: SeenDirectory[];
}

export function createLayer(options: LayerOptions): Layer {
  const { store, sink, root: upper, over, ignoreFiles, preserve, signal, seen } = options;
  const tree = openBaseTree(store, over.base, { ignoreFiles, ...(signal ? { signal } : {}) });
  let root: Promise<BaseDirectory> | undefined;
  let opened: Marks | undefined;
  /** With nothing below, nothing can be merged, nor have its content elsewhere: marks say nothing. */
  let isBare = false;
  // Neither is opened for a layer in which nothing has changed: that would take longer than all the rest.
  const openBase = () => (root ??= tree.root());
  const marks = () => (opened ??= openMarks(over.xattrs ?? 'trusted'));

  const absolute = (path: string) => (path === '' ? upper : `${upper}/${path}`);
  const join1 = (directory: string, name: string) => (directory === '' ? name : `${directory}/${name}`);

  async function enter({ path, name, parent, cached }: EnteredDirectory): Promise<Place> {
    const at = Date.now();
    const stat = fs.lstatSync(toFsPath(absolute(path)), { throwIfNoEntry: false });
    if (stat) seen.push({ path, at, stamp: stampOf(stat) });
    const isKnown = cached !== undefined && isSameDirectory(cached, stat) && !hasRules(cached);
    let found: Promise<BaseDirectory | undefined> | undefined;
    const place: Place = {
      path,
      stat,
      known: isKnown ? cached.rules : undefined,
      base: undefined,
      findBase: () => (found ??= below(path, name, parent)),
      ignoreFile: isKnown ? false : undefined,
      whiteoutFiles: false,
      names: undefined,
      metacopies: [],
    };
    if (isKnown) return place;
    isBare = (await openBase()).isEmpty;
    if (isBare) return place;
    place.whiteoutFiles = marks().cover(absolute(path)) === 'whiteouts';
    place.base = await place.findBase();
    if (ignoreFiles) place.ignoreFile = await ignoreFileOf(place);
    return place;
  }

  /** The directory of the base that one of the upper layer is merged with. */
  async function below(
    path: string,
    name: string,
    parent: Place | undefined,
  ): Promise<BaseDirectory | undefined> {
    if (!parent) return openBase();
    if (marks().cover(absolute(path)) === 'opaque') return undefined;
    const redirect = marks().redirect(absolute(path)) ?? name;
    if (!redirect.startsWith('/')) return (await parent.findBase())?.enter(redirect);
    let found: BaseDirectory | undefined = await openBase();
    for (const part of redirect.slice(1).split('/')) found = await found?.enter(part);
    return found;
  }

  /** As {@link below} for a file without content of its own: redirects are those of the file. */
  async function contentOf(place: Place, name: string, redirect: string): Promise<FileEntry> {
    const path = join1(place.path, name);
    const parts = redirect.split('/');
    const last = parts.pop() as string;
    let directory = await (redirect.startsWith('/') ? openBase() : place.findBase());
    for (const part of parts.slice(1)) directory = await directory?.enter(part);
    const found = await directory?.find(last);
    const entry = found && (await tree.resolve(found, path));
    if (entry && isFile(entry)) return entry;
    throw new LazytreeError('FAILED', `the content of '${path}' is not at '${redirect}' in the base`, {
      hint: 'save with the tree that the upper layer was mounted over',
    });
  }

  async function ignoreFileOf(place: Place): Promise<string | boolean> {
    const path = absolute(join1(place.path, IGNORE_FILE));
    const stat = fs.lstatSync(toFsPath(path), { throwIfNoEntry: false });
    if (!stat) return tree.rulesText(await place.base?.find(IGNORE_FILE));
    if (isWhiteout(place, IGNORE_FILE, stat)) return false;
    const { isMetacopy, redirect } = marks();
    if (!stat.isFile() || !isMetacopy(path)) return true;
    return tree.rulesText(await contentOf(place, IGNORE_FILE, redirect(path) ?? IGNORE_FILE));
  }

  function isWhiteout(place: Place, name: string, stat: fs.Stats): boolean {
    if (isWhiteoutDevice(stat)) return true;
    if (!place.whiteoutFiles || !stat.isFile() || stat.size > 0) return false;
    return marks().isWhiteout(absolute(join1(place.path, name)));
  }

  function visible<T extends Listed>(place: Place, listed: T[]): T[] {
    place.names = new Set(listed.map(({ name }) => name));
    return listed.filter(({ name, dirent }) => {
      if (!dirent.isCharacterDevice() && !(place.whiteoutFiles && dirent.isFile())) return true;
      const path = toFsPath(absolute(join1(place.path, name)));
      const stat = fs.lstatSync(path, { throwIfNoEntry: false });
      return !stat || !isWhiteout(place, name, stat);
    });
  }

  function ownContent(
    place: Place,
    { slot, name, before }: Parameters<Layer['ownContent']>[1],
  ): number | undefined {
    if (isBare) return Number.NaN;
    const path = absolute(join1(place.path, name));
    const at = Date.now();
    // Before the mark is looked at: a file that gets its content meanwhile shows.
    const stat = fs.lstatSync(toFsPath(path), { throwIfNoEntry: false });
    // What has had content of its own keeps that. Where names have changed, another file may have got the number.
    const isOwn = place.known !== undefined && before?.stamp.inode === stat?.ino;
    if (!stat?.isFile()) return undefined;
    if (isOwn) return stat.ino;
    const isMetacopy = marks().isMetacopy(path);
    if (!isMetacopy) {
      // Without a mark, or moved away meanwhile: then that was another file's, or nothing's.
      const same = fs.lstatSync(toFsPath(path), { throwIfNoEntry: false })?.ino === stat.ino;
      return same ? stat.ino : undefined;
    }
    const redirect = marks().redirect(path) ?? name;
    const stamp = stampOf(stat);
    const after = fs.lstatSync(toFsPath(path), { throwIfNoEntry: false });
    // Moved away meanwhile, and perhaps its redirect with it: its directory has changed, and is scanned again.
    if (!after || !sameStamp(stamp, stampOf(after))) return undefined;
    if (!(stamp.ctime < at - RACY_MS)) stamp.mtime = Number.NaN;
    const kind = stat.mode & 0o100 ? 'executable' : 'file';
    const common = {
      link: '' as Link,
      size: 0,
      stamp: metacopyStamp(stamp),
      target: '',
      files: 0,
      record: NO_RECORD,
    };
    const metadata = preserve ? readMetadata(path) : undefined;
    place.metacopies.push({
      slot,
      redirect,
      entry: { kind, name, ...common, ...(metadata ? { metadata } : {}) },
    });
    return undefined;
  }

  async function merge(
    place: Place,
    entries: (CachedEntry | undefined)[],
    rules: IgnoreRules,
  ): Promise<MergedDirectory> {
    for (const { slot, entry, redirect } of place.metacopies) {
      const { link, size } = await contentOf(place, entry.name, redirect);
      entries[slot] = { ...entry, link, size };
    }
    const upper = entries.filter((entry) => entry !== undefined);
    // Names that are those of a cached record come with what the base has of them.
    if (!place.base || !place.names) return { entries: upper as Entry[], cached: upper, same: undefined };
    const applied = rulesApply(place.base, place, rules);
    if (place.names.size === 0 && !applied) {
      return { entries: [], cached: [], same: place.base.entry };
    }
    const { names } = place;
    let shown = (await place.base.list()).filter(({ name }) => !names.has(name));
    if (applied) shown = await applyRules(shown, { path: place.path, rules, tree, sink });
    return layOver(shown, upper);
  }

  /**
   * Whether something that the base has may be left out. What it has was imported under its own rules: these leave
   * out nothing more where they are in force, and in the same place; nor do none.
   */
  function rulesApply(lower: BaseDirectory, { path }: Place, rules: IgnoreRules): boolean {
    if (rules.fingerprint === '') return false;
    return lower.path !== path || lower.rules.fingerprint !== rules.fingerprint;
  }

  function layOver(shown: Entry[], upper: CachedEntry[]): MergedDirectory {
    for (const entry of shown) checkMetadata(entry);
    const fromBase = shown.filter((entry) => entry.kind !== 'origin').map(inBase);
    const cached = [...fromBase, ...upper].sort((a, b) => compareNames(a.name, b.name));
    if (fromBase.length === shown.length) return { entries: cached as Entry[], cached, same: undefined };
    const entries = [...shown, ...(upper as Entry[])].sort((a, b) => compareNames(a.name, b.name));
    return { entries, cached, same: undefined };
  }

  function checkMetadata({ name, kind, metadata }: Entry): void {
    if (kind === 'origin' || (metadata !== undefined) === preserve) return;
    throw new LazytreeError('USAGE', `the base ${preserve ? 'lacks' : 'has'} the metadata of '${name}'`, {
      hint: `save ${preserve ? 'without' : 'with'} metadata, as the base was imported`,
    });
  }

  return {
    enter,
    fingerprint: ({ known, base: lower }, { fingerprint }) =>
      known ??
      (lower
        ? digestOf(
            nameToBytes(`${fingerprint}\0${lower.entry.link}\0${lower.path}\0${lower.rules.fingerprint}`),
          )
        : fingerprint),
    visible,
    ownContent,
    merge,
  };
}

function hasRules({ entries }: CachedDirectory): boolean {
  return entries.some(({ name }) => name === IGNORE_FILE);
}
