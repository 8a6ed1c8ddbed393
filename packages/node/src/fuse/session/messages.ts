import type { MessagePort } from 'node:worker_threads';
import type { DirectoryEntry, FileEntry, Link, OriginEntry } from '@lazytree/core';
import type { RootUse } from '../tree/nodes.js';
import type { View } from '../tree/tree-file-system.js';

/** What a serving thread begins with. */
export interface ServeData {
  /** The FUSE device, opened for a connection of its own and mounted, or about to be. */
  device: number;
  /** The store, open in the thread that started this one. */
  storeDirectory: string;
  view: View;
  /**
   * Whether extended attributes are answered. A connection below overlays answers none, once for all: overlayfs
   * would ask for one with every file.
   */
  xattrs: boolean;
  owner: { uid: number; gid: number };
  /** Gets PushLists, if anything is to be pushed. */
  push: MessagePort | undefined;
  /** See givenIn. */
  given: SharedArrayBuffer;
  /**
   * A file in memory for the table of nodes, which outlives the process as long as somebody has it open. `goOn`: with a
   * connection that another process has served, and its table.
   */
  table?: { descriptor: number; goOn: boolean } | undefined;
}

/** What a request needs before it can be answered. */
export interface Missing {
  root: string;
  path: string;
  links: readonly Link[];
  /** Whether the blocks are here, and damaged. */
  corrupt: boolean;
  /** Instead of blocks: what this stands for is to be known. */
  origin?: OriginEntry;
}

/** From a serving thread. */
export type FromServer =
  | { type: 'serving'; thread: number; resends: boolean }
  | ({ type: 'missing'; request: number } & Missing)
  | { type: 'interrupted'; request: number }
  | { type: 'failure'; root: string; path: string; error: unknown }
  | { type: 'report'; id: number; report: ServerReport }
  /** Unmounted, or failed. */
  | { type: 'ended'; error?: unknown };

export interface ServerReport {
  uses: RootUse[];
  /** Nodes that the kernel or this server remembers. */
  nodes: number;
  /** By opcode. */
  requests: Record<number, number>;
}

/** To a serving thread, which sees it with the next request: see session.ts. */
export type ToServer =
  | {
      type: 'fetched';
      request: number;
      blocks: { link: Link; bytes: Uint8Array }[];
      found?: DirectoryEntry | FileEntry;
    }
  | { type: 'failed'; request: number }
  | { type: 'report'; id: number }
  /** To stop serving, whoever uses it still. */
  | { type: 'stop' };

/** What a pushing thread begins with. */
export interface PushData {
  device: number;
  storeDirectory: string;
  /** Brings PushLists. */
  lists: MessagePort;
  given: SharedArrayBuffer;
}
