import { LazytreeError } from '../errors.js';
import type { Link } from './link.js';

/** Permission bits and modification time, kept only by `--preserve`. */
export interface Metadata {
  /** Permission bits and the sticky bit (07777 less set-user-ID and set-group-ID). */
  mode: number;
  /** Whole seconds since the epoch, possibly negative. */
  seconds: number;
  /** 0 to 999,999,999. */
  nanoseconds: number;
}

interface Named {
  name: string;
  metadata?: Metadata;
}

export interface FileEntry extends Named {
  kind: 'file' | 'executable';
  /** A raw block, or a file node for content of more than one chunk. */
  link: Link;
  /** Content bytes. */
  size: number;
}

export interface SymlinkEntry extends Named {
  kind: 'symlink';
  target: string;
}

export interface DirectoryEntry extends Named {
  kind: 'directory';
  link: Link;
  /** Content bytes of all files below. */
  size: number;
  /** Files below, at any depth, symlinks not counted. */
  files: number;
}

/** A file or directory that an origin driver can produce; see DESIGN "origin entry". */
export interface OriginEntry extends Named {
  kind: 'origin';
  of: 'file' | 'directory';
  driver: string;
  reference: string;
  /** What the driver checks the result against, such as `sha512-…` or a commit id. */
  integrity?: string;
  /** A directory whose entries are laid over the resolved one. */
  plus?: Link;
}

export type Entry = FileEntry | SymlinkEntry | DirectoryEntry | OriginEntry;

/** Content bytes and number of files under a directory. */
export interface Totals {
  size: number;
  files: number;
}

export const MODE_MASK = 0o1777;

export function isFile(entry: Entry): entry is FileEntry {
  return entry.kind === 'file' || entry.kind === 'executable';
}

/** Adds one entry to the totals of its directory, which may become more than a number can be exactly. */
export function countEntry(totals: Totals, entry: Entry): void {
  if (isFile(entry)) {
    totals.size += entry.size;
    totals.files += 1;
  } else if (entry.kind === 'directory') {
    totals.size += entry.size;
    totals.files += entry.files;
  }
}

/**
 * Adds one entry to the totals of its directory.
 *
 * @throws LazytreeError UNSUPPORTED
 */
export function addTotals(totals: Totals, entry: Entry): void {
  countEntry(totals, entry);
  if (!Number.isSafeInteger(totals.size)) {
    throw new LazytreeError('UNSUPPORTED', 'a directory of more than 2^53 bytes');
  }
}
