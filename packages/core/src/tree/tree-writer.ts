import { LazytreeError } from '../errors.js';
import { encodeDirectory, nameBytes } from '../format/directory-node.js';
import type { DirectoryEntry, Entry, FileEntry } from '../format/entry.js';
import type { EncodedNode } from '../format/file-node.js';
import { MAX_NAME_BYTES, MAX_TARGET_BYTES, MAX_TREE_DEPTH } from '../format/limits.js';
import { type Link, linkCodec, linkDigest, RAW } from '../format/link.js';
import { nameProblem, sortByName } from '../format/name.js';
import { createBlockSink } from '../import/block-sink.js';
import { createContentWriter } from '../import/content-writer.js';
import type { BlockStore } from '../store/block-store.js';
import type { Lease, LocalStore } from '../store/local.js';
import { layOver } from './lay-over.js';
import { isDirectoryLike } from './resolve-entry.js';

/**
 * Makes a tree in a store out of what comes in any order, such as the entries of an archive. Content is streamed; memory
 * grows with the number of entries alone.
 */
export interface TreeWriter {
  /**
   * Paths are relative, with `/` between names as the engine spells names; parents are made; a later entry replaces an
   * earlier one, as in a tar. What lies below an entry that was put is laid over it. Several may be written at a time.
   *
   * @throws LazytreeError CORRUPT for names that cannot be (`..`, `.`, empty, NUL, too long), and NO_SPACE
   */
  file(
    path: string,
    content: AsyncIterable<Uint8Array> | Uint8Array,
    options: { executable: boolean },
  ): Promise<FileEntry>;
  /** @throws LazytreeError CORRUPT as `file`, and for a target that cannot be */
  symlink(path: string, target: string): void;
  /** What is in a directory that is there already stays. */
  directory(path: string): void;
  /** Any entry that is ready: an origin entry, a directory of another tree. Its own name does not matter. */
  put(path: string, entry: Entry): void;
  /**
   * Puts a file whose content the caller knows from before, and which is kept as if it were written here. False, and
   * nothing is put, when the content is not in the store, or is more than one block: then it has to be written.
   */
  reuse(path: string, entry: FileEntry): boolean;
  /** What was written or put at a path, for hard links and the like. Directories that were made here are not entries yet. */
  get(path: string): Entry | undefined;
  /**
   * Makes the nodes. All is durable. From then on it is a lease of the caller that keeps it, which was taken before; what
   * was put is kept by whoever kept it before.
   */
  finish(): Promise<DirectoryEntry>;
  /** Gives up what was written. */
  abort(): void;
}

export interface TreeWriterOptions {
  signal: AbortSignal;
  /** Gets the leases of all that is written and put, which are then the caller's to release. */
  leases?: Lease[];
  /** No other thread helps to compress much content. */
  alone?: boolean;
}

/** What a tree is made in. */
export type TreeStore = BlockStore & Pick<LocalStore, 'append' | 'holds' | 'lease' | 'keepRoot'>;

/** A directory that is being made; what is in it is laid over `base`, or else over what its place has below. */
interface Draft {
  base?: Entry;
  children: Map<string, Draft | Entry>;
}

/** Entries of one tree: far more than people have, and what fits into memory. */
const MAX_ENTRIES = 8_000_000;

