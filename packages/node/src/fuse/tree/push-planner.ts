import { type Entry, isFile, type Link, linkCodec, RAW } from '@lazytree/core';
import type { DecodedParts } from './decoded-parts.js';
import { type Part, partAt } from './listing.js';
import type { Directory, Nodes } from './nodes.js';

/** Small files that are likely to be read next, the most likely first. */
export interface PushList {
  nodes: Uint32Array;
  sizes: Uint32Array;
  links: Link[];
}

/** Nodes whose content the kernel has got, by a read or by a push; shared between the threads that do either. */
export interface Given {
  has(node: number): boolean;
  add(node: number): void;
  delete(node: number): void;
  /** A list is handed to whoever pushes it. */
  begin(): void;
  /** It has been pushed. */
  end(): void;
  /** Whether no list is under way, and so no node of one can be confused with what is given its id next. */
  idle(): boolean;
}

const FILE_BYTES = 128 << 10;
/** Of one list. */
const LIST_BYTES = 8 << 20;
const LIST_FILES = 4096;
const MOST_DIRECTORIES = 128;
/** A directory whose files are asked for although they were pushed is pushed again after this: they were evicted. */
const AGAIN_MS = 5000;

export interface PushPlannerOptions {
  parts: DecodedParts;
  given: Given;
  /** The directory that a walk comes to after another. */
  after(directory: Directory): Directory | undefined;
}

/**
 * Decides which files to push after one has been read: those in its directory; and when the directories are gone
 * through one after another, those of the next ones, twice as many each time, as a kernel reads a file ahead. One
 * file in the middle of such a list is left out: that it is read says that it is time for the next list.
 */
export function createPushPlanner({ parts, given, after }: PushPlannerOptions) {
  /** The directory after the last one that was planned. */
  let next: Directory | undefined;
  let directories = 1;
  let marker = 0;

  function collect(from: Directory, position = 0): PushList | undefined {
    const list: { node: number; size: number; link: Link }[] = [];
    const starts: number[] = [];
    let bytes = 0;
    let at: Directory | undefined = from;
    const now = Date.now();
    for (let count = 0; at && count < directories && bytes < LIST_BYTES; count++) {
      const { content } = at;
      if (content?.listing && now - content.pushed > AGAIN_MS) {
        const again = content.pushed > 0;
        content.pushed = now;
        starts.push(list.length);
        // Of a large directory, what comes after the file that was read.
        const { parts: all } = content.listing;
        const first = count === 0 ? Math.max(0, all.indexOf(partAt(content.listing, position))) : 0;
        for (let i = first; i < all.length && list.length < LIST_FILES && bytes < LIST_BYTES; i++) {
          bytes += addFiles(list, all[i], { again, room: LIST_BYTES - bytes });
        }
      }
      at = after(at);
    }
    next = at;
    if (list.length === 0) return undefined;
    const middle = starts.length > 2 ? starts[starts.length >> 1] : -1;
    if (middle >= 0 && middle < list.length) {
      marker = list[middle].node;
      list.splice(middle, 1);
    }
    return {
      nodes: Uint32Array.from(list, ({ node }) => node),
      sizes: Uint32Array.from(list, ({ size }) => size),
      links: list.map(({ link }) => link),
    };
  }

  /** Returns the bytes of the files that were added. */
  function addFiles(
    list: { node: number; size: number; link: Link }[],
    part: Part,
    { again, room }: { again: boolean; room: number },
  ): number {
    let bytes = 0;
    // None of what is not here: it will be pushed when somebody has asked for it.
    for (const [index, entry] of (parts.known(part) ?? []).entries()) {
      const node = part.ids[index];
      if (node === 0 || !isSmall(entry) || list.length >= LIST_FILES || bytes + entry.size > room) continue;
      if (again) given.delete(node);
      else if (given.has(node)) continue;
      bytes += entry.size;
      list.push({ node, size: entry.size, link: entry.link });
    }
    return bytes;
  }

  return {
    /** What to push now that a file has been read, if anything. */
    afterRead(
      node: number,
      { content, position }: NonNullable<ReturnType<Nodes['file']>>,
    ): PushList | undefined {
      given.add(node);
      const { place } = content;
      if (node === marker) {
        marker = 0;
        directories = Math.min(directories * 2, MOST_DIRECTORIES);
        return next && collect(next);
      }
      if (Date.now() - content.pushed <= AGAIN_MS) return undefined;
      directories = place === next ? Math.min(directories * 2, MOST_DIRECTORIES) : 1;
      return collect(place, position);
    },
  };
}

function isSmall(entry: Entry): entry is Extract<Entry, { size: number; link: Link }> {
  return isFile(entry) && entry.size > 0 && entry.size <= FILE_BYTES && linkCodec(entry.link) === RAW;
}
