import {
  type Entry,
  formatLink,
  isFile,
  LazytreeError,
  type Link,
  linkCodec,
  nameFromBytes,
  nameToBytes,
  parseLink,
  RAW,
} from '@lazytree/core';
import { ROOT_NODE } from '../protocol/kernel.js';
import type { Attributes } from '../protocol/reply.js';
import { type Blocks, MissingBlocks, MissingOrigin } from './blocks.js';
import { createContent } from './content.js';
import { createDecodedParts } from './decoded-parts.js';
import { inodeOf, pathHash } from './inode.js';
import { openListing, type Part, partAt, positionOf } from './listing.js';
import { type NodeTable, NodeTableError, openNodeTable } from './node-table.js';
import {
  type Content,
  createNodes,
  type Directory,
  type FileAt,
  type OpenContent,
  type RootUse,
} from './nodes.js';
import { createPushPlanner, type Given, type PushList } from './push-planner.js';
import { newNodes, restoreNodes } from './restore-nodes.js';
import { createWalkOrder } from './walk-order.js';

/** What is served: one tree, or the directory `/<CID>` of every root there is. */
export type View = { root: Link } | { allRoots: true };

const TYPE = { file: 0o100000, executable: 0o100000, symlink: 0o120000, directory: 0o040000 } as const;
const MODE = { file: 0o644, executable: 0o755, symlink: 0o777, directory: 0o755 } as const;
/** 1985-10-26T08:15:00Z, as in npm's packages: early enough to be no one's edit, late enough for zip. */
const EPOCH_SECONDS = 499162500;
const DOTS = [Buffer.from('.'), Buffer.from('..')];

export interface TreeFileSystem {
  use(node: number): RootUse;
  /** Path and root of a node, for people. */
  describe(node: number): { root: string; path: string };
  /** The node of a name, or 0. Its attributes are those of {@link attributes}. @throws MissingBlocks, MissingOrigin */
  lookup(parent: number, name: Uint8Array): number;
  attributes(node: number): Attributes;
  /** @throws LazytreeError when it is no symlink */
  target(node: number): Uint8Array;
  /** @throws MissingBlocks, MissingOrigin, InvalidNodeError */
  read(node: number, offset: number, size: number): Uint8Array[];
  /**
   * Goes through a directory from `offset` on, until `add` says false. Offsets are positions; 0 and 1 are the dots.
   *
   * @returns the nodes that were added, which the kernel knows from now on if `add` told it their attributes
   */
  list(
    node: number,
    offset: number,
    add: (name: Uint8Array, of: Attributes, next: number) => boolean,
  ): number[];
  /**
   * Opens the directory that a walk comes to after this one, unless it has to be fetched: to be called when a listing
   * has been answered, while whoever asked for it is busy with it.
   */
  openNext(node: number): void;
  /** A file's or a directory's CID, or undefined for what has none. */
  cid(node: number): string | undefined;
  /** What to put into the page cache now that a file has been read, if anything. */
  toPush(node: number): PushList | undefined;
  totals(): { bytes: number; files: number };
  remember(node: number, lookups?: number): void;
  forget(node: number, lookups: number): void;
  /** What has been counted, with the first reads since this was last called. */
  takeUses(): RootUse[];
  nodes(): number;
}

export interface TreeFileSystemOptions {
  view: View;
  given: Given;
  /** Where to keep what the kernel's node ids stand for. One that has any already is gone on with. */
  table?: NodeTable | undefined;
}