export function createTreeWriter(
  store: TreeStore,
  { signal, leases: callers, alone = false }: TreeWriterOptions,
): TreeWriter {
  const sink = createBlockSink(store, signal);
  const contents = createContentWriter(sink, { signal, alone });
  const root: Draft = { children: new Map() };
  const leases = callers ?? [];
  leases.push(store.lease());
  const kept = new Set<Link>();
  let entries = 0;
  let ended = false;

  function release(): void {
    ended = true;
    contents.close();
    if (callers) return;
    for (const lease of leases.splice(0)) lease.release();
  }

  /** Of another tree: gc has to keep what is below it, too. */
  function keep(link: Link): void {
    if (kept.has(link)) return;
    kept.add(link);
    leases.push(store.lease([link]));
    store.keepRoot(link);
  }

  function check(): void {
    if (ended) throw new LazytreeError('FAILED', 'a tree that is finished, or given up, is written to');
    signal.throwIfAborted();
  }

  function add(children: Draft['children'], name: string, item: Draft | Entry): void {
    if (!children.has(name) && ++entries > MAX_ENTRIES)
      throw new LazytreeError('UNSUPPORTED', `a tree of more than ${MAX_ENTRIES} entries`);
    children.set(name, item);
  }

  function enter(parent: Draft, name: string): Draft {
    const found = parent.children.get(name);
    if (found && 'children' in found) return found;
    const draft: Draft = { children: new Map() };
    if (found && isDirectoryLike(found)) draft.base = found;
    add(parent.children, name, draft);
    return draft;
  }

  function place(path: string): { parent: Draft; name: string } {
    check();
    const names = namesOf(path);
    const name = names.pop() as string;
    return { parent: names.reduce(enter, root), name };
  }

  function set(path: string, entry: Entry): void {
    const { parent, name } = place(path);
    add(parent.children, name, { ...entry, name });
  }

  async function build(draft: Draft, name: string): Promise<Entry> {
    const { base } = draft;
    const made = await encode(draft, name);
    if (!base) return made;
    return draft.children.size === 0 ? base : layOver(store, base, made, { signal, putNodes });
  }

  async function encode({ children }: Draft, name: string): Promise<DirectoryEntry> {
    const list: Entry[] = [];
    for (const [inner, child] of children) list.push('children' in child ? await build(child, inner) : child);
    const { nodes, link, size, files } = encodeDirectory(sortByName(list));
    await putNodes(nodes);
    return { kind: 'directory', name, link, size, files };
  }

  /** To the store itself, where they can be read at once. */
  async function putNodes(nodes: readonly EncodedNode[]): Promise<void> {
    for (const node of nodes) await store.put(node, { signal });
  }

  return {
    async file(path, content, { executable }) {
      check();
      // Before its content is read: a name that cannot be costs nothing.
      const name = namesOf(path).pop() as string;
      const { link, size } = await contents.write(content);
      // It is kept already, and need not be in the store yet.
      kept.add(link);
      const entry: FileEntry = { kind: executable ? 'executable' : 'file', name, link, size };
      set(path, entry);
      return entry;
    },
    symlink(path, target) {
      const problem = targetProblem(target);
      if (problem) throw new LazytreeError('CORRUPT', `${quoted(path)} is a symlink with ${problem}`);
      set(path, { kind: 'symlink', name: '', target });
    },
    directory(path) {
      check();
      namesOf(path).reduce(enter, root);
    },
    put(path, entry) {
      if ('link' in entry) keep(entry.link);
      else if (entry.kind === 'origin' && entry.plus) keep(entry.plus);
      set(path, entry);
    },
    reuse(path, entry) {
      check();
      if (linkCodec(entry.link) !== RAW || !store.holds(linkDigest(entry.link))) return false;
      kept.add(entry.link);
      set(path, entry);
      return true;
    },
    get(path) {
      let found: Draft | Entry | undefined = root;
      for (const name of namesOf(path))
        found = found && 'children' in found ? found.children.get(name) : undefined;
      if (!found || !('children' in found)) return found;
      return found.children.size === 0 ? found.base : undefined;
    },
    async finish() {
      check();
      try {
        await contents.drain();
        const made = await encode(root, '');
        await sink.flush();
        return made;
      } finally {
        release();
      }
    },
    abort: release,
  };
}

/** @throws LazytreeError CORRUPT */
function namesOf(path: string): string[] {
  const names = path.split('/');
  if (names.length > MAX_TREE_DEPTH) throw new LazytreeError('CORRUPT', `${quoted(path)} is too deep`);
  for (const name of names) {
    const problem = nameProblem(name) ?? lengthProblem(name);
    if (problem) throw new LazytreeError('CORRUPT', `${quoted(path)} has ${problem} in it`);
  }
  return names;
}

function lengthProblem(name: string): string | undefined {
  return nameBytes(name) > MAX_NAME_BYTES ? `a name of more than ${MAX_NAME_BYTES} bytes` : undefined;
}

function targetProblem(target: string): string | undefined {
  if (target === '' || target.includes('\0')) return 'an impossible target';
  return nameBytes(target) > MAX_TARGET_BYTES ? `a target of more than ${MAX_TARGET_BYTES} bytes` : undefined;
}

/** Names come from archives of others: what is shown of them is short, and has nothing in it that a terminal obeys. */
function quoted(path: string): string {
  const shown = path.length > 200 ? `${path.slice(0, 200)}…` : path;
  return JSON.stringify(shown);
}
