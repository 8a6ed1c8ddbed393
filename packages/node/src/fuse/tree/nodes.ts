import type { Entry, Link, Metadata } from '@lazytree/core';
import { ROOT_NODE } from '../protocol/kernel.js';
import type { DecodedParts } from './decoded-parts.js';
import { type Listing, type Part, partAt, positionOf } from './listing.js';

/** What is counted for each root that is served. */
export interface RootUse {
  root: Link;
  requests: number;
  reads: number;
  /** Bytes of content that the kernel asked for and got. */
  bytes: number;
  /** Requests that had to wait for content from elsewhere. */
  fetched: number;
  /** Files put into the page cache before they were asked for. */
  pushed: number;
  /** Files that were read for the first time since the last report, in that order. */
  firstReads: Link[];
}

/** A directory at one place under one root. The kernel allows a directory one name, so these are never shared. */
export interface Directory {
  id: number;
  parent: Directory | undefined;
  /** In the parent. */
  position: number;
  use: RootUse;
  /** Relative to the root; empty for the root. */
  path: string;
  /** Undefined for the directory of all roots, and for an origin that is not resolved. */
  link: Link | undefined;
  metadata: Metadata | undefined;
  content: Content | undefined;
  /** Ids of the directories in it, by position; absent while there are none, as in most. */
  children: Map<number, number> | undefined;
}

/**
 * The content of a directory, shared by all roots that have the same directory at the same path: their files are
 * the same inodes, and so have one page cache.
 */
export interface Content {
  listing: Listing;
  path: string;
  use: RootUse;
  /** Directories that have it. */
  users: number;
  /** One of them, the last that was opened. */
  place: Directory;
  /** Files of it that the kernel knows. */
  known: number;
  /** When its small files were last pushed, in ms. */
  pushed: number;
  /** Another content at the same path. */
  other: Content | undefined;
}

/**
 * What the kernel's node ids stand for, and how often it has looked each up (libfuse's `nlookup`). An id that the
 * kernel has forgotten is used again only with another generation.
 */
export interface Nodes {
  directory(id: number): Directory | undefined;
  /** The content that a file or symlink is in, and its position there. */
  file(id: number): { content: Content; position: number } | undefined;
  generation(id: number): number;
  addDirectory(of: Omit<Directory, 'id' | 'content' | 'children'>): Directory;
  /** The content of a directory that has just been opened. */
  setContent(directory: Directory, open: () => Listing): Content;
  fileId(content: Content, part: Part, index: number): number;
  /** Says that files of `part`, which has just been loaded, may be those of another content at the same path. */
  shareFiles(content: Content, part: Part): void;
  remember(id: number, lookups?: number): void;
  forget(id: number, lookups: number): void;
  /** Ids in use. */
  count(): number;
}

const DIRECTORY = -1;

export interface NodesOptions {
  parts: DecodedParts;
  /** Whether nobody but the kernel has an id in hand. */
  mayReuse(): boolean;
  onReuse(id: number): void;
}

