import type { DirectoryEntry, FileEntry, TreeWriter } from '@lazytree/core';

/**
 * Sources of trees outside of the cluster. A driver knows one kind of them, and fetches a tree as a whole: a tarball, a
 * pack, never file by file. What calls it keeps the result, shares it with peers, and makes equal requests one.
 */
export interface OriginDriver {
  /** What its references begin with, before the colon. */
  readonly name: string;
  /** One line for people: the form of a reference, and what it stands for. */
  readonly summary: string;
  /**
   * Whether references stand for something on this machine, such as a file: they mean nothing to another one, and are
   * resolved at once when a tree is composed of them.
   */
  readonly local?: boolean;
  /**
   * Whether a reference stands for a file, where not all of them stand for directories; undefined when that is known only
   * by fetching it.
   */
  isFile?(reference: string): boolean | undefined;
  /**
   * The canonical form of what follows the colon: the same for texts that mean the same. Relative paths become absolute.
   *
   * @throws LazytreeError USAGE, which says what is wrong with it
   */
  parse(text: string, options: { directory: string }): string;
  /**
   * What a text may mean in which a path may follow after a single slash: a reference, and a path in what that stands for,
   * in the order in which they are tried. Default: all of it is a reference.
   */
  readings?(text: string, options: { directory: string }): readonly OriginReading[];
  /** Whether a reference can be pinned and fetched without a network. Default: those that are `local`. */
  needsNoNetwork?(reference: string): boolean;
  /**
   * Finds out what a reference stands for now, without fetching its content: a version for a range, a commit for a branch.
   * What is pinned is returned as it is, and needs no network.
   *
   * @throws LazytreeError NOT_FOUND, NETWORK, REFUSED (credentials are lacking, or do not do)
   */
  pin(reference: string, context: OriginContext): Promise<OriginPin>;
  /**
   * Fetches what is pinned. Nothing of it is visible before all of it has been checked.
   *
   * @throws LazytreeError as `pin`, and CORRUPT when it is not what its integrity says, or cannot be unpacked
   */
  fetch(pin: OriginPin, context: OriginContext): Promise<OriginContent>;
}

export interface OriginReading {
  /** As `parse` takes it. */
  reference: string;
  /** Empty for all of it. */
  path: string;
}

export interface OriginPin {
  /** Canonical; stands for the same content for ever where there is an integrity. */
  reference: string;
  /** What the content is checked against: a digest in the manner of SRI (`sha512-…`), or `git:` and a commit id. */
  integrity?: string;
}

export interface OriginContent {
  /** What the reference stands for; its name does not matter, and a file is taken for one that is not executable. */
  entry: DirectoryEntry | FileEntry;
  /** Of what was fetched, also where the pin had none. */
  integrity: string;
  /** What a person should know, a line each: install scripts that were not run, LFS pointers. */
  notes: string[];
}

/** What a driver may use. */
export interface OriginContext {
  signal: AbortSignal;
  /** Whether nobody waits for it at the moment: what somebody waits for goes first, wherever there is a queue. */
  isAhead(): boolean;
  /** Starts a tree in the store. */
  newTree(): TreeWriter;
  /** Takes the records of a tree that was made elsewhere, such as in a thread: see `createRecordedTree`. */
  addRecords(records: Buffer): Promise<void>;
  /** Imports a directory of this machine, as `lazytree import` does; what was left out is in the notes. */
  importDirectory(path: string): Promise<{ entry: DirectoryEntry; notes: string[] }>;
  /** A directory of the driver's own in the home, for what makes the next time cheaper. Whoever removes it loses time alone. */
  cacheDirectory(): Promise<string>;
  /** Of the caller: tokens, proxies. Never written down. */
  environment: Readonly<Record<string, string | undefined>>;
  /** Where configuration files such as `.npmrc` are looked for. */
  directory: string;
  onProgress(progress: OriginProgress): void;
  /** To be called with the bytes of every answer: `why` tells what a file has cost. */
  onReceived(bytes: number, requests: number): void;
}

export interface OriginProgress {
  /** What is being done, for people: `downloading react@18.2.0`. */
  doing: string;
  bytes: number;
  totalBytes?: number;
}
