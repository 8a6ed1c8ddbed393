import { readFile } from 'node:fs/promises';
import {
  type BlockSource,
  createTreeWriter,
  type DirectoryEntry,
  type Entry,
  errnoOf,
  fromSystemError,
  LazytreeError,
  type Lease,
  type Link,
  type LocalStore,
  layOver,
  toFsPath,
} from '@lazytree/core';
import { parseDocument } from 'yaml';
import * as z from 'zod/mini';
import type { OriginProgress } from './driver.js';
import { formatOrigin, type Origin } from './origin.js';
import { mayBeOrigin, splitOrigin } from './origin-spec.js';
import type { OriginCaller, Origins } from './origins.js';

/** One thing in a composed tree. */
export interface ComposedPart {
  /** Relative; empty for the whole tree, which everything else is laid over. */
  path: string;
  /** An origin, or another TREE. */
  from: string;
  /** Fetch it at once. */
  eager: boolean;
}

/** What became of it. */
export interface ComposedEntry {
  path: string;
  /** Of an origin, as it was pinned. */
  reference: string;
  integrity: string | null;
  lazy: boolean;
}

const part = z.union([
  z.string(),
  z.strictObject({ from: z.string(), eager: z._default(z.boolean(), false) }),
]);
const schema = z.strictObject({ tree: z.record(z.string(), part) });

const FILE_BYTES = 4 << 20;

/**
 * Reads a composition: JSON or YAML, in order of path.
 *
 * @throws LazytreeError NOT_FOUND, USAGE for what is none
 */
export async function readComposition(file: string): Promise<ComposedPart[]> {
  let text: string;
  try {
    text = await readFile(toFsPath(file), 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'EISDIR')
      throw new LazytreeError('USAGE', `'${file}' is a directory, and no composition`, { cause: error });
    throw fromSystemError(error, `reading '${file}'`);
  }
  if (text.length > FILE_BYTES) throw new LazytreeError('USAGE', `'${file}' is too long to be a composition`);
  let document: unknown;
  try {
    // Of YAML, JSON is a part.
    const read = parseDocument(text);
    const [problem] = [...read.errors, ...read.warnings];
    if (problem) throw problem;
    document = read.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    const [why] = (cause as Error).message.split('\n');
    throw new LazytreeError('USAGE', `'${file}' is neither JSON nor YAML: ${why}`, { cause });
  }
  const parsed = schema.safeParse(document);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new LazytreeError('USAGE', `'${file}': ${issue.path.join('.') || 'it'}: ${issue.message}`, {
      hint: "a composition has 'tree', with a path and what is to be there in each line",
    });
  }
  const parts = Object.entries(parsed.data.tree).map(([path, value]) =>
    typeof value === 'string'
      ? { path: plainPath(path, file), from: value, eager: false }
      : { path: plainPath(path, file), from: value.from, eager: value.eager },
  );
  const paths = new Set(parts.map(({ path }) => path));
  if (parts.length === 0) throw new LazytreeError('USAGE', `'${file}' composes nothing`);
  if (paths.size < parts.length) throw new LazytreeError('USAGE', `'${file}' has a path twice`);
  return parts.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function plainPath(path: string, file: string): string {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (path.startsWith('/') || names.includes('..')) {
    throw new LazytreeError('USAGE', `'${file}': the path '${path}' leads out of the tree`);
  }
  return names.join('/');
}

export interface ComposeOptions {
  /** Gets the tree. The caller holds a lease. */
  store: LocalStore;
  origins: Origins;
  /** What TREEs that are no origins stand for. */
  openTree(spec: string): Promise<{ source: BlockSource; entry: Entry }>;
  caller: OriginCaller;
  eager: boolean;
  signal: AbortSignal;
  onProgress(progress: OriginProgress): void;
  /** A line for people. */
  onNote(text: string): void;
}

/**
 * Makes the tree. Origins are pinned with their integrity, and stay unresolved: all that is fetched is what cannot be
 * pinned otherwise, what the whole tree is laid over, and what drivers say to be found on this machine alone.
 *
 * @throws LazytreeError as Origins.resolve; USAGE for a file where a directory has to be
 */
export async function composeTree(
  parts: readonly ComposedPart[],
  options: ComposeOptions,
): Promise<{ root: Link; entries: ComposedEntry[] }> {
  const { store, signal } = options;
  const leases: Lease[] = [];
  const entries: ComposedEntry[] = [];
  const tree = createTreeWriter(store, { signal, leases });
  let whole: DirectoryEntry | undefined;
  try {
    for (const part of parts) {
      const { entry, origin } = await entryOf(part, options);
      const { reference, integrity } = origin
        ? { reference: formatOrigin(origin), integrity: origin.integrity ?? null }
        : { reference: part.from, integrity: null };
      entries.push({ path: part.path, reference, integrity, lazy: entry.kind === 'origin' });
      if (part.path !== '') tree.put(part.path, entry);
      else if (entry.kind === 'directory') whole = entry;
      else
        throw new LazytreeError('USAGE', `'${part.from}' is a ${entry.kind}, and cannot be the whole tree`);
      if ('link' in entry) leases.push(store.lease([entry.link]));
    }
    const made = await tree.finish();
    if (!whole) return { root: made.link, entries };
    const { link } = await layOver(store, whole, made, {
      signal,
      async putNodes(nodes) {
        for (const node of nodes) await store.put(node, { signal });
      },
    });
    await store.flush();
    return { root: link, entries };
  } catch (error) {
    tree.abort();
    throw error;
  } finally {
    for (const lease of leases) lease.release();
  }
}

async function entryOf(
  { path, from, eager }: ComposedPart,
  options: ComposeOptions,
): Promise<{ entry: Entry; origin?: Origin }> {
  if (!mayBeOrigin(from)) return { entry: (await options.openTree(from)).entry };
  const { origins, caller, signal, onProgress } = options;
  const { origin: text, path: inner } = splitOrigin(from);
  if (inner !== '') {
    throw new LazytreeError('USAGE', `'${from}' names a path in an origin, and a tree has whole ones`, {
      hint: `import it under a name first, and compose NAME/${inner}`,
    });
  }
  const given = { signal, caller, onProgress };
  const pinned = await origins.pin(await origins.parse(text, caller), given);
  const isLocal = await origins.isLocal(pinned.driver, caller);
  const atOnce = path === '' || eager || options.eager || isLocal;
  if (!atOnce && pinned.integrity !== undefined) {
    const of = await origins.kindOf(pinned, caller);
    if (of) return { entry: { kind: 'origin', name: '', of, ...pinned }, origin: pinned };
  }
  const { entry, origin, provenance } = await origins.resolve(pinned, given);
  for (const note of provenance?.notes ?? []) options.onNote(`${path || '.'}: ${note}`);
  if (atOnce) return { entry, origin };
  // It had to be fetched to be known; that it can be fetched again is worth as much as its blocks.
  const of = entry.kind === 'directory' ? 'directory' : 'file';
  return { entry: { kind: 'origin', name: '', of, ...origin }, origin };
}
