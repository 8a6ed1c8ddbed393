import { LazytreeError } from '../errors.js';
import { type DirectoryEntry, type Entry, isFile } from '../format/entry.js';
import type { Link } from '../format/link.js';
import { nameFromBytes } from '../format/name.js';
import type { IgnoreRules } from '../import/ignore.js';
import { createIgnoreRules } from '../import/ignore.js';
import { IGNORE_FILE } from '../import/ignore-file.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { checkDirectory, findEntry, listDirectory, readNode } from '../tree/directory.js';
import { readFile } from '../tree/file.js';
import { type PlainEntry, resolveEntry } from '../tree/resolve-entry.js';

/** A directory of the tree that an upper layer lies over. Its nodes are read when they are asked for. */
export interface BaseDirectory {
  readonly entry: DirectoryEntry;
  /** In the base, which is not where it is seen if it was renamed. */
  readonly path: string;
  /** Those that were in force for it in the base. */
  readonly rules: IgnoreRules;
  readonly isEmpty: boolean;
  find(name: string): Promise<Entry | undefined>;
  list(): Promise<readonly Entry[]>;
  /** The directory of that name, if it is one. */
  enter(name: string): Promise<BaseDirectory | undefined>;
}

export interface BaseTreeOptions extends StoreOptions {
  ignoreFiles: boolean;
}

export interface BaseTree {
  root(): Promise<BaseDirectory>;
  /** What the ignore file among a directory's entries says, if there is one. */
  rulesText(entry: Entry | undefined): Promise<string | false>;
  listBelow(entry: DirectoryEntry): Promise<Entry[]>;
  /** What an entry is, once its origin is resolved. @throws LazytreeError UNSUPPORTED where nobody knows of origins */
  resolve(entry: Entry, path: string): Promise<PlainEntry>;
}

export function openBaseTree(store: BlockSource, base: Link, options: BaseTreeOptions): BaseTree {
  return { root, rulesText, listBelow, resolve };

  async function resolve(entry: Entry, path: string): Promise<PlainEntry> {
    if (entry.kind === 'origin' && !store.resolveOrigin) throw unresolved(path);
    return resolveEntry(store, entry, path, options);
  }

  async function root(): Promise<BaseDirectory> {
    const { size, files } = await readNode(store, base, options);
    const entry: DirectoryEntry = { kind: 'directory', name: '', link: base, size, files };
    return open(entry, '', createIgnoreRules(''));
  }

  async function open(entry: DirectoryEntry, path: string, above: IgnoreRules): Promise<BaseDirectory> {
    const node = await readNode(store, entry.link, options);
    checkDirectory(entry, node);
    const known = node.kind === 'leaf' ? new Map(node.entries.map((item) => [item.name, item])) : undefined;
    const find = async (name: string) =>
      known ? known.get(name) : findEntry(store, entry.link, name, options);
    const rules = above.enter(path, await rulesText(await find(IGNORE_FILE)));
    return {
      entry,
      path,
      rules,
      isEmpty: known?.size === 0,
      find,
      list: async () => (node.kind === 'leaf' ? node.entries : listDirectory(store, entry.link, options)),
      async enter(name) {
        const inner = await find(name);
        const below = path === '' ? name : `${path}/${name}`;
        const found =
          inner?.kind === 'origin' && inner.of === 'directory' ? await resolve(inner, below) : inner;
        return found?.kind === 'directory' ? open(found, below, rules) : undefined;
      },
    };
  }

  async function rulesText(entry: Entry | undefined): Promise<string | false> {
    if (!options.ignoreFiles || !entry || !isFile(entry)) return false;
    const chunks: Uint8Array[] = [];
    for await (const chunk of readFile(store, entry, options)) chunks.push(chunk);
    return nameFromBytes(Buffer.concat(chunks));
  }

  async function listBelow(entry: DirectoryEntry): Promise<Entry[]> {
    checkDirectory(entry, await readNode(store, entry.link, options));
    return listDirectory(store, entry.link, options);
  }
}

/** For a change below, or of, something of which nobody knows yet what it is. */
function unresolved(path: string): LazytreeError {
  return new LazytreeError('UNSUPPORTED', `'${path}' is changed, but its origin is not resolved`, {
    hint: 'run `lazytree resolve` on the tree that the workspace was made from',
  });
}
