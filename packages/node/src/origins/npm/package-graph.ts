import {
  type BlockSource,
  findEntry,
  isFile,
  type Link,
  listDirectory,
  type OriginEntry,
  readFile,
  type StoreOptions,
} from '@lazytree/core';
import { HIDDEN_LOCKFILE } from './hidden-lockfile.js';
import { isObject } from './lockfile.js';

/** The packages of a lazy node_modules that nobody need have fetched, and what they need of each other. */
export interface PackageGraph {
  /** By place: `react`, `@scope/a`, `a/node_modules/b`. */
  entries: ReadonlyMap<string, OriginEntry>;
  /** The places of what a package says that it needs. */
  dependenciesOf(place: string): string[];
}

/** More of npm's note is not read: nobody waits for it. */
const MAX_NOTE = 32 << 20;
const MODULES = 'node_modules';

/**
 * Reads what npm's note in a `node_modules` says, and the entries that are there. Undefined for a directory without one.
 *
 * @throws what the source throws
 */
export async function readPackageGraph(
  source: BlockSource,
  modules: Link,
  options?: StoreOptions,
): Promise<PackageGraph | undefined> {
  const note = await findEntry(source, modules, HIDDEN_LOCKFILE, options);
  if (!note || !isFile(note) || note.size > MAX_NOTE) return undefined;
  const pieces: Uint8Array[] = [];
  for await (const piece of readFile(source, note, options)) pieces.push(piece);
  const needs = needsIn(Buffer.concat(pieces).toString('utf8'));
  const entries = new Map<string, OriginEntry>();
  await collect(modules, '');

  async function collect(directory: Link, above: string): Promise<void> {
    for (const entry of await listDirectory(source, directory, options)) {
      const place = above + entry.name;
      if (entry.kind === 'directory' && entry.name.startsWith('@')) await collect(entry.link, `${place}/`);
      if (entry.kind !== 'origin' || entry.of !== 'directory') continue;
      entries.set(place, entry);
      const inner = entry.plus && (await findEntry(source, entry.plus, MODULES, options));
      if (inner?.kind === 'directory') await collect(inner.link, `${place}/${MODULES}/`);
    }
  }

  return {
    entries,
    dependenciesOf: (place) =>
      (needs.get(place) ?? []).flatMap((name) => findFrom(place, name, entries) ?? []),
  };
}

/** What of npm's note matters; nothing when it is not what npm writes. */
function needsIn(note: string): Map<string, string[]> {
  const needs = new Map<string, string[]>();
  let data: unknown;
  try {
    data = JSON.parse(note);
  } catch {
    return needs;
  }
  if (!isObject(data) || !isObject(data.packages)) return needs;
  for (const [location, locked] of Object.entries(data.packages)) {
    if (!isObject(locked) || !isObject(locked.dependencies)) continue;
    needs.set(location.slice(MODULES.length + 1), Object.keys(locked.dependencies));
  }
  return needs;
}

/** Where node finds a package: in the node_modules of the one that needs it, and in those above. */
function findFrom(
  place: string,
  name: string,
  entries: ReadonlyMap<string, OriginEntry>,
): string | undefined {
  for (let at = `${place}/${MODULES}/`; ; ) {
    if (entries.has(at + name)) return at + name;
    if (at === '') return undefined;
    const owner = at.slice(0, -(MODULES.length + 2));
    at = owner.slice(0, owner.lastIndexOf(`/${MODULES}/`) + 1);
    if (at !== '') at += `${MODULES}/`;
  }
}
