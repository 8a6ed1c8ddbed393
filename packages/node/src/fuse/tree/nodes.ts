import type { Entry, Link, Metadata } from '@lazytree/core';
import { ROOT_NODE } from '../protocol/kernel.js';
import { MissingBlocks } from './blocks.js';
import type { DecodedParts } from './decoded-parts.js';
import { type Listing, type Part, partAt, positionOf } from './listing.js';
import { DIRECTORY, type NodePosition, type NodeTable, type Place, type Share } from './node-table.js';

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
  /** 0 for one that the kernel does not know (any more). */
  id: number;
  /** What the table of nodes calls it by; never another directory's. */
  serial: number;
  parent: Directory | undefined;
  /** In the parent. */
  position: number;
  use: RootUse;
  /** Relative to the root; empty for the root. */
  path: string;
  /** Undefined for the directory of all roots, and for an origin that is not resolved. */
  link: Link | undefined;
  metadata: Metadata | undefined;
  /** Whether the tree has an origin here. Its inode number is the same before it is resolved and after. */
  origin: boolean;
  content: Content | undefined;
  /** Ids of the directories in it, by position; absent while there are none, as in most. */
  children: Map<number, number> | undefined;
}

/**
 * The content of a directory, shared by all roots that have the same directory at the same path: their files are
 * the same inodes, and so have one page cache.
 */
