import { setImmediate as yieldToEvents } from 'node:timers/promises';
import {
  type Entry,
  type FileEntry,
  findEntry,
  isFile,
  type Link,
  type LocalStore,
  linkCodec,
  linkDigest,
  listDirectory,
  type OriginEntry,
  parseLink,
  RAW,
} from '@lazytree/core';
import { isUnavailable } from '../fetch/block-unavailable.js';
import type { FetchChain } from '../fetch/fetch-chain.js';
import type { Wanted } from '../fetch/work.js';

/** Fetches what is likely to be read after a file that somebody waits for. */
export interface ReadAhead {
  /**
   * To be called when somebody waits for a file, be it because it has to be fetched, or because it came so lately that
   * the thread that serves does not know of it. Nobody need wait for this.
   */
  after(read: { root: string; path: string; links: readonly Link[] }): void;
  close(): void;
}

export interface ReadAheadOptions {
  store: LocalStore;
  fetch: FetchChain;
  /** What an origin stands for, as far as that is known without waiting. */
  resolved(entry: OriginEntry): Link | undefined;
  /** Whether anything may be fetched of a root that nobody has asked for. */
  allows(root: Link): boolean;
  onError(error: unknown): void;
}

/** Files that are fetched ahead: of no more than so many bytes each, and so many of them, and so many bytes in all. */
const FILE_BYTES = 128 << 10;
const MOST_FILES = 200;
const MOST_BYTES = 1 << 20;
/** Directories that had to be gone to one after another before the ones that follow are fetched as well. */
const BEFORE_OTHERS = 4;
/** Within this. */
const RECENT_MS = 2000;
/** Each time twice as much is fetched, up to so many times as much. */
const MOST_TIMES = 16;
/** Files that are looked at for each one that may be fetched: most may be here, or on their way. */
const LOOKS = 2;
/** Looking at files that are all here waits for nothing: others get their turn after this. */
const SLICE_MS = 5;
/** After so many turns of the event loop, what was asked for before has been sent. */
const TURNS = 2;

/** How a root is being read. */
interface Reading {
  /** Of the last file that had to be fetched, and when somebody last waited for one. */
  directory: string;
  time: number;
  /** How often it was another directory than before. */
  changes: number;
  /** Who goes on beyond the directory: what follows in the tree, as far as nobody has looked at it. */
  rest?: AsyncGenerator<FileEntry>;
  /** How many times as much is to be fetched next. */
  times: number;
  /** The second half of what was fetched last. Whoever has come so far is to find more when that is read. */
  mark: Set<Link>;
}

/**
 * Who reads one file of a directory is likely to read its others, so they come with the first. Who goes from directory
 * to directory and finds nothing there gets those that follow, too, more of them each time, and before the end of what
 * has come is reached. Nothing is fetched beyond that until somebody has come so far.
 */