export function createNodes({ parts, mayReuse, onReuse }: NodesOptions): Nodes {
  const owners: (Directory | Content | undefined)[] = [undefined];
  const positions: number[] = [0];
  const lookups: number[] = [0];
  const generations: number[] = [0];
  let free: number[] = [];
  /** Not to be used again yet: content is pushed by id, and the kernel would take it for the new file's. */
  let resting: number[] = [];
  /** By path: what a root has there, from which one comes to what others have. */
  const contents = new Map<string, Content>();
  /** Where else than at its owner an id stands. */
  const sharers = new Map<number, { content: Content; position: number }[]>();

  function allocate(owner: Directory | Content, position: number): number {
    if (free.length === 0 && resting.length > 0 && mayReuse()) [free, resting] = [resting, free];
    const id = free.pop() ?? owners.length;
    onReuse(id);
    owners[id] = owner;
    positions[id] = position;
    lookups[id] = 0;
    generations[id] = (generations[id] ?? -1) + 1;
    return id;
  }

  function release(id: number): void {
    owners[id] = undefined;
    resting.push(id);
  }

  function forgetDirectory(directory: Directory): void {
    const { id, parent, position, content } = directory;
    if (parent?.children?.get(position) === id) parent.children.delete(position);
    release(id);
    // Listed without having been looked up: nobody else will say that they are not wanted.
    for (const child of directory.children?.values() ?? []) {
      if (lookups[child] === 0) forgetDirectory(owners[child] as Directory);
    }
    if (!content) return;
    content.users -= 1;
    dropIfUnused(content);
  }

  function dropIfUnused(content: Content): void {
    if (content.users > 0 || content.known > 0) return;
    const { path, listing, other } = content;
    const first = contents.get(path);
    if (first !== content) {
      for (let at = first; at; at = at.other) if (at.other === content) at.other = other;
    } else if (other) contents.set(path, other);
    else contents.delete(path);
    for (const part of listing.parts) {
      part.ids.forEach((id, index) => {
        if (id !== 0) giveUp(id, content, part.start + index);
      });
      // Whoever still has the content must not take them for its files.
      part.ids.fill(0);
    }
  }

  /** An id that other contents have as well becomes theirs. */
  function giveUp(id: number, content: Content, position: number): void {
    const others = sharers.get(id) ?? [];
    if (owners[id] !== content) {
      const rest = others.filter((other) => other.content !== content || other.position !== position);
      if (rest.length > 0) sharers.set(id, rest);
      else sharers.delete(id);
      return;
    }
    const [heir, ...rest] = others;
    if (!heir) {
      release(id);
      return;
    }
    owners[id] = heir.content;
    positions[id] = heir.position;
    if (rest.length > 0) sharers.set(id, rest);
    else sharers.delete(id);
  }

  return {
    directory(id) {
      const owner = owners[id];
      return owner && positions[id] === DIRECTORY ? (owner as Directory) : undefined;
    },
    file(id) {
      const owner = owners[id];
      const position = positions[id];
      return owner && position !== DIRECTORY ? { content: owner as Content, position } : undefined;
    },
    generation: (id) => generations[id],
    addDirectory(of) {
      const directory: Directory = { ...of, id: 0, content: undefined, children: undefined };
      directory.id = allocate(directory, DIRECTORY);
      if (of.parent) {
        of.parent.children ??= new Map();
        of.parent.children.set(of.position, directory.id);
      }
      return directory;
    },
    setContent(directory, open) {
      const link = directory.link as Link;
      const { path, use } = directory;
      const first = contents.get(path);
      let content = first;
      while (content && content.listing.link !== link) content = content.other;
      if (!content) {
        const listing = open();
        content = { listing, path, use, users: 0, place: directory, known: 0, pushed: 0, other: first };
        contents.set(path, content);
      }
      content.users += 1;
      content.place = directory;
      directory.content = content;
      return content;
    },
    fileId(content, part, index) {
      part.ids[index] ||= allocate(content, part.start + index);
      return part.ids[index];
    },
    shareFiles(content, part) {
      for (let at = contents.get(content.path); at; at = at.other) {
        const other = at;
        if (other === content) continue;
        forEqualFiles({ other, part, parts }, (otherPart, otherIndex, index) => {
          if (part.ids[index] !== 0) return;
          const id = this.fileId(other, otherPart, otherIndex);
          part.ids[index] = id;
          const places = sharers.get(id) ?? [];
          places.push({ content, position: part.start + index });
          sharers.set(id, places);
        });
      }
    },
    remember(id, count = 1) {
      if (lookups[id] === 0 && positions[id] !== DIRECTORY) (owners[id] as Content).known += 1;
      lookups[id] += count;
    },
    forget(id, count) {
      const owner = owners[id];
      if (id === ROOT_NODE || !owner) return;
      lookups[id] = Math.max(0, lookups[id] - count);
      if (lookups[id] > 0) return;
      if (positions[id] === DIRECTORY) {
        forgetDirectory(owner as Directory);
        return;
      }
      const content = owner as Content;
      content.known -= 1;
      dropIfUnused(content);
    },
    count: () => owners.length - 1 - free.length - resting.length,
  };
}

interface Compared {
  other: Content;
  part: Part;
  parts: DecodedParts;
}

/** Calls `found` for each file of `part` that is also in what has been loaded of `other`. */
function forEqualFiles(
  { other, part, parts }: Compared,
  found: (otherPart: Part, otherIndex: number, index: number) => void,
): void {
  const loaded = (of: Part) => (of.loaded ? parts.entries(of) : []);
  parts.entries(part).forEach((entry, index) => {
    if (entry.kind === 'directory' || entry.kind === 'origin') return;
    const position = positionOf(other.listing, entry.name, loaded);
    if (position < 0) return;
    const otherPart = partAt(other.listing, position);
    const otherIndex = position - otherPart.start;
    if (isSameFile(parts.entries(otherPart)[otherIndex], entry)) found(otherPart, otherIndex, index);
  });
}

function isSameFile(a: Entry, b: Entry): boolean {
  if (a.kind !== b.kind || !sameMetadata(a.metadata, b.metadata)) return false;
  if (a.kind === 'symlink' && b.kind === 'symlink') return a.target === b.target;
  return 'link' in a && 'link' in b && a.link === b.link;
}

function sameMetadata(a: Metadata | undefined, b: Metadata | undefined): boolean {
  return a?.mode === b?.mode && a?.seconds === b?.seconds && a?.nanoseconds === b?.nanoseconds;
}