export interface Content {
  /** Absent until it is wanted where another process has opened the directory. */
  listing: Listing | undefined;
  /** Ids of its files by position, as long as there is no listing. */
  unlisted: Map<number, number> | undefined;
  /** The directory that was the first to be opened. */
  opener: Directory;
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

/** A content whose listing is there. */
export type OpenContent = Content & { listing: Listing };

/** Where an id stands. */
export interface FileAt {
  content: Content;
  position: number;
}

/** All that is known of the ids. */
export interface NodeState {
  /** By id. */
  owners: (Directory | Content | undefined)[];
  /** Ids that may be used again. */
  free: number[];
  /** By path: what a root has there, from which one comes to what others have. */
  contents: Map<string, Content>;
  /** Where else than at its owner an id stands. */
  sharers: Map<number, FileAt[]>;
}

/**
 * What the kernel's node ids stand for, and how often it has looked each up (libfuse's `nlookup`). An id that the
 * kernel has forgotten is used again only with another generation.
 */
export interface Nodes {
  directory(id: number): Directory | undefined;
  /** The content that a file or symlink is in, and its position there. */
  file(id: number): FileAt | undefined;
  /** Where else the same file is. */
  elsewhere(id: number): readonly FileAt[];
  generation(id: number): number;
  addDirectory(of: Omit<Directory, 'id' | 'serial' | 'content' | 'children'>): Directory;
  /** Says what an origin stands for. */
  resolve(directory: Directory, link: Link): void;
  /** Directories that are in no other. */
  tops(): Directory[];
  /** The content of a directory, opened if it is not yet. @throws MissingBlocks, InvalidNodeError */
  open(directory: Directory): OpenContent;
  /** The same content with its listing. @throws MissingBlocks, InvalidNodeError */
  list(content: Content): OpenContent;
  fileId(content: Content, part: Part, index: number): number;
  /** Says that files of `part`, which has just been loaded, may be those of another content at the same path. */
  shareFiles(content: Content, part: Part): void;
  remember(id: number, lookups?: number): void;
  forget(id: number, lookups: number): void;
  /** Ids in use. */
  count(): number;
}

export interface NodesOptions {
  parts: DecodedParts;
  table: NodeTable;
  /** What the table says; nothing for a new one. */
  state: NodeState;
  openListing(link: Link): Listing;
  /** Whether nobody but the kernel has an id in hand. */
  mayReuse(): boolean;
  onReuse(id: number): void;
}

export function createNodes(options: NodesOptions): Nodes {
  const { parts, table, state, openListing, mayReuse, onReuse } = options;
  const { owners, contents, sharers } = state;
  let { free } = state;
  /** Not to be used again yet: content is pushed by id, and the kernel would take it for the new file's. */
  let resting: number[] = [];

  function allocate(owner: Directory | Content, at: NodePosition): number {
    if (free.length === 0 && resting.length > 0 && mayReuse()) [free, resting] = [resting, free];
    const id = free.pop() ?? owners.length;
    onReuse(id);
    owners[id] = owner;
    table.assign(id, at);
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
    directory.id = 0;
    // Listed without having been looked up: nobody else will say that they are not wanted.
    for (const child of directory.children?.values() ?? []) {
      if (table.lookups(child) === 0) forgetDirectory(owners[child] as Directory);
    }
    if (!content) return;
    content.users -= 1;
    dropIfUnused(content);
  }

  function dropIfUnused(content: Content): void {
    if (content.users > 0 || content.known > 0) return;
    const { path, listing, unlisted, other } = content;
    const first = contents.get(path);
    if (first !== content) {
      for (let at = first; at; at = at.other) if (at.other === content) at.other = other;
    } else if (other) contents.set(path, other);
    else contents.delete(path);
    for (const [position, id] of unlisted ?? []) giveUp(id, content, position);
    content.unlisted = undefined;
    for (const part of listing?.parts ?? []) {
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
    table.move(id, { place: heir.content.opener.serial, position: heir.position });
    if (rest.length > 0) sharers.set(id, rest);
    else sharers.delete(id);
  }

  function listingOf(content: Content): OpenContent {
    if (!content.listing) {
      const listing = openListing(content.opener.link as Link);
      for (const [position, id] of content.unlisted ?? []) {
        const part = partAt(listing, position);
        part.ids[position - part.start] = id;
      }
      content.listing = listing;
      content.unlisted = undefined;
    }
    return content as OpenContent;
  }

  /** What of `content` can be compared without anything being fetched. */
  function loadedOf(content: Content): OpenContent | undefined {
    if (content.listing) return content as OpenContent;
    try {
      const opened = listingOf(content);
      for (const part of opened.listing.parts) {
        // Ids are another process's: it had looked at them.
        if (part.loaded || part.ids.every((id) => id === 0)) continue;
        parts.entries(part);
        part.loaded = true;
      }
      return opened;
    } catch (error) {
      if (error instanceof MissingBlocks) return undefined;
      throw error;
    }
  }

  /** The journal without what nobody needs any more. */
  function tidy(): void {
    const places = new Map<number, Directory>();
    const keep = (from: Directory) => {
      for (let at: Directory | undefined = from; at && !places.has(at.serial); at = at.parent) {
        places.set(at.serial, at);
      }
    };
    for (const owner of owners) if (owner) keep('opener' in owner ? owner.opener : owner);
    for (const first of contents.values()) {
      for (let at: Content | undefined = first; at; at = at.other) keep(at.opener);
    }
    const inOrder = [...places.values()].sort((a, b) => a.serial - b.serial);
    const shares = [...sharers].flatMap(([id, others]) => others.map((other) => shareOf(id, other)));
    table.rewrite(inOrder.map(placeOf), shares);
  }

  function shareOf(id: number, { content, position }: FileAt): Share {
    return { id, generation: table.generation(id), place: content.opener.serial, position };
  }

  return {
    directory(id) {
      const owner = owners[id];
      return owner && table.position(id) === DIRECTORY ? (owner as Directory) : undefined;
    },
    file(id) {
      const owner = owners[id];
      const position = owner && table.position(id);
      return position === undefined || position === DIRECTORY
        ? undefined
        : { content: owner as Content, position };
    },
    elsewhere: (id) => sharers.get(id) ?? [],
    generation: table.generation,
    addDirectory(of) {
      if (table.isLong()) tidy();
      const directory: Directory = {
        ...of,
        id: 0,
        serial: table.newSerial(),
        content: undefined,
        children: undefined,
      };
      table.note(placeOf(directory));
      directory.id = allocate(directory, { place: directory.serial, position: DIRECTORY });
      if (of.parent) {
        of.parent.children ??= new Map();
        of.parent.children.set(of.position, directory.id);
      }
      return directory;
    },
    resolve(directory, link) {
      directory.link = link;
      table.note(placeOf(directory));
    },
    open(directory) {
      if (directory.content) return listingOf(directory.content);
      const link = directory.link as Link;
      const { path, use } = directory;
      const first = contents.get(path);
      let content = first;
      while (content && content.opener.link !== link) content = content.other;
      if (!content) {
        const listing = openListing(link);
        content = {
          listing,
          unlisted: undefined,
          opener: directory,
          path,
          use,
          users: 0,
          place: directory,
          known: 0,
          pushed: 0,
          other: first,
        };
        contents.set(path, content);
      }
      const opened = listingOf(content);
      content.users += 1;
      content.place = directory;
      directory.content = content;
      return opened;
    },
    list: listingOf,
    tops: () =>
      owners.filter(
        (owner): owner is Directory => owner !== undefined && 'serial' in owner && owner.parent === undefined,
      ),
    fileId(content, part, index) {
      part.ids[index] ||= allocate(content, {
        place: content.opener.serial,
        position: part.start + index,
      });
      return part.ids[index];
    },
    shareFiles(content, part) {
      for (let at = contents.get(content.path); at; at = at.other) {
        const other = at === content ? undefined : loadedOf(at);
        if (!other) continue;
        forEqualFiles({ other, part, parts }, (otherPart, otherIndex, index) => {
          if (part.ids[index] !== 0) return;
          const id = this.fileId(other, otherPart, otherIndex);
          part.ids[index] = id;
          const place = { content, position: part.start + index };
          const places = sharers.get(id) ?? [];
          places.push(place);
          sharers.set(id, places);
          table.noteShare(shareOf(id, place));
        });
      }
    },
    remember(id, count = 1) {
      const before = table.lookups(id);
      if (before === 0 && table.position(id) !== DIRECTORY) (owners[id] as Content).known += 1;
      table.setLookups(id, before + count);
    },
    forget(id, count) {
      const owner = owners[id];
      if (id === ROOT_NODE || !owner) return;
      const left = Math.max(0, table.lookups(id) - count);
      table.setLookups(id, left);
      if (left > 0) return;
      if (table.position(id) === DIRECTORY) {
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

function placeOf({ serial, parent, position, path, link, metadata, origin }: Directory): Place {
  const name = parent && parent.path !== '' ? path.slice(parent.path.length + 1) : path;
  return { serial, parent: parent?.serial ?? 0, position, name, link, metadata, origin };
}

interface Compared {
  other: OpenContent;
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
