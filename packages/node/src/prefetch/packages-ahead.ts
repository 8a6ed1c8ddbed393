import { type BlockSource, findEntry, type Link, type OriginEntry, parseLink } from '@lazytree/core';
import { isUnavailable } from '../fetch/block-unavailable.js';
import { type PackageGraph, readPackageGraph } from '../origins/npm/package-graph.js';

/** Resolves the packages that are likely to be looked into after one that was. */
export interface PackagesAhead {
  /** To be called when somebody looks into an origin that is not resolved. Nobody need wait for it. */
  after(look: { root: string; path: string; entry: OriginEntry }): void;
  close(): void;
}

export interface PackagesAheadOptions {
  source: BlockSource;
  /** What an origin stands for, as far as that is known without waiting. */
  resolved(entry: OriginEntry): Link | undefined;
  resolve(root: Link, entry: OriginEntry, signal: AbortSignal): Promise<unknown>;
  /** Whether anything may be fetched of a root that nobody has asked for. */
  allows(root: Link): boolean;
  /** Resolves when those who wait for something have asked for it. */
  standBack(): Promise<void>;
  onError(error: unknown): void;
}

/** Packages that are on their way ahead at a time: fewer than origins fetch, so that what is demanded waits for none. */
const TOGETHER = 12;
/** So far it goes ahead of who reads; from a package to one that it needs is a step. */
const STEPS = 2;
/** Node_modules that are remembered. */
const MANY = 16;
/** After a failure, in which nothing is resolved ahead: where one cannot be had, others cannot be, either. */
const PAUSE_MS = 30_000;

/** A node_modules that is being read. */
interface Reading {
  graph: PackageGraph;
  /** Who needs it, of those that were looked into. */
  neededBy: Map<string, string>;
  /** What was looked into, or is resolved ahead. */
  begun: Set<string>;
}

interface Wanted {
  root: Link;
  reading: Reading;
  place: string;
}

/**
 * Who looks into a package, and then into one that it needs, runs a program, which needs the others as well: from then on
 * what packages need comes before it is asked for. Who only looks at one package gets nothing else.
 */
export function createPackagesAhead(options: PackagesAheadOptions): PackagesAhead {
  const { source, resolved, resolve, allows, standBack, onError } = options;
  const readings = new Map<string, Promise<Reading | undefined>>();
  const ended = new AbortController();
  const { signal } = ended;
  /** What is needed by what was looked into last goes first. */
  let next: Wanted[] = [];
  let active = 0;
  let paused = Number.NEGATIVE_INFINITY;

  function isPausing(): boolean {
    return performance.now() - paused < PAUSE_MS;
  }

  /** That of the outermost node_modules on the way to an origin, and the place of the origin in it. */
  async function readingOf(
    root: Link,
    path: string,
  ): Promise<{ reading: Reading; place: string } | undefined> {
    for (let end = 0; end >= 0; end = path.indexOf('/', end + 1)) {
      const directory = path.slice(0, end);
      const key = `${root}${directory}`;
      const known = readings.get(key) ?? read(root, directory);
      readings.delete(key);
      readings.set(key, known);
      known.catch(() => readings.delete(key));
      const reading = await known;
      if (reading) return { reading, place: directory === '' ? path : path.slice(end + 1) };
    }
    return undefined;
  }

  async function read(root: Link, directory: string): Promise<Reading | undefined> {
    for (const oldest of readings.keys()) {
      if (readings.size < MANY) break;
      readings.delete(oldest);
    }
    let link = root;
    for (const name of directory === '' ? [] : directory.split('/')) {
      const entry = await findEntry(source, link, name, { signal });
      if (entry?.kind !== 'directory') return undefined;
      link = entry.link;
    }
    const graph = await readPackageGraph(source, link, { signal });
    return graph && { graph, neededBy: new Map(), begun: new Set() };
  }

  async function follow(root: Link, path: string): Promise<void> {
    const found = await readingOf(root, path);
    if (!found) return;
    const { reading, place } = found;
    const { graph, neededBy, begun } = reading;
    begun.add(place);
    const parent = neededBy.get(place);
    for (const dependency of graph.dependenciesOf(place)) {
      if (!neededBy.has(dependency)) neededBy.set(dependency, place);
    }
    if (parent === undefined) return;
    want(root, reading, parent);
    want(root, reading, place);
    for (let free = TOGETHER - active; free > 0; free--) void work();
  }

  function want(root: Link, reading: Reading, from: string): void {
    const wanted = needsOf(reading, from);
    next = [...wanted.map((place) => ({ root, reading, place })), ...next];
  }

  /** What a package needs, and what that needs, the closest first. */
  function needsOf({ graph, begun }: Reading, from: string): string[] {
    const found = new Set<string>();
    let level = [from];
    for (let step = 0; step < STEPS; step++) {
      level = level.flatMap((place) => graph.dependenciesOf(place)).filter((place) => !found.has(place));
      for (const place of level) found.add(place);
    }
    return [...found].filter((place) => !begun.has(place));
  }

  async function work(): Promise<void> {
    active++;
    try {
      for (let item = take(); item; item = take()) {
        const { root, reading, place } = item;
        const entry = reading.graph.entries.get(place);
        if (!entry || reading.begun.has(place)) continue;
        reading.begun.add(place);
        if (resolved(entry) !== undefined || !allows(root)) continue;
        await standBack();
        await resolve(root, entry, signal);
      }
    } catch (error) {
      // Who needs it is told why it cannot be had.
      next = [];
      if (!signal.aborted && !isPausing()) onError(error);
      paused = performance.now();
    } finally {
      active--;
    }
  }

  function take(): Wanted | undefined {
    signal.throwIfAborted();
    return next.shift();
  }

  return {
    after({ root: text, path, entry }) {
      if (signal.aborted || text === '' || entry.driver !== 'npm' || isPausing()) return;
      const root = parseLink(text);
      if (!allows(root)) return;
      follow(root, path).catch((error: unknown) => {
        if (!signal.aborted && !isUnavailable(error)) onError(error);
      });
    },
    close() {
      ended.abort();
    },
  };
}
