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
  parseLink,
  RAW,
} from '@lazytree/core';
import { isUnavailable } from '../fetch/block-unavailable.js';
import type { FetchChain } from '../fetch/fetch-chain.js';
import type { Wanted } from '../fetch/work.js';

/** Fetches what is likely to be read after a file that had to be fetched. */
export interface ReadAhead {
  /** To be called when a file is being fetched that somebody waits for. Nobody need wait for it. */
  after(read: { root: string; path: string }): void;
  close(): void;
}

export interface ReadAheadOptions {
  store: LocalStore;
  fetch: FetchChain;
  /** Whether anything may be fetched of a root that nobody has asked for. */
  allows(root: Link): boolean;
  onError(error: unknown): void;
}

/** Files that are fetched ahead: of no more than so many bytes each, and so many of them, and so many bytes in all. */
const FILE_BYTES = 128 << 10;
const MOST_FILES = 200;
const MOST_BYTES = 1 << 20;
/** Directories that had to be gone to one after another before the ones that follow are fetched as well. */
const BEFORE_OTHERS = 8;
/** Within this. */
const RECENT_MS = 2000;
/** Each time twice as much is fetched, up to so many times as much. */
const MOST_TIMES = 16;
/** Files that are looked at for each one that may be fetched: most may be here, or on their way. */
const LOOKS = 2;
/** Looking at files that are all here waits for nothing: others get their turn after this. */
const SLICE_MS = 5;

/** How a root is being read. */
interface Reading {
  /** From which a file had to be fetched last, and when. */
  directory: string;
  time: number;
  /** How often it was another one than before. */
  changes: number;
}

/**
 * Who reads one file of a directory is likely to read its others, so they come with the first. Who goes from directory
 * to directory and finds nothing there gets those that follow, too, more of them each time.
 */
export function createReadAhead({ store, fetch, allows, onError }: ReadAheadOptions): ReadAhead {
  const readings = new Map<Link, Reading>();
  /** By root and directory: what is under way already. */
  const active = new Set<string>();
  const ended = new AbortController();
  const { signal } = ended;

  /** How many times as much as the rest of a directory is to be fetched. */
  function timesFor(root: Link, directory: string): number {
    const now = performance.now();
    for (const [other, { time }] of readings) if (now - time > RECENT_MS) readings.delete(other);
    const before = readings.get(root);
    const changes = before ? before.changes + (before.directory === directory ? 0 : 1) : 0;
    readings.set(root, { directory, time: now, changes });
    return Math.min(2 ** Math.max(0, changes - BEFORE_OTHERS), MOST_TIMES);
  }

  async function bring(root: Link, path: string): Promise<void> {
    const names = path.split('/');
    const name = names.pop() ?? '';
    const directory = names.join('/');
    const key = `${root}${directory}`;
    if (active.has(key)) return;
    active.add(key);
    try {
      const files = await likelyFiles(root, { names, name, times: timesFor(root, directory) });
      if (files.length > 0) await fetch.bring([files], { signal, eager: true });
    } finally {
      active.delete(key);
    }
  }

  async function likelyFiles(
    root: Link,
    { names, name, times }: { names: readonly string[]; name: string; times: number },
  ): Promise<Wanted[]> {
    const files: Wanted[] = [];
    let bytes = 0;
    let looks = LOOKS * MOST_FILES * times;
    let sliceStart = performance.now();
    const room = () => looks-- > 0 && files.length < MOST_FILES * times && bytes < MOST_BYTES * times;
    for await (const entries of directoriesFrom(root, { names, name, onlyFirst: times === 1 })) {
      for (const entry of entries) {
        if (!room()) return files;
        if (!isSmall(entry) || bytes + entry.size > MOST_BYTES * times) continue;
        if (fetch.isComing(entry.link) || store.holds(linkDigest(entry.link))) continue;
        files.push({ link: entry.link, size: entry.size });
        bytes += entry.size;
      }
      if (performance.now() - sliceStart < SLICE_MS) continue;
      await yieldToEvents();
      sliceStart = performance.now();
    }
    return files;
  }

  /** The entries of a directory from a name on, then those before it, and then of the directories that follow it. */
  async function* directoriesFrom(
    root: Link,
    { names, name, onlyFirst }: { names: readonly string[]; name: string; onlyFirst: boolean },
  ): AsyncGenerator<readonly Entry[]> {
    const links = [root];
    for (const step of names) {
      const entry = await findEntry(fetch, links[links.length - 1], step, { signal });
      if (entry?.kind !== 'directory') return;
      links.push(entry.link);
    }
    let after = name;
    for (let depth = links.length - 1; depth >= 0; depth--) {
      const entries = await listDirectory(fetch, links[depth], { signal });
      const at = entries.findIndex((entry) => entry.name === after);
      yield [...entries.slice(at + 1), ...entries.slice(0, Math.max(at, 0))];
      if (onlyFirst) return;
      for (const entry of entries.slice(at + 1)) if (entry.kind === 'directory') yield* below(entry.link);
      after = names[depth - 1] ?? '';
    }
  }

  async function* below(link: Link): AsyncGenerator<readonly Entry[]> {
    const entries = await listDirectory(fetch, link, { signal });
    yield entries;
    for (const entry of entries) if (entry.kind === 'directory') yield* below(entry.link);
  }

  return {
    after({ root: text, path }) {
      if (signal.aborted || text === '' || fetch.status().length === 0) return;
      const root = parseLink(text);
      if (!allows(root)) return;
      bring(root, path).catch((error: unknown) => {
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