/** @throws NodeTableError when the table is of another view, or of none */
export function createTreeFileSystem(
  blocks: Blocks,
  { view, given, table = openNodeTable() }: TreeFileSystemOptions,
): TreeFileSystem {
  const parts = createDecodedParts(blocks.read);
  const uses = new Map<Link, RootUse>();
  const everything = newUse('' as Link);
  const allRoots = 'allRoots' in view;
  const isNew = table.end() === 1;
  const nodes = createNodes({
    parts,
    table,
    state: isNew ? newNodes() : restoreNodes(table, (root) => (root ? useOf(root) : everything)),
    openListing: (link) => openListing(link, blocks.read),
    mayReuse: given.idle,
    onReuse: given.delete,
  });
  const after = createWalkOrder({ nodes, parts });
  const planner = createPushPlanner({ parts, given, after });
  const content = createContent(blocks);
  const top = isNew ? addTop() : nodes.directory(ROOT_NODE);
  if (top?.id !== ROOT_NODE || top.link !== (allRoots ? undefined : view.root)) {
    throw new NodeTableError('it is of another tree');
  }
  /** Files that origins stand for, by position. Directories remember it themselves. */
  const originFiles = new WeakMap<Content, Map<number, Entry>>();
  const roots = new Map<Link, Directory>();
  for (const root of nodes.tops()) if (root.link && root !== top) roots.set(root.link, root);
  const scratch: Attributes = {
    node: 0,
    generation: 0,
    inode: 0,
    size: 0,
    mode: 0,
    links: 1,
    seconds: 0,
    nanoseconds: 0,
  };

  function addTop(): Directory {
    return nodes.addDirectory({
      parent: undefined,
      position: 0,
      use: allRoots ? everything : useOf(view.root),
      path: '',
      link: allRoots ? undefined : view.root,
      metadata: undefined,
      origin: false,
    });
  }

  function useOf(root: Link): RootUse {
    let use = uses.get(root);
    if (!use) {
      use = newUse(root);
      uses.set(root, use);
    }
    return use;
  }

  function directory(id: number): Directory {
    const found = nodes.directory(id);
    if (!found) throw new LazytreeError('FAILED', `the kernel asks for node ${id}, which is no directory`);
    return found;
  }

  function contentOf(of: Directory): OpenContent {
    if (of.link === undefined) throw missingOrigin(of);
    return nodes.open(of);
  }

  /** What the parent's listing has is what is to be resolved. */
  function missingOrigin(of: Directory): MissingOrigin {
    const { parent, position } = of;
    if (!parent) throw new LazytreeError('FAILED', 'the directory of all roots is not listed');
    const entry = listed(contentOf(parent), position);
    if (entry.kind !== 'origin') throw new LazytreeError('FAILED', `'${of.path}' is no origin`);
    return new MissingOrigin(entry, (found) => {
      if (found.kind === 'directory') nodes.resolve(of, found.link);
    });
  }

  function listed(of: OpenContent, position: number): Entry {
    const part = partAt(of.listing, position);
    return load(of, part)[position - part.start];
  }

  /** An entry as it is, or the file that its origin stands for. @throws MissingOrigin */
  function plainFile(entry: Entry, of: Content, position: number): Entry {
    if (entry.kind !== 'origin') return entry;
    const known = originFiles.get(of)?.get(position);
    if (known) return known;
    throw new MissingOrigin(entry, (found) => {
      const files = originFiles.get(of) ?? new Map<number, Entry>();
      originFiles.set(of, files);
      files.set(position, found);
    });
  }

  function load(of: OpenContent, part: Part): readonly Entry[] {
    const entries = parts.entries(part);
    if (!part.loaded) {
      nodes.shareFiles(of, part);
      part.loaded = true;
    }
    return entries;
  }

  function entryOf(id: number): { entry: Entry; of: OpenContent; position: number } {
    const file = nodes.file(id);
    if (!file) throw new LazytreeError('FAILED', `the kernel asks for node ${id}, which is no file`);
    try {
      return entryAt(file);
    } catch (error) {
      if (!(error instanceof MissingBlocks)) throw error;
      // What another root has there may be here. Both are the same file.
      for (const other of nodes.elsewhere(id)) {
        try {
          return entryAt(other);
        } catch (missing) {
          if (!(missing instanceof MissingBlocks)) throw missing;
        }
      }
      throw error;
    }
  }

  function entryAt({ content, position }: FileAt): { entry: Entry; of: OpenContent; position: number } {
    const of = nodes.list(content);
    return { entry: plainFile(listed(of, position), content, position), of, position };
  }

  /** The node of an entry, which becomes one if it is none yet. */
  function nodeOf(parent: Directory, of: OpenContent, part: Part, index: number): number {
    const entry = load(of, part)[index];
    const position = part.start + index;
    const isDirectory = entry.kind === 'directory' || (entry.kind === 'origin' && entry.of === 'directory');
    if (!isDirectory) return nodes.fileId(of, part, index);
    const known = parent.children?.get(position);
    if (known !== undefined) return known;
    const path = parent.path === '' ? entry.name : `${parent.path}/${entry.name}`;
    const link = entry.kind === 'directory' ? entry.link : undefined;
    const origin = entry.kind === 'origin';
    const { metadata } = entry;
    return nodes.addDirectory({ parent, position, use: parent.use, path, link, metadata, origin }).id;
  }

  function fill(
    id: number,
    entry: Pick<Entry, 'kind' | 'metadata'> & { of?: string },
    inode: number,
    size: number,
  ) {
    const kind = entry.kind === 'origin' ? (entry.of as 'file' | 'directory') : entry.kind;
    const { metadata } = entry;
    scratch.node = id;
    scratch.generation = nodes.generation(id);
    scratch.inode = inode;
    scratch.size = size;
    scratch.mode = TYPE[kind] | (metadata?.mode ?? MODE[kind]);
    scratch.links = kind === 'directory' ? 2 : 1;
    scratch.seconds = metadata?.seconds ?? EPOCH_SECONDS;
    scratch.nanoseconds = metadata?.nanoseconds ?? 0;
    return scratch;
  }

  function directoryAttributes(of: Directory): Attributes {
    const inode =
      of === top && allRoots ? ROOT_NODE : inodeOf(pathHash(of.path), of.origin ? '' : (of.link ?? ''));
    return fill(of.id, { kind: 'directory', metadata: of.metadata }, inode, 0);
  }

  function entryAttributes(id: number, entry: Entry, directoryHash: number): Attributes {
    const hash = pathHash(entry.name, directoryHash);
    switch (entry.kind) {
      case 'symlink':
        return fill(id, entry, inodeOf(hash, entry.target), nameToBytes(entry.target).length);
      case 'origin':
        return fill(id, entry, inodeOf(hash, entry.of === 'directory' ? '' : entry.reference), 0);
      case 'directory':
        return fill(id, entry, inodeOf(hash, entry.link), 0);
      default:
        return fill(id, entry, inodeOf(hash, entry.link), entry.size);
    }
  }

  function hashOf(of: { path: string }): number {
    return of.path === '' ? pathHash('') : pathHash('/', pathHash(of.path));
  }

  function lookupRoot(name: string): number {
    let root: Link;
    try {
      root = parseLink(name);
    } catch {
      // Nobody but us looks anything up here, and by CID.
      return 0;
    }
    const known = roots.get(root);
    if (known && nodes.directory(known.id) === known) return known.id;
    if (linkCodec(root) === RAW) return 0;
    const added = nodes.addDirectory({
      parent: undefined,
      position: 0,
      use: useOf(root),
      path: '',
      link: root,
      metadata: undefined,
      origin: false,
    });
    // Opened at once: a root that cannot be is an error of whoever mounts it, not of its first reader.
    try {
      nodes.open(added);
    } catch (error) {
      nodes.forget(added.id, 0);
      throw error;
    }
    roots.set(root, added);
    return added.id;
  }

  function noteRead(of: OpenContent, position: number, link: Link): void {
    const part = partAt(of.listing, position);
    part.read ??= new Uint8Array(part.count);
    if (part.read[position - part.start] === 1) return;
    part.read[position - part.start] = 1;
    of.use.firstReads.push(link);
  }

  return {
    use: (node) => nodes.directory(node)?.use ?? nodes.file(node)?.content.use ?? everything,
    describe(node) {
      const found = nodes.directory(node);
      if (found) return { root: nameOfRoot(found.use), path: found.path };
      const { entry, of } = entryOf(node);
      return { root: nameOfRoot(of.use), path: of.path === '' ? entry.name : `${of.path}/${entry.name}` };
    },
    lookup(parent, name) {
      const text = nameFromBytes(name);
      if (allRoots && parent === ROOT_NODE) return lookupRoot(text);
      const from = directory(parent);
      const of = contentOf(from);
      const position = positionOf(of.listing, text, (part) => load(of, part));
      if (position < 0) return 0;
      const part = partAt(of.listing, position);
      return nodeOf(from, of, part, position - part.start);
    },
    attributes(node) {
      const found = nodes.directory(node);
      if (found) return directoryAttributes(found);
      const { entry, of } = entryOf(node);
      return entryAttributes(node, entry, hashOf(of));
    },
    target(node) {
      const { entry } = entryOf(node);
      if (entry.kind !== 'symlink') throw new LazytreeError('FAILED', `node ${node} is no symlink`);
      return nameToBytes(entry.target);
    },
    read(node, offset, size) {
      const { entry, of, position } = entryOf(node);
      if (!isFile(entry)) throw new LazytreeError('FAILED', `node ${node} is no file`);
      const pieces = content.read(entry, offset, size);
      noteRead(of, position, entry.link);
      return pieces;
    },
    list(node, offset, add) {
      const from = directory(node);
      const added: number[] = [];
      if (from === top && allRoots) return added;
      const of = contentOf(from);
      for (let dot = offset; dot < 2; dot++) {
        const attributes = directoryAttributes(dot === 1 && from.parent ? from.parent : from);
        attributes.node = 0;
        if (!add(DOTS[dot], attributes, dot + 1)) return added;
      }
      const hash = hashOf(of);
      let position = Math.max(0, offset - 2);
      while (position < of.listing.count) {
        const part = partAt(of.listing, position);
        // What has been added stays added when the next part has to be fetched.
        if (added.length > 0 && !part.loaded) return added;
        const entries = load(of, part);
        for (let index = position - part.start; index < entries.length; index++, position++) {
          const entry = entries[index];
          const id = nodeOf(from, of, part, index);
          const attributes = entryAttributes(id, entry, hash);
          // Nobody knows yet how large it is: whoever wants to know looks it up.
          const isUnknown = entry.kind === 'origin' && entry.of === 'file';
          if (isUnknown) attributes.node = 0;
          const told = add(nameToBytes(entry.name), attributes, position + 3);
          if (!told) return added;
          if (!isUnknown) added.push(id);
        }
      }
      return added;
    },
    openNext(node) {
      const from = nodes.directory(node);
      try {
        const next = from && after(from);
        if (!next?.link || next.content) return;
        const of = nodes.open(next);
        if (of.listing.count > 0) load(of, of.listing.parts[0]);
      } catch {
        // Whoever asks for it is told why it cannot be opened.
      }
    },
    cid(node) {
      const found = nodes.directory(node);
      if (found) return found.link && formatLink(found.link);
      const { entry } = entryOf(node);
      return isFile(entry) ? formatLink(entry.link) : undefined;
    },
    toPush(node) {
      const file = nodes.file(node);
      return file && planner.afterRead(node, file);
    },
    totals() {
      const listing = top.content?.listing;
      return { bytes: listing?.size ?? 0, files: listing?.files ?? 0 };
    },
    remember: nodes.remember,
    forget: nodes.forget,
    takeUses() {
      const taken = [...uses.values()].map((use) => ({ ...use }));
      for (const use of uses.values()) use.firstReads = [];
      return taken;
    },
    nodes: nodes.count,
  };
}

function newUse(root: Link): RootUse {
  return { root, requests: 0, reads: 0, bytes: 0, fetched: 0, pushed: 0, firstReads: [] };
}

function nameOfRoot({ root }: RootUse): string {
  return root === '' ? '' : formatLink(root);
}