export function createReadAhead({ store, fetch, resolved, allows, onError }: ReadAheadOptions): ReadAhead {
  const readings = new Map<Link, Reading>();
  /** By root and directory: what is under way already. */
  const active = new Set<string>();
  const ended = new AbortController();
  const { signal } = ended;

  function readingOf(root: Link): Reading {
    const now = performance.now();
    for (const [other, { time }] of readings) if (now - time > RECENT_MS) readings.delete(other);
    const known = readings.get(root);
    if (known) known.time = now;
    const reading = known ?? { directory: '', time: now, changes: -1, times: 1, mark: new Set() };
    readings.set(root, reading);
    return reading;
  }

  /** A file had to be fetched. */
  async function missed(root: Link, path: string): Promise<void> {
    const names = path.split('/');
    const name = names.pop() ?? '';
    const directory = names.join('/');
    const reading = readingOf(root);
    if (reading.changes < 0 || reading.directory !== directory) reading.changes += 1;
    reading.directory = directory;
    const onlyFirst = reading.changes <= BEFORE_OTHERS;
    const key = `${root}${directory}`;
    if (active.has(key)) return;
    active.add(key);
    try {
      const files = smallFiles(root, { names, name, onlyFirst });
      if (onlyFirst) await fetchNext(files, 1);
      else {
        reading.rest = files;
        await goOn(reading);
      }
    } finally {
      active.delete(key);
    }
  }

  /** Fetches what follows. */
  async function goOn(reading: Reading): Promise<void> {
    const { rest } = reading;
    if (!rest) return;
    reading.mark = new Set();
    reading.times = Math.min(reading.times * 2, MOST_TIMES);
    await fetchNext(rest, reading.times, (links) => {
      reading.mark = new Set(links.slice(links.length >> 1));
    });
  }

  async function fetchNext(
    from: AsyncGenerator<FileEntry>,
    times: number,
    onFound?: (links: Link[]) => void,
  ): Promise<void> {
    const files = await nextFiles(from, times);
    onFound?.(files.map(({ link }) => link));
    // What somebody waits for is gathered for a turn, and goes first.
    for (let turn = 0; turn < TURNS; turn++) await yieldToEvents();
    if (files.length > 0) await fetch.bring([files], { signal, eager: true });
  }

  async function nextFiles(from: AsyncGenerator<FileEntry>, times: number): Promise<Wanted[]> {
    const files: Wanted[] = [];
    let bytes = 0;
    let sliceStart = performance.now();
    for (let looks = LOOKS * MOST_FILES * times; looks > 0; looks--) {
      if (files.length >= MOST_FILES * times || bytes >= MOST_BYTES * times) break;
      const { value: entry } = await from.next();
      if (!entry) break;
      if (!isHereOrComing(entry.link)) {
        files.push({ link: entry.link, size: entry.size });
        bytes += entry.size;
      }
      if (performance.now() - sliceStart < SLICE_MS) continue;
      await yieldToEvents();
      sliceStart = performance.now();
    }
    return files;
  }

  function isHereOrComing(link: Link): boolean {
    return fetch.isComing(link) || store.holds(linkDigest(link));
  }

  /** The small files of a directory from a name on, then those before it, and then those of the directories that follow. */
  async function* smallFiles(
    root: Link,
    { names, name, onlyFirst }: { names: readonly string[]; name: string; onlyFirst: boolean },
  ): AsyncGenerator<FileEntry> {
    let links = [root];
    let steps = names;
    for (const [index, step] of names.entries()) {
      const entry = await findEntry(fetch, links[links.length - 1], step, { signal });
      if (entry?.kind === 'directory') {
        links.push(entry.link);
        continue;
      }
      const known = entry?.kind === 'origin' ? resolved(entry) : undefined;
      if (known === undefined) return;
      // What follows an origin is another one, of which nobody may ever read anything.
      links = [known];
      steps = names.slice(index + 1);
    }
    let after = name;
    for (let depth = links.length - 1; depth >= 0; depth--) {
      const entries = await listDirectory(fetch, links[depth], { signal });
      const at = entries.findIndex((entry) => entry.name === after);
      yield* [...entries.slice(at + 1), ...entries.slice(0, Math.max(at, 0))].filter(isSmall);
      if (onlyFirst) return;
      for (const entry of entries.slice(at + 1)) if (entry.kind === 'directory') yield* below(entry.link);
      after = steps[depth - 1] ?? '';
    }
  }

  async function* below(link: Link): AsyncGenerator<FileEntry> {
    const entries = await listDirectory(fetch, link, { signal });
    yield* entries.filter(isSmall);
    for (const entry of entries) if (entry.kind === 'directory') yield* below(entry.link);
  }

  async function look(root: Link, path: string, links: readonly Link[]): Promise<void> {
    if (!links.every(isHereOrComing)) return missed(root, path);
    const reading = readings.get(root);
    if (!reading) return;
    reading.time = performance.now();
    if (links.some((link) => reading.mark.has(link))) await goOn(reading);
  }

  return {
    after({ root: text, path, links }) {
      if (signal.aborted || text === '' || fetch.status().length === 0) return;
      const root = parseLink(text);
      if (!allows(root)) return;
      look(root, path, links).catch((error: unknown) => {
        if (!signal.aborted && !isUnavailable(error)) onError(error);
      });
    },
    close() {
      ended.abort();
    },
  };
}

function isSmall(entry: Entry): entry is FileEntry {
  return isFile(entry) && entry.size > 0 && entry.size <= FILE_BYTES && linkCodec(entry.link) === RAW;
}
